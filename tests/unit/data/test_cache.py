from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from distkeras.config.sections import InputSection
from distkeras.config.source_sections import ImageFolderSource as ImageFolderSection
from distkeras.config.transform_sections import CacheSection, ImageSection
from distkeras.data import cache
from distkeras.data.cache import cached
from distkeras.data.preparation import prepare
from distkeras.data.prepared import OneHot
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.sources.base import Source, Wrapped
from distkeras.data.sources.image_folder import ImageFolderSource
from distkeras.errors import DataError, ResourceError


@pytest.fixture
def pictures(tmp_path: Path) -> Source:
    """Seven photographs of different sizes, seen as 4 x 5."""
    for index in range(7):
        folder = tmp_path / "pictures" / ("cat", "dog")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (6 + index, 9, 3), np.uint8)
        (folder / f"{index}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    source = ImageFolderSource(ImageFolderSection(kind="image_folder", path=tmp_path / "pictures"))
    return prepare(InputSection(image=ImageSection(size=(4, 5))), source).apply(source)


class Counting(Wrapped):
    """Tells how often it was read."""

    num_reads = 0

    def read(self, ids):
        Counting.num_reads += 1
        return self.wrapped.read(ids)


def keep(
    source: Source, folder: Path, where: str = "disk", said: list[str] | None = None, state=None
) -> Source:
    say = (said if said is not None else []).append
    return cached(source, CacheSection(where=where), folder, state, say)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_examples_are_what_they_were(pictures: Source, tmp_path: Path, where: str):
    said: list[str] = []
    kept = keep(pictures, tmp_path / "cache", where, said)
    assert said[0].startswith("keeping 7 examples in ")
    assert said[0].endswith(": 0 MiB")
    ids = np.array([6, 0, 3, 3])
    for (features, labels), (own_features, own_labels) in [
        (pictures.read_arrays(ids), kept.read_arrays(ids)),
        (pictures.read_arrays(ids), tf.nest.map_structure(np.asarray, kept.read(tf.constant(ids)))),
    ]:
        assert own_features.dtype == np.uint8
        np.testing.assert_array_equal(own_features, features)
        np.testing.assert_array_equal(own_labels, labels)
    assert (kept.fingerprint, kept.locate(2)) == (pictures.fingerprint, pictures.locate(2))
    assert kept.feature_shape == (4, 5, 3)
    assert not kept.needs_tensorflow
    assert not kept.has_encoded_images


def test_a_file_is_found_again_and_another_state_makes_another(pictures: Source, tmp_path: Path):
    first = np.asarray(keep(pictures, tmp_path).read_arrays(np.arange(7))[0])
    said: list[str] = []
    again = keep(pictures, tmp_path, said=said)
    assert said == []
    np.testing.assert_array_equal(again.read_arrays(np.arange(7))[0], first)
    keep(pictures, tmp_path, said=said, state={"text": {"vocabulary": ["a"]}})
    assert len(said) == 1
    assert len(list(tmp_path.glob("*/complete.json"))) == 2


def test_a_torn_cache_is_made_again(pictures: Source, tmp_path: Path):
    keep(pictures, tmp_path)
    (place,) = [path.parent for path in tmp_path.glob("*/complete.json")]
    (place / "complete.json").unlink()
    (place / "0.npy").write_bytes(b"torn")
    said: list[str] = []
    again = keep(pictures, tmp_path, said=said)
    assert len(said) == 1
    np.testing.assert_array_equal(again.read_arrays(np.arange(7))[0], pictures.read_arrays(np.arange(7))[0])


def test_two_processes_fill_it_once(tmp_path: Path):
    np.savez(tmp_path / "data.npz", x=np.arange(600.0).reshape(200, 3), y=np.arange(200) % 2)
    script = """
import json, sys, time
from pathlib import Path
from distkeras.config.source_sections import ArraysSource
from distkeras.config.transform_sections import CacheSection
from distkeras.data.cache import cached
from distkeras.data.sources.arrays import open_arrays
folder = Path(sys.argv[1])
source = open_arrays(ArraysSource(kind="arrays", path=folder / "data.npz"))
said = []
kept = cached(source, CacheSection(where="disk"), folder / "cache", None, said.append)
print(json.dumps([len(said), float(kept.read_arrays(__import__("numpy").arange(200))[0].sum())]))
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outputs = [one.communicate(timeout=100) for one in both]
    found = [json.loads(out) for out, error in outputs]
    assert sorted(found) == [[0, 179700.0], [1, 179700.0]]


def test_weights_and_many_inputs_are_kept(tmp_path: Path):
    features = {"a": np.arange(5.0), "b": np.ones((5, 2), np.int32)}
    source = ArraySource(features, np.arange(5), np.linspace(0, 1, 5))
    read, label, weight = keep(source, tmp_path).read_arrays(np.array([4, 1]))
    assert read["a"].tolist() == [4, 1]
    assert read["b"].shape == (2, 2)
    assert (label.tolist(), weight.tolist()) == ([4, 1], [1.0, 0.25])


def test_labels_may_be_mixed_after_it(pictures: Source, tmp_path: Path):
    _, label = OneHot(keep(pictures, tmp_path), 2).read(tf.constant([0, 6]))
    np.testing.assert_array_equal(label, np.eye(2)[pictures.labels()[[0, 6]]])


def test_what_does_not_fit_is_refused_before_it_is_read(
    pictures: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    counting = Counting(pictures)
    Counting.num_reads = 0
    monkeypatch.setattr(cache, "_free_memory", lambda: 400)
    with pytest.raises(ResourceError, match="The examples do not fit into the memory") as caught:
        keep(counting, tmp_path, "memory")
    assert "0 MiB are free" in caught.value.received
    assert Counting.num_reads == 1  # for the types


def test_text_is_not_kept(tmp_path: Path):
    class Texts(ArraySource):
        def read_arrays(self, ids):
            return np.array(["a"] * len(ids)), np.zeros(len(ids))

    with pytest.raises(DataError, match="Only numbers can be kept"):
        keep(Texts(np.zeros((2, 1)), np.zeros(2)), tmp_path)
