"""Random examples made from their own index, for benchmarks and device checks."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import tensorflow as tf

from distkeras.config.sections import SyntheticSource as SyntheticSection
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
        self.feature_shape = tuple(section.shape)
        self.feature_dtype = "float32"
        self._shape = tuple(section.shape)
        self._num_classes = section.num_classes
        content = f"synthetic/1/{section.num_examples}/{section.shape}/{section.num_classes}"
        self.fingerprint = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def labels(self) -> np.ndarray:
        with tf.device("CPU:0"):
            return self._label(tf.range(self.num_examples, dtype=tf.int64)).numpy()

    def read(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        labels = self._label(ids)
        places = tf.range(math.prod(self._shape), dtype=tf.int64)
        if self._num_classes is None:
            signal = labels[:, tf.newaxis] * _signed(_hash(places, _SIGNAL_STREAM))
        else:
            signal = _signed(_hash_pairs(labels, places, _SIGNAL_STREAM))
        features = signal + _signed(_hash_pairs(ids, places, _NOISE_STREAM))
        return tf.reshape(features, (-1, *self._shape)), labels

    def locate(self, example_id: int) -> str:
        return f"synthetic example {example_id}"

    def _label(self, ids: tf.Tensor) -> tf.Tensor:
        words = _hash(ids, _LABEL_STREAM)
        if self._num_classes is None:
            return _signed(words)
        return tf.math.floormod(tf.cast(words, tf.int64), self._num_classes)


def _hash_pairs(rows: tf.Tensor, columns: tf.Tensor, stream: int) -> tf.Tensor:
    """uint32 of shape (rows, columns): a hash of each pair."""
    return _mix(_hash(rows, stream)[:, tf.newaxis] + _hash(columns, stream + 1))


def _hash(numbers: tf.Tensor, stream: int) -> tf.Tensor:
    return _mix(tf.cast(numbers & 0xFFFF_FFFF, tf.uint32) + tf.constant(stream, tf.uint32))


def _mix(words: tf.Tensor) -> tf.Tensor:
    """A 32-bit finalizer; constants: Chris Wellons, "Prospecting for hash functions", 2018 (public)."""
    for shift, multiplier in ((16, 0x7FEB_352D), (15, 0x846C_A68B)):
        words = tf.bitwise.bitwise_xor(words, tf.bitwise.right_shift(words, tf.constant(shift, tf.uint32)))
        words *= tf.constant(multiplier, tf.uint32)
    return tf.bitwise.bitwise_xor(words, tf.bitwise.right_shift(words, tf.constant(16, tf.uint32)))


def _signed(words: tf.Tensor) -> tf.Tensor:
    """Maps uint32 to float32 in [-1, 1)."""
    high_bits = tf.bitwise.right_shift(words, tf.constant(8, tf.uint32))
    return tf.cast(high_bits, tf.float32) * 2.0**-23 - 1.0
