"""Many steps in one call into TensorFlow, and the seconds among them that were spent waiting for input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from distkeras.distribution.strategy import ReplicaStrategy
from distkeras.training.step import one_step

# (iterator, number of steps) -> (logs of the last step, seconds spent waiting for input)
Chunk = Callable[[Any, int], tuple[Any, tf.Tensor]]


def make_chunk(
    model: keras.Model, strategy: tf.distribute.Strategy, method: str, *, jit_compile: bool
) -> Chunk:
    """Returns a function that runs any number of steps inside one call.

    The number is an argument of the graph, not part of it: a change of it traces nothing again.

    Args:
        model: A compiled model, created under `strategy`.
        strategy: Where it runs.
        method: `"train_step"` or `"test_step"`.
        jit_compile: Whether XLA compiles the step. One replica only: XLA has no kernel for the reduction.
    """
    compile_step = jit_compile and not isinstance(strategy, ReplicaStrategy)
    step = tf.function(one_step(model, strategy, method), jit_compile=compile_step, reduce_retracing=True)

    @tf.function(reduce_retracing=True)
    def chunk(iterator: Any, num_steps: tf.Tensor) -> tuple[Any, tf.Tensor]:
        waited = tf.zeros((), tf.float64)
        for _ in tf.range(num_steps - 1):
            batch, waited = _next_batch(iterator, waited)
            step(batch)
            waited = _after_update(model, waited)
        batch, waited = _next_batch(iterator, waited)
        return step(batch), waited

    if model.run_eagerly:
        return _eager_chunk(one_step(model, strategy, method))
    return lambda iterator, num_steps: chunk(iterator, tf.constant(num_steps))


@tf.autograph.experimental.do_not_convert
def _next_batch(iterator: Any, waited: tf.Tensor) -> tuple[Any, tf.Tensor]:
    """Returns the next batch, and `waited` plus the seconds that it took.

    A graph runs what it can as early as it can: without these dependencies the clock would be read too soon.
    """
    with tf.control_dependencies([waited]):
        begin = tf.timestamp()
    with tf.control_dependencies([begin]):
        batch = next(iterator)
    leaves = [tensor for leaf in tf.nest.flatten(batch) for tensor in getattr(leaf, "values", (leaf,))]
    with tf.control_dependencies([leaf for leaf in leaves if isinstance(leaf, tf.Tensor)]):
        return batch, waited + tf.timestamp() - begin


def _after_update(model: keras.Model, waited: tf.Tensor) -> tf.Tensor:
    """Returns `waited`, but not before the step's update of the layer that the backward pass reaches last."""
    updated = [variable.value.read_value() for variable in model.trainable_variables[:1]]
    with tf.control_dependencies([tf.reshape(value, [-1])[:0] for value in updated]):
        return tf.identity(waited)


def _eager_chunk(step: Callable[[Any], Any]) -> Chunk:
    """`run_eagerly=True` is for debugging: every operation of every step runs from Python."""

    def chunk(iterator: Any, num_steps: int) -> tuple[Any, tf.Tensor]:
        logs: Any = {}
        waited = tf.zeros((), tf.float64)
        for _ in range(num_steps):
            batch, waited = _next_batch(iterator, waited)
            logs = step(batch)
        return logs, waited

    return chunk
