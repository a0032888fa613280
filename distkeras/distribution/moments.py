"""Mean and variance over the examples of all replicas: what a synchronized BatchNormalization normalises with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from distkeras.distribution.reduction import all_reduce_sum


def global_moments(
    values: tf.Tensor, axes: list[int], keepdims: bool, share: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns mean and variance over `axes` and over replicas. Collective, and so is its gradient.

    Args:
        values: This replica's values; any number of examples.
        axes: Axes to reduce, the batch's among them.
        keepdims: Whether reduced axes stay, with size 1.
        share: This replica's share of the global batch.
    """
    sums = [
        tf.reduce_sum(part, axes, keepdims=True) for part in (values, tf.square(values), tf.ones_like(values))
    ]
    total, squares, count = tf.unstack(_sum_over_replicas(tf.stack(sums), share))
    mean = tf.math.divide_no_nan(total, count)
    variance = tf.maximum(tf.math.divide_no_nan(squares, count) - tf.square(mean), 0.0)
    return (mean, variance) if keepdims else (tf.squeeze(mean, axes), tf.squeeze(variance, axes))


def _sum_over_replicas(local: tf.Tensor, share: tf.Tensor) -> Any:
    """Sums over replicas, with the gradient of the global batch's mean loss.

    What a replica adds to the sum changes the losses of all, each of which counts by its own share.
    `reduce_gradients` will multiply the result by the share of the replica that added, so it is divided out here.
    """

    @tf.custom_gradient
    def summed(tensor: Any) -> tuple[Any, Callable[[Any], Any]]:
        def gradient(upstream: Any) -> Any:
            weighted = all_reduce_sum(tf.math.multiply_no_nan(upstream, tf.cast(share, upstream.dtype)))
            return tf.math.divide_no_nan(weighted, tf.cast(share, upstream.dtype))

        return all_reduce_sum(tensor), gradient

    return summed(local)
