"""Many tensors as few: buckets of one type, the last tensors first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf


@dataclass(frozen=True)
class Bucket:
    """Some tensors, flat and end to end.

    Attributes:
        indices: Which tensors of the list it holds.
        shapes: Their shapes: numbers, or a tensor where a shape is known only when it runs.
        tensor: Their values, shape (sum of sizes,).
    """

    indices: tuple[int, ...]
    shapes: tuple[Any, ...]
    tensor: tf.Tensor


def pack(tensors: Sequence[tf.Tensor], bucket_bytes: int) -> list[Bucket]:
    """Returns the buckets of a list of tensors, from its end to its beginning."""
    return [_bucket(tensors, indices) for indices in bucket_indices(tensors, bucket_bytes)]


def bucket_indices(tensors: Sequence[tf.Tensor], bucket_bytes: int) -> list[list[int]]:
    """Returns which tensors go into which bucket: neighbours of one type, until a bucket is full."""
    buckets: list[list[int]] = []
    open_buckets: dict[tf.DType, tuple[list[int], int]] = {}
    for index in reversed(range(len(tensors))):
        tensor = tensors[index]
        size = (tensor.shape.num_elements() or 0) * tensor.dtype.size
        members, filled = open_buckets.get(tensor.dtype, ([], 0))
        if not members or filled + size > bucket_bytes:
            members, filled = [], 0
            buckets.append(members)
        members.append(index)
        open_buckets[tensor.dtype] = members, filled + size
    return buckets


def unpack(buckets: Sequence[Bucket], values: Sequence[tf.Tensor], num_tensors: int) -> list[tf.Tensor]:
    """Returns the tensors again, in their order, from the values of their buckets."""
    tensors: list[tf.Tensor | None] = [None] * num_tensors
    for bucket, value in zip(buckets, values, strict=True):
        sizes = tf.stack([tf.reduce_prod(tf.cast(shape, tf.int32)) for shape in bucket.shapes])
        for index, shape, part in zip(bucket.indices, bucket.shapes, tf.split(value, sizes), strict=True):
            tensors[index] = tf.reshape(part, shape)
    return [tensor for tensor in tensors if tensor is not None]


def _bucket(tensors: Sequence[tf.Tensor], indices: Sequence[int]) -> Bucket:
    shapes = tuple(_shape(tensors[index]) for index in indices)
    flat = [tf.reshape(tensors[index], [-1]) for index in indices]
    return Bucket(tuple(indices), shapes, flat[0] if len(flat) == 1 else tf.concat(flat, axis=0))


def _shape(tensor: tf.Tensor) -> Any:
    return tensor.shape.as_list() if tensor.shape.is_fully_defined() else tf.shape(tensor)
