"""Buckets: the last tensors first, one type each, no larger than asked, and the same tensors back."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from distkeras.distribution.buckets import bucket_indices, pack, unpack

SHAPES = st.lists(
    st.tuples(
        st.sampled_from([(), (3,), (2, 5), (0,), (40,)]), st.sampled_from([tf.float32, tf.float16, tf.int32])
    ),
    max_size=12,
)


@given(shapes=SHAPES, limit=st.sampled_from([1, 20, 100, 10_000]))
@settings(max_examples=60, deadline=None)
def test_what_is_packed_comes_back(shapes, limit) -> None:
    tensors = [tf.cast(tf.fill(shape, index + 1), dtype) for index, (shape, dtype) in enumerate(shapes)]
    buckets = pack(tensors, limit)
    back = unpack(buckets, [bucket.tensor for bucket in buckets], len(tensors))
    for tensor, returned in zip(tensors, back, strict=True):
        assert returned.dtype == tensor.dtype
        np.testing.assert_array_equal(returned, tensor)


@given(shapes=SHAPES, limit=st.sampled_from([1, 20, 100, 10_000]))
@settings(max_examples=60, deadline=None)
def test_a_bucket_has_one_type_and_is_not_larger_than_asked(shapes, limit) -> None:
    tensors = [tf.zeros(shape, dtype) for shape, dtype in shapes]
    buckets = bucket_indices(tensors, limit)
    assert sorted(index for bucket in buckets for index in bucket) == list(range(len(tensors)))
    for bucket in buckets:
        assert len({tensors[index].dtype for index in bucket}) == 1
        size = sum(tensors[index].shape.num_elements() * tensors[index].dtype.size for index in bucket)
        assert size <= limit or len(bucket) == 1


def test_the_last_tensors_leave_first() -> None:
    tensors = [tf.zeros(10) for _ in range(5)]
    assert bucket_indices(tensors, 80) == [[4, 3], [2, 1], [0]]


def test_a_shape_that_is_known_only_when_it_runs_comes_back() -> None:
    @tf.function(input_signature=[tf.TensorSpec((None, 3)), tf.TensorSpec((2,))])
    def there_and_back(a: tf.Tensor, b: tf.Tensor) -> list[tf.Tensor]:
        buckets = pack([a, b], 1000)
        return unpack(buckets, [bucket.tensor for bucket in buckets], 2)

    a, b = there_and_back(tf.reshape(tf.range(12.0), (4, 3)), tf.constant([7.0, 8.0]))
    np.testing.assert_array_equal(a, np.arange(12.0).reshape(4, 3))
    np.testing.assert_array_equal(b, [7.0, 8.0])
