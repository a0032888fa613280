"""Sums of gradients over workers: dense ones in buckets, and sparse ones, rows of an embedding's table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from distkeras.distribution.collectives import Collectives


def sum_gradients(collectives: Collectives, gradients: Sequence[Any], dtype: tf.DType | None) -> list[Any]:
    """Returns the sums over workers of dense gradients and `tf.IndexedSlices`. Collective.

    Sparse gradients stay sparse: the rows of all workers one after the other, as one process would have them. Made
    dense they would send the whole table, and give other numbers: Keras's optimizers square row by row.

    Args:
        collectives: The workers.
        gradients: This worker's.
        dtype: What dense ones are sent as; None: as they are.
    """
    sums: list[Any] = list(gradients)
    is_sparse = [isinstance(gradient, tf.IndexedSlices) for gradient in gradients]
    dense = [index for index, sparse in enumerate(is_sparse) if not sparse]
    sent = [gradients[index] if dtype is None else tf.cast(gradients[index], dtype) for index in dense]
    for index, total in zip(dense, collectives.sum_all(sent), strict=True):
        sums[index] = tf.cast(total, gradients[index].dtype)
    # Embeddings are most often a model's first layers, so theirs come last.
    for index in reversed([index for index, sparse in enumerate(is_sparse) if sparse]):
        sums[index] = _gather_slices(collectives, gradients[index])
    return sums


def _gather_slices(collectives: Collectives, slices: tf.IndexedSlices) -> tf.IndexedSlices:
    """Sends indices and values as one tensor: an index is the bits of one more number of its row."""
    shape: Any = slices.values.shape
    numbers, bits = (tf.float64, tf.int64) if slices.values.dtype == tf.float64 else (tf.float32, tf.int32)
    values = tf.reshape(tf.cast(slices.values, numbers), [-1, math.prod(shape[1:])])
    indices = tf.bitcast(tf.cast(slices.indices, bits), numbers)
    rows = tf.concat([indices[:, tf.newaxis], values], axis=1)
    is_same_everywhere = shape[0] is not None and not tf.executing_eagerly()
    everyone = collectives.gather(rows) if is_same_everywhere else collectives.gather_rows(rows)
    all_values = tf.cast(tf.reshape(everyone[:, 1:], [-1, *shape[1:]]), slices.values.dtype)
    all_indices = tf.cast(tf.bitcast(everyone[:, 0], bits), slices.indices.dtype)
    return tf.IndexedSlices(all_values, all_indices, slices.dense_shape)
