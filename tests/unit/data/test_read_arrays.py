"""Examples as NumPy arrays: the values that TensorFlow reads, without it where a source says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from distkeras.config.sections import InputSection
from distkeras.config.source_sections import SyntheticSource as SyntheticSection
from distkeras.config.transform_sections import ImageSection
from distkeras.data.changes import RandomChanges
from distkeras.data.preparation import prepare
from distkeras.data.sources.arrays import ArraySource, open_arrays
from distkeras.data.sources.base import Source, Subset
from distkeras.data.sources.synthetic import SyntheticSource

IDS = np.array([7, 0, 39, 7])


def synthetic(num_classes: int | None) -> Source:
    section = {"kind": "synthetic", "num_examples": 40, "shape": [3, 5], "num_classes": num_classes}
    return SyntheticSource(SyntheticSection.model_validate(section))


def arrays() -> Source:
    numbers = np.random.default_rng(0)
    features = {"a": numbers.normal(size=(40, 3)), "b": numbers.integers(0, 9, (40, 2))}
    return ArraySource(features, numbers.integers(0, 3, 40), numbers.random(40))


class OneByOne(Source):
    """Reads an example at a time, by TensorFlow."""

    name, num_examples, fingerprint, granularity = "one by one", 40, "f", "example"
    feature_shape, feature_dtype = (2,), "int64"

    def labels(self) -> np.ndarray:
        return np.arange(40)

    def read(self, ids: tf.Tensor) -> tuple[Any, ...]:
        return tf.stack([ids, ids + 1]), ids

    def locate(self, example_id: int) -> str:
        return f"example {example_id}"


@pytest.mark.parametrize(
    ("source", "needs"),
    [
        (synthetic(3), False),
        (synthetic(None), False),
        (arrays(), False),
        (Subset(arrays(), np.arange(40)[::-1]), False),
        (OneByOne(), True),
        (Subset(OneByOne(), np.arange(40)[::-1]), True),
    ],
    ids=["classes", "numbers", "arrays", "part", "one by one", "part one by one"],
)
def test_arrays_are_what_tensorflow_reads(source: Source, needs: bool) -> None:
    assert source.needs_tensorflow is needs
    actual = source.read_arrays(IDS)
    if source.granularity == "batch":
        expected = tf.nest.map_structure(lambda part: part.numpy(), source.read(tf.constant(IDS)))
    else:
        rows = [source.read(tf.constant(example_id)) for example_id in IDS]
        expected = tf.nest.map_structure(lambda *parts: np.stack(parts), *rows)
    tf.nest.assert_same_structure(actual, expected)
    for one, other in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        assert isinstance(one, np.ndarray)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_memory_mapped_arrays_are_read_without_tensorflow(tmp_path: Path) -> None:
    from distkeras.config.source_sections import ArraysSource

    np.save(tmp_path / "x.npy", np.arange(80, dtype=np.float64).reshape(40, 2))
    np.save(tmp_path / "y.npy", np.arange(40))
    features, labels = open_arrays(ArraysSource(kind="arrays", path=tmp_path)).read_arrays(IDS)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, np.arange(80).reshape(40, 2)[IDS])
    np.testing.assert_array_equal(labels, IDS)


def test_changing_images_needs_tensorflow() -> None:
    source = ArraySource(np.zeros((4, 6, 6, 1), np.uint8), np.zeros(4, np.int64))

    def needs(**image: Any) -> tuple[bool, bool]:
        section = ImageSection(**image)
        prepared = prepare(InputSection(image=section), source).apply(source)
        return prepared.needs_tensorflow, RandomChanges(section).need_tensorflow

    assert needs() == (False, False)
    assert needs(size=(4, 4)) == (True, False)
    assert needs(random_crop=1) == (False, True)
