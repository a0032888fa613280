from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from distkeras.config.source_sections import ArraysSource as ArraysSection
from distkeras.data.sources import arrays
from distkeras.data.sources.arrays import ArraySource, open_arrays
from distkeras.data.sources.base import Subset
from distkeras.errors import DataError

FEATURES = np.random.default_rng(0).random((20, 3))
LABELS = np.arange(20) % 4


def section(path: Path, **keys: str) -> ArraysSection:
    return ArraysSection.model_validate({"kind": "arrays", "path": path, **keys})


def write_npz(folder: Path, **named: np.ndarray) -> Path:
    np.savez(folder / "data.npz", **named)
    return folder / "data.npz"


def write_folder(folder: Path, **named: np.ndarray) -> Path:
    for name, array in named.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def read(source: ArraySource | Subset, ids: list[int]) -> list[np.ndarray]:
    """Reads as a pipeline does: inside a graph."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int64)])
    def run(wanted: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return source.read(wanted)

    return tf.nest.map_structure(lambda part: part.numpy(), run(tf.constant(ids, tf.int64)))


def refusal(make: Callable[[], object]) -> DataError:
    with pytest.raises(DataError) as caught:
        make()
    assert caught.value.exit_code == 3
    assert caught.value.place
    return caught.value


@pytest.mark.parametrize("write", [write_npz, write_folder])
def test_files_are_read_by_id(tmp_path: Path, write: Callable[..., Path]):
    path = write(tmp_path, x=FEATURES, y=LABELS)
    source = open_arrays(section(path))
    assert (source.num_examples, source.granularity, source.name) == (20, "batch", str(path))
    assert (source.feature_shape, source.feature_dtype) == ((3,), "float32")
    features, labels = read(source, [19, 0, 7, 7])
    assert features.dtype == np.float32
    assert labels.dtype == np.int64
    assert np.array_equal(features, FEATURES[[19, 0, 7, 7]].astype(np.float32))
    assert np.array_equal(labels, LABELS[[19, 0, 7, 7]])
    assert np.array_equal(source.labels(), LABELS)
    assert source.locate(7) == f"{path} record 7"


def test_arrays_may_have_other_names(tmp_path: Path):
    path = write_npz(tmp_path, pictures=FEATURES, kinds=LABELS)
    source = open_arrays(section(path, features="pictures", label="kinds"))
    assert np.array_equal(source.labels(), LABELS)


def test_a_folder_is_mapped_and_not_copied(tmp_path: Path):
    source = open_arrays(section(write_folder(tmp_path, x=FEATURES, y=LABELS)))

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int64)])
    def run(ids: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return source.read(ids)

    graph = run.get_concrete_function()
    assert graph.captured_inputs == []
    assert [shape.as_list() for shape in graph.output_shapes] == [[None, 3], [None]]


def test_arrays_in_memory_are_captured_and_not_embedded_in_the_graph():
    source = ArraySource(np.zeros((1000, 100)), np.zeros(1000))

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int64)])
    def run(ids: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return source.read(ids)

    graph = run.get_concrete_function()
    assert len(graph.captured_inputs) == 2
    assert graph.graph.as_graph_def().ByteSize() < 10_000
    assert [shape.as_list() for shape in graph.output_shapes] == [[None, 100], [None]]


def test_large_arrays_in_memory_are_read_without_a_second_copy(monkeypatch: pytest.MonkeyPatch):
    small = ArraySource(FEATURES, LABELS)
    monkeypatch.setattr(arrays, "MAX_TENSOR_BYTES", 100)
    large = ArraySource(FEATURES, LABELS)
    for one, other in zip(read(small, [3, 1]), read(large, [3, 1]), strict=True):
        assert np.array_equal(one, other)
        assert one.dtype == other.dtype


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("float64", "float32"),
        ("float16", "float32"),
        (">f4", "float32"),
        ("uint8", "uint8"),
        (">i4", "int32"),
        ("bool", "uint8"),
    ],
)
def test_floats_become_float32_and_integers_keep_their_type(
    tmp_path: Path, given: str, expected: str, mapped: bool
):
    values = np.arange(20).reshape(10, 2).astype(given)
    labels = np.arange(10).astype(given)
    path = write_folder(tmp_path, x=values, y=labels)
    source = open_arrays(section(path)) if mapped else ArraySource(values, labels)
    features, label = read(source, [9, 4])
    assert source.feature_dtype == expected
    assert features.dtype == label.dtype == source.labels().dtype == expected
    assert np.array_equal(features, values[[9, 4]].astype(expected))


def test_several_inputs_and_sample_weights_keep_their_structure():
    inputs = {"wide": FEATURES, "deep": np.arange(40, dtype=np.int32).reshape(20, 2)}
    source = ArraySource(inputs, LABELS, np.linspace(0, 1, 20))
    assert source.feature_shape == {"wide": (3,), "deep": (2,)}
    assert source.feature_dtype == {"wide": "float32", "deep": "int32"}
    features, label, weight = read(source, [5, 2])
    assert set(features) == {"wide", "deep"}
    assert np.array_equal(features["deep"], inputs["deep"][[5, 2]])
    assert np.array_equal(features["wide"], FEATURES[[5, 2]].astype(np.float32))
    assert np.array_equal(label, LABELS[[5, 2]])
    assert np.array_equal(weight, np.linspace(0, 1, 20)[[5, 2]].astype(np.float32))


@pytest.mark.parametrize("container", [tuple, list])
def test_inputs_may_come_in_a_row(container: Callable[[list[np.ndarray]], list[np.ndarray]]):
    source = ArraySource(container([FEATURES, LABELS]), LABELS)
    assert source.feature_shape == ((3,), ())
    features, _ = read(source, [1])
    assert isinstance(features, tuple)
    assert np.array_equal(features[1], LABELS[[1]])


def test_names_and_places_are_handed_on():
    source = ArraySource(
        FEATURES, LABELS, class_names=list("abcd"), feature_names=["r", "g", "b"], locate="row {}".format
    )
    assert (source.class_names, source.feature_names) == (("a", "b", "c", "d"), ("r", "g", "b"))
    assert source.locate(3) == "row 3"


def test_the_fingerprint_is_of_the_content(tmp_path: Path):
    path = write_npz(tmp_path, x=FEATURES, y=LABELS)
    moved = tmp_path / "elsewhere.npz"
    shutil.copy(path, moved)
    folder = tmp_path / "folder"
    folder.mkdir()
    same = [
        ArraySource(FEATURES, LABELS),
        open_arrays(section(path)),
        open_arrays(section(moved)),
        open_arrays(section(write_folder(folder, x=FEATURES, y=LABELS))),
    ]
    assert len({source.fingerprint for source in same}) == 1
    changed = FEATURES.copy()
    changed[13, 1] += 1e-12
    others = [
        ArraySource(changed, LABELS),
        ArraySource(FEATURES, LABELS[::-1]),
        ArraySource(FEATURES.astype(np.float32), LABELS),
        ArraySource(FEATURES.reshape(20, 3, 1), LABELS),
        ArraySource(FEATURES, LABELS, np.ones(20)),
        ArraySource({"a": FEATURES}, LABELS),
    ]
    assert len({source.fingerprint for source in [same[0], *others]}) == 7


def test_of_huge_files_blocks_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(arrays, "MAX_SCAN_BYTES", 1000)
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 80)
    monkeypatch.setattr(arrays, "NUM_SAMPLED_BLOCKS", 4)
    features = np.arange(1000, dtype=np.float64).reshape(200, 5)
    path = write_folder(tmp_path, x=features, y=np.zeros(200, np.uint8))

    def fingerprint_with_change_in(row: int) -> str:
        changed = features.copy()
        changed[row] += 1
        return open_arrays(section(write_folder(tmp_path, x=changed, y=np.zeros(200, np.uint8)))).fingerprint

    original = open_arrays(section(path)).fingerprint
    assert fingerprint_with_change_in(0) != original
    assert fingerprint_with_change_in(199) != original
    assert fingerprint_with_change_in(10) == original


def test_nan_in_a_huge_file_is_found_when_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(arrays, "MAX_SCAN_BYTES", 1000)
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 80)
    monkeypatch.setattr(arrays, "NUM_SAMPLED_BLOCKS", 4)
    features = np.ones((200, 5))
    features[10, 2] = np.nan
    source = open_arrays(section(write_folder(tmp_path, x=features, y=np.zeros(200, np.uint8))))
    assert read(source, [9, 11])[0].sum() == 10
    with pytest.raises(tf.errors.UnknownError, match=r"features hold NaN(.|\n)*record 10\n"):
        read(source, [9, 10])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("write", [write_npz, write_folder])
def test_features_that_are_not_finite_are_refused(tmp_path: Path, write: Callable[..., Path], value: float):
    features = FEATURES.copy()
    features[17, 2] = value
    path = write(tmp_path, x=features, y=LABELS)
    error = refusal(lambda: open_arrays(section(path)))
    assert error.problem == "The features hold NaN, infinity or a number too large for float32."
    assert error.place == f"{path} record 17"
    assert error.remedy == "repair or remove that record"


def test_labels_that_are_not_finite_are_refused():
    labels = LABELS.astype(float)
    labels[4] = np.nan
    error = refusal(lambda: ArraySource(FEATURES, labels))
    assert error.problem.startswith("The labels hold NaN")
    assert error.place == "arrays record 4"


def test_arrays_of_different_lengths_are_refused():
    error = refusal(lambda: ArraySource(FEATURES, LABELS[:-1]))
    assert error.problem == "The arrays differ in their number of examples."
    assert error.received == {"features": 20, "labels": 19}
    error = refusal(lambda: ArraySource({"a": FEATURES, "b": FEATURES[:3]}, LABELS))
    assert error.received == {"features['a']": 20, "features['b']": 3, "labels": 20}


@pytest.mark.parametrize("features", [np.zeros((0, 3)), np.zeros((3, 0)), np.float64(1)])
def test_arrays_without_examples_are_refused(features: np.ndarray):
    error = refusal(lambda: ArraySource(np.asarray(features), LABELS))
    assert error.problem == "The features hold no examples."
    assert error.remedy == "the first axis counts the examples: give at least one"


@pytest.mark.parametrize("labels", [LABELS.astype(str), LABELS.astype(object), LABELS.astype(complex)])
def test_what_is_not_numbers_is_refused(labels: np.ndarray):
    error = refusal(lambda: ArraySource(FEATURES, labels))
    assert error.problem == "The labels are not numbers."
    assert "text labels into class indices" in str(error.remedy)


@pytest.mark.parametrize("write", [write_npz, write_folder])
def test_a_missing_array_is_named_with_those_that_are_there(tmp_path: Path, write: Callable[..., Path]):
    path = write(tmp_path, images=FEATURES, labels=LABELS)
    error = refusal(lambda: open_arrays(section(path, features="image", label="labels")))
    assert error.problem == "There is no array 'image'; there are: images, labels."
    assert error.place == str(path)
    assert error.remedy == "did you mean 'images'?"
    error = refusal(lambda: open_arrays(section(path, features="images", label="q")))
    assert error.remedy == "name them in data.source.features and .label"


def test_an_empty_folder_is_refused(tmp_path: Path):
    assert (
        refusal(lambda: open_arrays(section(tmp_path))).problem == "There is no array 'x'; there are: none."
    )


@pytest.mark.parametrize("write", [write_npz, write_folder])
def test_python_objects_are_never_loaded(tmp_path: Path, write: Callable[..., Path]):
    path = write(tmp_path, x=FEATURES, y=np.array([{"a": 1}] * 20, object))
    error = refusal(lambda: open_arrays(section(path)))
    assert error.problem == "The array holds Python objects, which are refused: reading them may run code."
    assert str(path) in str(error.place)


def test_a_missing_file_is_refused(tmp_path: Path):
    error = refusal(lambda: open_arrays(section(tmp_path / "no.npz")))
    assert error.problem == "There is no such file or folder."
    assert error.place == str(tmp_path / "no.npz")


def test_a_single_array_is_refused(tmp_path: Path):
    write_folder(tmp_path, x=FEATURES)
    error = refusal(lambda: open_arrays(section(tmp_path / "x.npy")))
    assert error.problem == "This file is a single array; features and labels are needed."


def assert_damaged(path: Path) -> None:
    error = refusal(lambda: open_arrays(section(path)))
    assert error.problem == "The file is empty, damaged or not a NumPy file."
    assert str(path) in str(error.place)
    assert error.remedy == "write it again with numpy.savez or numpy.save"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing more", b"height,width\n1,2\n"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "data.npz").write_bytes(content)
    assert_damaged(tmp_path / "data.npz")


def test_an_archive_cut_short_is_refused(tmp_path: Path):
    path = write_npz(tmp_path, x=FEATURES, y=LABELS)
    path.write_bytes(path.read_bytes()[:-200])
    assert_damaged(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_with_flipped_bits_is_refused(tmp_path: Path, save: Callable[..., None]):
    save(tmp_path / "data.npz", x=FEATURES, y=LABELS)
    content = bytearray((tmp_path / "data.npz").read_bytes())
    content[300] ^= 0xFF
    (tmp_path / "data.npz").write_bytes(content)
    assert_damaged(tmp_path / "data.npz")


@pytest.mark.parametrize("length", [0, 5, 200])
def test_an_array_file_cut_short_is_refused(tmp_path: Path, length: int):
    write_folder(tmp_path, x=FEATURES, y=LABELS)
    path = tmp_path / "x.npy"
    path.write_bytes(path.read_bytes()[:length])
    assert_damaged(tmp_path)


def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path):
    write_folder(tmp_path, y=LABELS)
    (tmp_path / "x.npy").mkdir()
    error = refusal(lambda: open_arrays(section(tmp_path)))
    assert error.problem == "The file cannot be read: Is a directory."


def test_a_subset_reads_its_part_and_knows_its_places():
    source = ArraySource(FEATURES, LABELS, locate="row {}".format)
    part = Subset(source, np.array([4, 17, 0]), name="validation")
    assert (part.name, part.num_examples, part.feature_shape) == ("validation", 3, (3,))
    features, labels = read(part, [2, 1])
    assert np.array_equal(features, FEATURES[[0, 17]].astype(np.float32))
    assert np.array_equal(labels, LABELS[[0, 17]])
    assert np.array_equal(part.labels(), LABELS[[4, 17, 0]])
    assert part.locate(1) == "row 17"
    assert Subset(source, np.array([1])).name == source.name


def test_subsets_with_other_examples_or_another_order_have_other_fingerprints():
    source, other = ArraySource(FEATURES, LABELS), ArraySource(FEATURES + 1, LABELS)
    parts = [Subset(source, np.array(ids)) for ids in ([0, 1], [1, 0], [0, 2], [0])]
    parts.append(Subset(other, np.array([0, 1])))
    assert len({part.fingerprint for part in [source, *parts]}) == 6
    assert Subset(source, np.array([0, 1])).fingerprint == parts[0].fingerprint


@pytest.mark.parametrize("ids", [[0, 20], [-1, 3]])
def test_a_subset_outside_its_source_is_refused(ids: list[int]):
    error = refusal(lambda: Subset(ArraySource(FEATURES, LABELS), np.array(ids)))
    assert error.problem == "A part of a source asks for examples outside [0, 20)."
    assert error.received in (20, -1)


def test_an_empty_subset_is_refused():
    error = refusal(lambda: Subset(ArraySource(FEATURES, LABELS), np.array([]), name="test"))
    assert error.problem == "A part of a source has no examples."
    assert error.place == "test"
