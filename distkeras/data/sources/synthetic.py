"""Random examples made from their own index, for benchmarks and device checks."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np

from distkeras.config.source_sections import SyntheticSource as SyntheticSection
from distkeras.data.lazy_tensorflow import tf
from distkeras.data.sources.base import Source

_LABEL_STREAM = 0x6C61_6265
_NOISE_STREAM = 0x6E6F_6973
_SIGNAL_STREAM = 0x7369_676E


class SyntheticSource(Source):
    """Examples that exist nowhere: each is computed when it is read, from its id alone.

    The features are noise around a pattern that belongs to the label (a pattern for each class, or one
    pattern times the float label), so that a model can learn them.

    Args:
        section: How many examples, of which shape, with how many classes.
    """

    def __init__(self, section: SyntheticSection) -> None:
        self.name = "synthetic"
        self.num_examples = section.num_examples
        self.granularity = "batch"
        self.needs_tensorflow = False
        self.feature_shape = tuple(section.shape)
        self.feature_dtype = "float32"
        self._shape = tuple(section.shape)
        self._num_classes = section.num_classes
        content = f"synthetic/1/{section.num_examples}/{section.shape}/{section.num_classes}"
        self.fingerprint = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def labels(self) -> np.ndarray:
        return self._label(np.arange(self.num_examples))

    def read(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features, labels = self._examples(ids)
        return tf.reshape(features, (-1, *self._shape)), labels

    def read_arrays(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        features, labels = self._examples(ids)
        return features.reshape(-1, *self._shape), labels

    def locate(self, example_id: int) -> str:
        return f"synthetic example {example_id}"

    def _examples(self, ids: Any) -> tuple[Any, Any]:
        """Features, shape (n, values), and labels, of the library that the ids are of."""
        labels = self._label(ids)
        places = np.arange(math.prod(self._shape))
        if self._num_classes is None:
            signal = labels[:, np.newaxis] * _signed(_hash(places, _SIGNAL_STREAM))
        else:
            signal = _signed(_hash_pairs(labels, places, _SIGNAL_STREAM))
        return signal + _signed(_hash_pairs(ids, places, _NOISE_STREAM)), labels

    def _label(self, ids: Any) -> Any:
        words = _hash(ids, _LABEL_STREAM)
        return _signed(words) if self._num_classes is None else _cast(words, "int64") % self._num_classes


# What follows is the same arithmetic on NumPy arrays and on TensorFlow's tensors; two things are spelt differently.


def _shift_right(words: Any, bits: int) -> Any:
    return (
        words >> np.uint32(bits)
        if isinstance(words, np.ndarray)
        else tf.bitwise.right_shift(words, np.uint32(bits))
    )


def _cast(numbers: Any, dtype: str) -> Any:
    return numbers.astype(dtype) if isinstance(numbers, np.ndarray) else tf.cast(numbers, dtype)


def _hash_pairs(rows: Any, columns: np.ndarray, stream: int) -> Any:
    """uint32 of shape (rows, columns): a hash of each pair."""
    return _mix(_hash(rows, stream)[:, np.newaxis] + _hash(columns, stream + 1))


def _hash(numbers: Any, stream: int) -> Any:
    return _mix(_cast(numbers & 0xFFFF_FFFF, "uint32") + np.uint32(stream))


def _mix(words: Any) -> Any:
    """A 32-bit finalizer; constants: Chris Wellons, "Prospecting for hash functions", 2018 (public)."""
    for shift, multiplier in ((16, 0x7FEB_352D), (15, 0x846C_A68B)):
        words = (words ^ _shift_right(words, shift)) * np.uint32(multiplier)
    return words ^ _shift_right(words, 16)


def _signed(words: Any) -> Any:
    """Maps uint32 to float32 in [-1, 1)."""
    return _cast(_shift_right(words, 8), "float32") * np.float32(2.0**-23) - np.float32(1.0)
