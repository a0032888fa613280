"""Records of tf.train.Example in TFRecord and ArrayRecord files."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from array_record.python.array_record_module import ArrayRecordWriter

from distkeras.config.source_sections import RecordsSource as RecordsSection
from distkeras.data.bad_data import find_unreadable_example
from distkeras.data.quarantine import find_bad_records, without
from distkeras.data.sources import array_record, open_source, record_contents
from distkeras.data.sources.records import RecordsSource
from distkeras.data.splits import Splits
from distkeras.errors import DataError

KINDS = ["tfrecord", "array_record"]
Value = bytes | str | float | int | Sequence[float] | Sequence[int]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def example(**features: Value | list[bytes]) -> bytes:
    def feature(value: Any) -> tf.train.Feature:
        values = value if isinstance(value, list) else [value]
        if values and isinstance(values[0], bytes | str):
            encoded = [one.encode() if isinstance(one, str) else one for one in values]
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))
        if values and isinstance(values[0], float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    named = {name: feature(value) for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=named)).SerializeToString()


def write(path: Path, records: Sequence[bytes | Mapping[str, Any]]) -> Path:
    contents = [record if isinstance(record, bytes) else example(**record) for record in records]
    if "array_record" in path.name:
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for content in contents:
            writer.write(content)
        writer.close()
    else:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for content in contents:
                writer.write(content)
    return path


def opened(path: Path, **keys: object) -> RecordsSource:
    kind = "array_record" if "array_record" in str(path) else "tfrecord"
    source = open_source(RecordsSection.model_validate({"kind": kind, "path": path, "features": "x", **keys}))
    assert isinstance(source, RecordsSource)
    return source


def refusal(path: Path, **keys: object) -> str:
    with pytest.raises(DataError) as caught:
        opened(path, **keys)
    return str(caught.value)


def png(height: int, width: int, value: int = 0) -> bytes:
    return tf.io.encode_png(np.full((height, width, 3), value, np.uint8)).numpy()


def numbers(count: int) -> list[dict[str, Any]]:
    return [{"x": [index + 0.5, -float(index)], "label": index % 3} for index in range(count)]


class TestNumbers:
    @pytest.mark.parametrize("kind", KINDS)
    def test_reads_a_folder_in_the_order_of_names(self, tmp_path: Path, kind: str) -> None:
        records = numbers(7)
        write(tmp_path / f"a.{kind}-00001-of-00003", records[2:])
        write(tmp_path / f"a.{kind}-00000-of-00003", records[:2])
        write(tmp_path / f"a.{kind}-00002-of-00003", [])
        write(tmp_path / f".hidden.{kind}", [b"no example"])
        (tmp_path / "notes.txt").touch()
        source = opened(tmp_path / f"a.{kind}-00000-of-00003")
        assert source.num_examples == 2
        source = open_source(RecordsSection(kind=kind, path=tmp_path, features="x"))
        ids = np.array([6, 0, 3, 3])
        features, labels = source.read_arrays(ids)
        assert features.tolist() == [[6.5, -6.0], [0.5, -0.0], [3.5, -3.0], [3.5, -3.0]]
        assert (features.dtype, labels.dtype) == (np.float32, np.int64)
        assert labels.tolist() == [0, 0, 0, 0]
        assert source.labels().tolist() == [0, 1, 2, 0, 1, 2, 0]
        assert (source.feature_shape, source.feature_dtype) == ((2,), "float32")
        assert (source.granularity, source.has_encoded_images, source.class_names) == ("batch", False, None)
        assert source.locate(2) == f"a.{kind}-00001-of-00003 record 1"

    @pytest.mark.parametrize("chunk", [1, 2, 1000])
    def test_the_pass_at_opening_goes_chunk_by_chunk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
    ) -> None:
        monkeypatch.setattr(record_contents, "FIRST_CHUNK_RECORDS", chunk)
        records = [{"x": [1.0], "label": name} for name in ("pear", "fig", "pear", "apple", "fig")]
        source = opened(write(tmp_path / "a.tfrecord", records))
        assert source.class_names == ("apple", "fig", "pear")
        assert source.labels().tolist() == [2, 1, 2, 0, 1]

    def test_chunks_are_of_about_equal_size(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of long records after short ones only the first come in a chunk that was made for short ones."""
        lengths: list[int] = []
        real_parse = tf.io.parse_example

        def parse(records: tf.Tensor, spec: object) -> object:
            lengths.append(int(tf.reduce_sum(tf.strings.length(records))))
            return real_parse(records, spec)

        monkeypatch.setattr(tf.io, "parse_example", parse)
        monkeypatch.setattr(record_contents, "CHUNK_BYTES", 10_000)
        monkeypatch.setattr(record_contents, "MAX_CHUNK_RECORDS", 50)
        texts = ["short"] * 500 + ["long" * 500] * 100
        source = opened(
            write(tmp_path / "a.tfrecord", [{"x": text, "label": i} for i, text in enumerate(texts)])
        )
        assert source.labels().tolist() == list(range(600))
        assert sum(lengths) > 200_000
        assert [length > 12_000 for length in lengths].count(True) <= 2
        assert max(lengths) < 50 * 2100

    def test_whole_numbers_in_a_shape(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tfrecord", [{"x": list(range(i, i + 6)), "label": 0} for i in range(3)])
        source = opened(path, shape=[2, 3])
        features, _ = source.read_arrays(np.array([2, 0]))
        assert features.tolist() == [[[2, 3, 4], [5, 6, 7]], [[0, 1, 2], [3, 4, 5]]]
        assert (source.feature_shape, source.feature_dtype, features.dtype) == ((2, 3), "int64", np.int64)

    def test_graphs_know_the_shapes(self, tmp_path: Path) -> None:
        source = opened(write(tmp_path / "a.tfrecord", numbers(20)))
        dataset = tf.data.Dataset.range(20).batch(5, drop_remainder=True)
        dataset = dataset.map(source.read, num_parallel_calls=4)
        assert dataset.element_spec == (tf.TensorSpec((5, 2)), tf.TensorSpec((5,), tf.int64))
        features = np.concatenate([batch[0] for batch in dataset.as_numpy_iterator()])
        assert features[:, 0].tolist() == [index + 0.5 for index in range(20)]

    @pytest.mark.parametrize(
        ("values", "dtype", "labels"),
        [([0.5, 2.0], np.float32, [0.5, 2.0]), ([7, -7], np.int64, [7, -7]), (["b", "a"], np.int64, [1, 0])],
    )
    def test_labels(self, tmp_path: Path, values: list[Any], dtype: type, labels: list[float]) -> None:
        path = write(tmp_path / "a.tfrecord", [{"x": [1.0], "y": value} for value in values])
        source = opened(path, label="y")
        assert (source.labels().dtype, source.labels().tolist()) == (dtype, labels)
        assert source.class_names == (("a", "b") if isinstance(values[0], str) else None)
        assert source.read_arrays(np.array([1]))[1].tolist() == labels[1:]

    def test_text_labels_of_several_files_are_classes_together(self, tmp_path: Path) -> None:
        write(tmp_path / "1.tfrecord", [{"x": [1.0], "label": name} for name in ("c", "a")])
        write(tmp_path / "2.tfrecord", [{"x": [1.0], "label": name} for name in ("b", "c")])
        source = opened(tmp_path)
        assert source.class_names == ("a", "b", "c")
        assert source.labels().tolist() == [2, 0, 1, 2]

    def test_without_labels_they_may_be_missing(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tfrecord", [{"x": [1.0]}, {"x": [2.0], "label": 7}])
        source = open_source(RecordsSection(kind="tfrecord", path=path, features="x"), labelled=False)
        features, labels = source.read_arrays(np.array([1, 0]))
        assert (features.tolist(), labels.tolist()) == ([[2], [1]], [0, 0])


class TestText:
    def test_texts_are_strings_without_a_shape(self, tmp_path: Path) -> None:
        texts = ["plain", "", "naïve café ☕", "x" * 5000]
        path = write(tmp_path / "a.tfrecord", [{"x": text, "label": 1} for text in texts])
        source = opened(path)
        assert (source.feature_shape, source.feature_dtype, source.granularity) == ((), "string", "batch")
        features, _ = source.read_arrays(np.array([3, 2, 1, 0]))
        assert [text.decode() for text in features] == texts[::-1]

    def test_a_text_that_is_not_utf8(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "a.tfrecord", [{"x": text, "label": 1} for text in (b"a", b"b", b"caf\xe9", b"\xff")]
        )
        text = refusal(path)
        assert "Feature 'x' is not UTF-8 text." in text
        assert "where: a.tfrecord record 3" in text

    def test_a_label_that_is_not_utf8(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tfrecord", [{"x": [1.0], "label": text} for text in (b"a", b"caf\xe9")])
        text = refusal(path)
        assert "Feature 'label' is not UTF-8 text." in text
        assert "where: a.tfrecord record 2" in text


class TestImages:
    @pytest.mark.parametrize("kind", KINDS)
    def test_images_of_one_size(self, tmp_path: Path, kind: str) -> None:
        records = [{"x": png(4, 5, value), "label": name} for value, name in ((7, "dog"), (9, "cat"))]
        source = opened(write(tmp_path / f"a.{kind}", records))
        assert (source.feature_shape, source.feature_dtype) == ((4, 5, 3), "uint8")
        assert (source.granularity, source.has_encoded_images) == ("example", True)
        assert source.class_names == ("cat", "dog")
        image, label = source.read(tf.constant(0, tf.int64))
        np.testing.assert_array_equal(image, np.full((4, 5, 3), 7))
        assert int(label) == 1
        content, label = source.read_encoded(tf.constant(1, tf.int64))
        assert (content.shape, content.numpy(), int(label)) == ((), png(4, 5, 9), 0)
        images, labels = source.read_arrays(np.array([1, 0]))
        assert (images[:, 0, 0, 0].tolist(), labels.tolist()) == ([9, 7], [0, 1])

    def test_images_of_many_sizes_and_formats(self, tmp_path: Path) -> None:
        pixels = np.zeros((6, 2, 3), np.uint8)
        jpeg, gif_like = tf.io.encode_jpeg(pixels).numpy(), png(3, 3)
        path = write(tmp_path / "a.tfrecord", [{"x": image, "label": 0} for image in (jpeg, gif_like)])
        source = opened(path, channels=1)
        assert source.feature_shape == (None, None, 1)
        dataset = tf.data.Dataset.range(2).map(source.read)
        assert [image.shape for image, _ in dataset.as_numpy_iterator()] == [(6, 2, 1), (3, 3, 1)]

    @pytest.mark.parametrize("has_index", [False, True])
    def test_a_bomb_is_refused_from_its_header(self, tmp_path: Path, has_index: bool) -> None:
        # 33 bytes that claim 12 gigabytes; there is not one pixel in them.
        bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII5x4x", 13, b"IHDR", 60_000, 50_000)
        small = [{"x": png(10, 10), "label": 0}, {"x": png(20, 30), "label": 0}]
        path = write(tmp_path / "a.tfrecord", small if has_index else [*small, {"x": bomb, "label": 0}])
        if has_index:
            assert opened(path).num_examples == 2
            text = refusal(path, max_pixels=599)
            assert "An image claims 600 pixels; 599 are allowed." in text
            assert "where: a.tfrecord record 2" in text
            assert "received: '30 x 20'" in text
            return
        text = refusal(path)
        assert "An image claims 3,000,000,000 pixels; 50,000,000 are allowed." in text
        assert "where: a.tfrecord record 3" in text
        assert "raise data.source.max_pixels" in text

    def test_an_image_that_is_cut_off(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        whole = tf.io.encode_png(rng.integers(0, 255, (20, 20, 3), np.uint8)).numpy()
        path = write(
            tmp_path / "a.tfrecord", [{"x": content, "label": 0} for content in (whole, whole[:-300])]
        )
        text = refusal(path)
        assert "A PNG image is cut off or damaged." in text
        assert "where: a.tfrecord record 2" in text

    def test_a_format_that_cannot_be_grey(self, tmp_path: Path) -> None:
        bmp = (
            b"BM"
            + struct.pack("<IHHI", 58, 0, 0, 54)
            + struct.pack("<IiiHHIIiiII", 40, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0)
        )
        path = write(tmp_path / "a.tfrecord", [{"x": bmp + bytes(4), "label": 0}])
        assert opened(path).feature_shape == (1, 1, 3)
        assert "A BMP image cannot be decoded to one channel." in refusal(path, channels=1)

    def test_a_later_record_that_is_no_image(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tfrecord", [{"x": png(2, 2), "label": 0}, {"x": b"\x00\x01", "label": 0}])
        text = refusal(path)
        assert "Feature 'x' is not a JPEG, PNG, BMP or GIF image; the first record's is." in text
        assert "where: a.tfrecord record 2" in text

    def test_a_later_file_with_texts(self, tmp_path: Path) -> None:
        write(tmp_path / "1.tfrecord", [{"x": png(2, 2), "label": 0}])
        write(tmp_path / "2.tfrecord", [{"x": "a text", "label": 0}])
        text = refusal(tmp_path)
        assert "The files differ: the records of this one hold one text and a label of int64" in text
        assert "those of 1.tfrecord one image and a label of int64." in text
        assert f"where: {tmp_path / '2.tfrecord'}" in text


class TestIndex:
    @pytest.mark.parametrize("kind", KINDS)
    def test_the_pass_is_made_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        path = write(tmp_path / f"a.{kind}", [{"x": png(2, 3), "label": name} for name in ("b", "a")])
        first = opened(path)
        assert (tmp_path / ".distkeras" / f"a.{kind}.index.npz").is_file()
        monkeypatch.setattr("distkeras.data.sources.records.examine", None)
        monkeypatch.setattr("distkeras.data.sources.records.scan_frames", None)
        again = opened(path)
        assert again.fingerprint == first.fingerprint
        assert again.class_names == first.class_names
        assert again.labels().tolist() == [1, 0]
        assert again.feature_shape == (2, 3, 3)
        assert again.read_arrays(np.array([1]))[0].shape == (1, 2, 3, 3)

    def test_a_folder_of_data_stays_a_folder_of_data(self, tmp_path: Path) -> None:
        write(tmp_path / "a.tfrecord", numbers(3))
        assert opened(tmp_path).num_examples == opened(tmp_path).num_examples == 3
        assert tf.io.gfile.glob(str(tmp_path / "*.tfrecord*")) == [str(tmp_path / "a.tfrecord")]

    def test_other_features_are_another_index(self, tmp_path: Path) -> None:
        records = [{"x": [1.0], "y": [2.0, 3.0], "label": 1, "other": 2}]
        path = write(tmp_path / "a.tfrecord", records)
        sources = [opened(path), opened(path, features="y"), opened(path, label="other"), opened(path)]
        assert [source.feature_shape for source in sources] == [(1,), (2,), (1,), (1,)]
        assert [source.labels().tolist() for source in sources] == [[1], [1], [2], [1]]
        assert len({source.fingerprint for source in sources}) == 3

    def test_a_file_written_anew_is_read_anew(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tfrecord", numbers(3))
        before = opened(path)
        write(path, numbers(4))
        assert opened(path).num_examples == 4
        write(path, [{**record, "label": 1} for record in numbers(3)])
        after = opened(path)
        assert after.labels().tolist() == [1, 1, 1]
        assert after.fingerprint != before.fingerprint

    def test_a_file_of_the_same_length_is_read_anew(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tfrecord", numbers(3))
        num_bytes = path.stat().st_size
        opened(path)
        write(path, [{**record, "label": 1} for record in numbers(3)])
        assert path.stat().st_size == num_bytes
        assert opened(path).labels().tolist() == [1, 1, 1]

    @pytest.mark.parametrize("keep", [0, 10, 300, -1])
    def test_a_torn_index_is_made_again(self, tmp_path: Path, keep: int) -> None:
        path = write(tmp_path / "a.tfrecord", numbers(3))
        opened(path)
        index = tmp_path / ".distkeras" / "a.tfrecord.index.npz"
        whole = index.read_bytes()
        index.write_bytes(whole[:keep])
        assert opened(path).labels().tolist() == [0, 1, 2]
        assert len(index.read_bytes()) == len(whole)

    def test_a_flipped_bit_anywhere_in_the_index_does_no_harm(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tfrecord", numbers(3))
        opened(path)
        index = tmp_path / ".distkeras" / "a.tfrecord.index.npz"
        whole = index.read_bytes()
        for place in range(0, len(whole), 37):
            index.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            assert opened(path).labels().tolist() == [0, 1, 2]

    def test_an_index_of_python_objects_is_not_read(self, tmp_path: Path) -> None:
        class Marker:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return os.mkdir, (str(tmp_path / "executed"),)

        path = write(tmp_path / "a.tfrecord", numbers(3))
        (tmp_path / ".distkeras").mkdir()
        arrays = {
            name: np.array([Marker()], object) for name in ("key", "found", "labels", "sizes", "lengths")
        }
        np.savez(tmp_path / ".distkeras" / "a.tfrecord.index.npz", **arrays)
        assert opened(path).num_examples == 3
        assert not (tmp_path / "executed").exists()

    def test_where_nothing_can_be_written_beside_the_file_the_cache_has_it(
        self, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(tmp_path / "a.tfrecord", numbers(3))
        (tmp_path / ".distkeras").touch()  # In the way: permissions do not stop root.
        opened(path)
        assert [file.name.partition("-")[2] for file in (cache / "distkeras").iterdir()] == [
            "a.tfrecord.index.npz"
        ]
        monkeypatch.setattr("distkeras.data.sources.records.examine", None)
        assert opened(path).num_examples == 3

    def test_without_any_place_for_it_data_is_read_all_the_same(
        self, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(tmp_path / "a.tfrecord", numbers(3))
        (tmp_path / ".distkeras").touch()
        (cache / "distkeras").touch()
        assert opened(path).num_examples == opened(path).num_examples == 3

    def test_the_fingerprint_does_not_depend_on_the_place(self, tmp_path: Path) -> None:
        for folder in ("one", "two"):
            (tmp_path / folder).mkdir()
            write(tmp_path / folder / "b.tfrecord", numbers(3))
            write(tmp_path / folder / "a.tfrecord", numbers(2))
        assert opened(tmp_path / "one").fingerprint == opened(tmp_path / "two").fingerprint


class TestBadData:
    def test_missing_path(self, tmp_path: Path) -> None:
        assert "There is no such record file or folder." in refusal(tmp_path / "none")

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_folder_without_record_files(self, tmp_path: Path, kind: str) -> None:
        (tmp_path / "a.csv").touch()
        with pytest.raises(DataError, match=rf"A folder has no \*\.{kind}\* files\."):
            open_source(RecordsSection(kind=kind, path=tmp_path))

    def test_a_missing_shard(self, tmp_path: Path) -> None:
        for number in (0, 3):
            write(tmp_path / f"a.tfrecord-{number:05}-of-00004", numbers(2))
        text = refusal(tmp_path)
        assert "2 of 4 files are missing." in text
        assert "received: 'a.tfrecord-00000-of-00004, but none numbered 1'" in text

    def test_two_whole_sets_of_shards(self, tmp_path: Path) -> None:
        for name in ("a.tfrecord-00000-of-00001", "b.tfrecord-00000-of-00002", "b.tfrecord-00001-of-00002"):
            write(tmp_path / name, numbers(1))
        assert opened(tmp_path).num_examples == 3

    @pytest.mark.parametrize("kind", KINDS)
    def test_no_records(self, tmp_path: Path, kind: str) -> None:
        assert "There are no records." in refusal(write(tmp_path / f"a.{kind}", []))

    def test_a_torn_tfrecord_file(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tfrecord", numbers(3))
        opened(path)
        path.write_bytes(path.read_bytes()[:-5])
        text = refusal(path)
        assert "A TFRecord file ends in the middle of a record." in text
        assert f"where: {path} record 3" in text

    @pytest.mark.parametrize("keep", [0, 1000, -1000])
    def test_a_torn_array_record_file(self, tmp_path: Path, keep: int) -> None:
        path = write(tmp_path / "a.array_record", numbers(3))
        path.write_bytes(path.read_bytes()[:keep])
        text = refusal(path)
        assert "An ArrayRecord file is missing or damaged." in text
        assert f"where: {path}" in text

    def test_a_damaged_record_of_an_array_record_file(self, tmp_path: Path) -> None:
        records = [{"x": "t" * 1000, "label": 0}] * 50
        path = write(tmp_path / "a.array_record", records)
        source = opened(path)
        content, status = bytearray(path.read_bytes()), path.stat()
        content[200] ^= 1
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        fresh = opened(path)
        with pytest.raises(DataError, match="An ArrayRecord file is missing or damaged") as caught:
            fresh._files.read_records(np.arange(50))
        assert "hash mismatch" in str(caught.value)
        assert source.fingerprint == fresh.fingerprint

    def test_a_compressed_file(self, tmp_path: Path) -> None:
        with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord.gz"), options="GZIP") as writer:
            writer.write(example(x=[1.0], label=0))
        assert "A TFRecord file is compressed." in refusal(tmp_path)

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_file_that_changes_after_it_was_opened(self, tmp_path: Path, kind: str) -> None:
        path = write(tmp_path / f"a.{kind}", numbers(3))
        source = opened(path)
        write(path, numbers(5))
        error = find_unreadable_example(source)
        assert error is not None
        assert error.problem == "A data file has changed since it was opened."
        assert error.place == str(path)

    def test_records_of_something_else(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tfrecord", [b"\xff\xff"])
        text = refusal(path)
        assert "A record is no tf.train.Example." in text
        assert "where: a.tfrecord record 1" in text
        text = refusal(write(path, [{"x": [1.0], "label": 0}, b"\xff\xff"]))
        assert "A record is no tf.train.Example." in text
        assert "where: a.tfrecord record 2" in text

    def test_what_only_tensorflow_cannot_parse(self, tmp_path: Path) -> None:
        # An empty group, which protobuf of old had, as a field that nobody knows.
        path = write(
            tmp_path / "a.tfrecord", [{"x": [1.0], "label": 0}, b"\x7b\x7c" + example(x=[1.0], label=0)]
        )
        text = refusal(path)
        assert "TensorFlow cannot parse one of the 2 records from this one on." in text
        assert "where: a.tfrecord record 1" in text

    def test_a_feature_that_is_not_there(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tfrecord", [{"images": [1.0], "label": 0}])
        text = refusal(path, features="image")
        assert "A record has no feature 'image', or an empty one." in text
        assert "Did you mean 'images'?" in text
        assert "It has: images, label." in refusal(path, features="zzz")
        assert "A record has no feature 'zzz'" in refusal(path, features="images", label="zzz")
        assert "It has: nothing." in refusal(write(path, [b""]), features="images")

    @pytest.mark.parametrize(
        ("odd", "sentence"),
        [
            (
                {"x": [1.0], "label": 0},
                "it holds 1 values of float32 and a label of int64, and the first 2 values of",
            ),
            ({"x": [1.0, 2.0, 3.0], "label": 0}, "it holds 3 values of float32"),
            ({"x": [1, 2], "label": 0}, "it holds 2 values of int64"),
            ({"x": "text", "label": 0}, "it holds one text"),
            (
                {"x": [1.0, 2.0], "label": 0.5},
                "a label of float32, and the first 2 values of float32 and a label of",
            ),
            ({"x": [1.0, 2.0]}, "A record has no feature 'label', or an empty one."),
            ({"label": 0}, "A record has no feature 'x', or an empty one."),
            ({"x": [], "label": 0}, "A record has no feature 'x', or an empty one."),
            ({"x": [1.0, 2.0], "label": [0, 1]}, "The label 'label' has 2 values; it must have one."),
            ({"x": [b"a", b"b"], "label": 0}, "Feature 'x' is a list of 2 strings."),
            ({"x": [float("nan"), 1.0], "label": 0}, "Feature 'x' holds NaN or infinity."),
            ({"x": [1.0, float("inf")], "label": 0}, "Feature 'x' holds NaN or infinity."),
        ],
    )
    @pytest.mark.parametrize("chunk", [1, 100])
    def test_a_record_that_differs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: dict[str, Any], sentence: str, chunk: int
    ) -> None:
        monkeypatch.setattr(record_contents, "FIRST_CHUNK_RECORDS", chunk)
        text = refusal(write(tmp_path / "a.tfrecord", [*numbers(3), odd, *numbers(2)]))
        assert sentence in text
        assert "where: a.tfrecord record 4" in text
        assert not (tmp_path / ".distkeras").exists()

    def test_a_label_that_is_not_finite(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tfrecord", [{"x": [1.0], "label": value} for value in (0.5, float("nan"))])
        text = refusal(path)
        assert "Feature 'label' holds NaN or infinity." in text
        assert "where: a.tfrecord record 2" in text

    def test_bytes_that_are_neither_image_nor_text(self, tmp_path: Path) -> None:
        text = refusal(write(tmp_path / "a.tfrecord", [{"x": b"\x80\x04\x95", "label": 0}]))
        assert "Feature 'x' is neither an image (JPEG, PNG, BMP or GIF) nor UTF-8 text." in text
        assert "arrays as lists of numbers" in text

    def test_files_that_differ(self, tmp_path: Path) -> None:
        write(tmp_path / "1.tfrecord", numbers(1))
        write(tmp_path / "2.tfrecord", [{"x": [1.0, 2.0], "label": "a"}])
        text = refusal(tmp_path)
        assert (
            "The files differ: the records of this one hold 2 values of float32 and a label of string" in text
        )

    def test_shapes_that_do_not_fit(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tfrecord", numbers(1))
        text = refusal(path, shape=[2, 2])
        assert "A shape of 4 numbers was asked for; the records hold 2." in text
        assert "where: data.source.shape" in text
        write(path, [{"x": "text", "label": 0}])
        assert "A shape is for numbers; feature 'x' is text." in refusal(path, shape=[2])

    def test_one_feature_for_both(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tfrecord", numbers(1))
        assert "Feature 'label' is the model's input and the label at once." in refusal(
            path, features="label"
        )
        section = RecordsSection(kind="tfrecord", path=path, features="label")
        assert open_source(section, labelled=False).feature_dtype == "int64"


def budgeted(path: Path, max_bad_records: int, **keys: object) -> RecordsSource:
    kind = "array_record" if "array_record" in str(path) else "tfrecord"
    section = RecordsSection.model_validate({"kind": kind, "path": path, "features": "x", **keys})
    return RecordsSource(section, max_bad_records=max_bad_records)


class TestBudget:
    """Bad records that `data.max_bad_records` allows."""

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("chunk", [1, 3, 100])
    def test_bad_records_are_examples_that_say_why(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, chunk: int
    ) -> None:
        monkeypatch.setattr(record_contents, "FIRST_CHUNK_RECORDS", chunk)
        good = [
            {"x": png(4, 5, value), "label": name} for value, name in ((7, "dog"), (9, "cat"), (8, "dog"))
        ]
        records = [
            b"\xff\xff",
            good[0],
            {"x": b"no image", "label": "eel"},
            good[1],
            {"x": png(4, 5)},
            good[2],
        ]
        source = budgeted(write(tmp_path / f"a.{kind}", records), 3)
        assert {place: error.problem for place, error in source.unreadable.items()} == {
            0: "A record is no tf.train.Example.",
            2: "Feature 'x' is not a JPEG, PNG, BMP or GIF image; the first record's is.",
            4: "A record has no feature 'label', or an empty one.",
        }
        assert [error.place for error in source.unreadable.values()] == [
            f"a.{kind} record {number}" for number in (1, 3, 5)
        ]
        assert (source.num_examples, source.feature_shape) == (6, (4, 5, 3))
        # The first good one stands for the bad: no class of theirs appears.
        assert source.class_names == ("cat", "dog")
        assert source.labels().tolist() == [1, 1, 1, 0, 1, 1]
        images, labels = source.read_arrays(np.array([5, 1, 3]))
        assert (images[:, 0, 0, 0].tolist(), labels.tolist()) == ([8, 7, 9], [1, 1, 0])

    def test_more_are_refused_with_the_first_ones_sentence(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tfrecord", [*numbers(2), b"\xff", *numbers(1), {"x": [1.0]}, b"\xff"])
        with pytest.raises(DataError, match=r"A record is no tf\.train\.Example\.") as caught:
            budgeted(path, 1)
        assert caught.value.place == "a.tfrecord record 3"
        assert "At least 2 of 6 records are bad; data.max_bad_records is 1." in str(caught.value)
        assert budgeted(path, 3).unreadable.keys() == {2, 4, 5}

    def test_they_are_counted_over_all_files(self, tmp_path: Path) -> None:
        write(tmp_path / "1.tfrecord", [*numbers(2), b"\xff"])
        write(tmp_path / "2.tfrecord", [])
        write(tmp_path / "3.tfrecord", [b"\xff\xff", *numbers(2)])
        source = budgeted(tmp_path, 2)
        assert [error.place for error in source.unreadable.values()] == [
            "1.tfrecord record 3",
            "3.tfrecord record 1",
        ]
        assert source.unreadable.keys() == {2, 3}
        assert source.labels().tolist() == [0, 1, 0, 0, 0, 1]
        with pytest.raises(DataError, match="A record is no") as caught:
            budgeted(tmp_path, 1)
        assert caught.value.place == "1.tfrecord record 3"

    @pytest.mark.parametrize("records", [[b"\xff"], [{"x": [float("nan")], "label": 0}] * 3])
    def test_a_file_needs_a_good_record(self, tmp_path: Path, records: list[bytes]) -> None:
        path = write(tmp_path / "a.tfrecord", records)
        with pytest.raises(DataError, match=r"no tf\.train\.Example|holds NaN or infinity") as caught:
            budgeted(path, 10)
        assert caught.value.place == "a.tfrecord record 1"

    def test_without_a_budget_a_later_opening_refuses_them_still(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tfrecord", [*numbers(2), b"\xff"])
        assert budgeted(path, 1).num_examples == 3
        assert not (tmp_path / ".distkeras").exists()
        assert "where: a.tfrecord record 3" in refusal(path)

    def test_an_image_that_is_too_large_for_this_run_alone(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tfrecord", [{"x": png(size, size), "label": 0} for size in (10, 30, 10)])
        assert opened(path).feature_shape == (None, None, 3)
        source = budgeted(path, 1, max_pixels=200)
        assert source.unreadable[1].problem == "An image claims 900 pixels; 200 are allowed."
        assert source.feature_shape == (10, 10, 3)

    def test_a_damaged_block_of_an_array_record_file(self, tmp_path: Path) -> None:
        path = write(
            tmp_path / "a.array_record", [{"x": "t" * 1000 + str(row), "label": row} for row in range(50)]
        )
        content = bytearray(path.read_bytes())
        content[200] ^= 1
        path.write_bytes(content)
        assert "An ArrayRecord file is missing or damaged." in refusal(path)
        source = budgeted(path, 3)
        assert len(source.unreadable) in (1, 2, 3)
        assert {error.problem for error in source.unreadable.values()} == {
            "An ArrayRecord file is missing or damaged."
        }
        good = np.setdiff1d(np.arange(50), list(source.unreadable))
        texts, labels = source.read_arrays(good)
        assert labels.tolist() == good.tolist()
        assert texts[-1].decode().endswith(str(good[-1]))

    def test_a_run_leaves_them_out(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.tfrecord", [*numbers(2), b"\xff", *numbers(3)])
        splits = Splits(budgeted(path, 1), None, None)
        bad = find_bad_records(splits, 1, lambda value: [value], 0, 1)
        assert [(one.example_id, one.place) for one in bad] == [(2, "a.tfrecord record 3")]
        features, _, weights = without(splits, bad).train.read_arrays(np.arange(6))
        assert weights.tolist() == [1, 1, 0, 1, 1, 1]
        assert np.isfinite(features).all()


def test_few_array_record_files_are_open_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_record, "MAX_OPEN_FILES", 3)
    for index in range(12):
        write(tmp_path / f"{index:02}.array_record", [{"x": [index], "label": index}])
    source = open_source(RecordsSection(kind="array_record", path=tmp_path, features="x"))
    ids = np.array([11, 3, 0, 7, 5, 11, 2])
    assert source.read_arrays(ids)[0][:, 0].tolist() == ids.tolist()
    assert 0 < num_open_files(tmp_path) <= 3


def num_open_files(folder: Path) -> int:
    """Returns how many of a folder's files this process has open."""
    opened = (Path(os.path.realpath(link)) for link in Path("/proc/self/fd").iterdir())
    return sum(path.parent == folder for path in opened)
