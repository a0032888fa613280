"""Sums over replicas: gradients by example share, loss normalisers, and the state that each replica keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from distkeras.distribution.gradients import sum_gradients
from distkeras.distribution.strategy import WorkerStrategy, replicas_of, waiting

# Odd, so that multiples of it stay distinct in 32 bits (2**32 divided by the golden ratio).
SEED_STRIDE = 0x9E3779B1


def all_reduce_sum(tensor: Any) -> Any:
    """Returns the sum of a tensor (or a list of tensors) over replicas. Collective: every replica must call this.

    Call it inside the strategy's `run`.
    """
    context = tf.distribute.get_replica_context()
    if not isinstance(context.strategy, WorkerStrategy):
        return context.all_reduce(tf.distribute.ReduceOp.SUM, tensor)
    collectives = context.strategy.collectives
    return collectives.sum_all(tensor) if isinstance(tensor, list) else collectives.sum(tensor)


def share_of(features: tf.Tensor) -> tf.Tensor:
    """Returns this replica's share of the global batch, float32 in [0, 1]; the shares sum to 1. Collective.

    Args:
        features: Any tensor of the batch. Where its first dimension is known while a graph is traced, it is the same
            on all replicas, and nothing is sent.
    """
    if features.shape[0] is not None and not tf.executing_eagerly():
        return tf.constant(1 / replicas_of(tf.distribute.get_strategy()))
    local = tf.cast(tf.shape(features)[0], tf.float32)
    return tf.math.divide_no_nan(local, all_reduce_sum(local))


def reduce_gradients(gradients: Sequence[Any], share: tf.Tensor) -> list[Any]:
    """Returns the gradients of the global batch's mean loss. Collective.

    Args:
        gradients: Each replica's gradients of its own mean loss: dense tensors, `tf.IndexedSlices` (embeddings)
            or None (variables the loss does not depend on, which stay None).
        share: This replica's share of the global batch.
    """
    present = [index for index, gradient in enumerate(gradients) if gradient is not None]
    reduced: list[Any] = list(gradients)
    if present:
        sums = _sum_over_replicas([_scale(gradients[index], share) for index in present])
        for index, gradient in zip(present, sums, strict=True):
            reduced[index] = gradient
    return reduced


def _sum_over_replicas(gradients: list[Any]) -> list[Any]:
    strategy = tf.distribute.get_replica_context().strategy
    if isinstance(strategy, WorkerStrategy):
        return sum_gradients(strategy.collectives, gradients, strategy.reduction_dtype)
    return all_reduce_sum(gradients)


def _scale(gradient: Any, share: tf.Tensor) -> Any:
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(_scale(gradient.values, share), gradient.indices, gradient.dense_shape)
    # The mean over an empty replica's examples is 0/0, and so may be its gradient; its share of the sum is nothing.
    return tf.math.multiply_no_nan(gradient, tf.cast(share, gradient.dtype))


def average_replica_state(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Gives every replica the mean of the state that each keeps for itself: BatchNormalization's moving statistics.

    A moving average is linear in what it averages, so averaging seldom or every step gives the same values.
    """
    averaging(model, strategy)()


def averaging(model: keras.Model, strategy: tf.distribute.Strategy) -> Callable[[], None]:
    """Returns `average_replica_state` for one built model, traced at its first call and not again."""
    state = [variable.value for variable in replica_state(model)]
    if not state or replicas_of(strategy) == 1:
        return lambda: None
    function = _average(state, replicas_of(strategy))

    def average() -> None:
        with waiting(strategy):
            strategy.run(function)

    return average


def replica_state(model: keras.Model) -> list[Any]:
    """Returns the state that each replica keeps for itself: BatchNormalization's moving statistics.

    Weights that are frozen are left out: they are equal on all replicas, and may be most of a model.
    """
    variables = [variable for layer in model._flatten_layers() for variable in layer._non_trainable_variables]
    return [variable for variable in variables if keras.backend.is_float_dtype(variable.dtype)]


def _average(variables: list[Any], num_replicas: int) -> Any:
    def average() -> None:
        sums = all_reduce_sum([variable.read_value() for variable in variables])
        for variable, total in zip(variables, sums, strict=True):
            variable.assign(total / num_replicas)

    return tf.function(average)


def diverge_seeds(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Gives each replica's random layers a seed of their own, so that Dropout masks differ between replicas.

    Replica zero keeps the seed it has: what is committed is its state, and this call makes the others' from it.

    Args:
        model: A model whose variables live under `strategy`.
        strategy: The strategy.
    """
    states = [variable.value for variable in model.variables if "seed_generator_state" in variable.path]

    def shift() -> None:
        replica = _replica_index(strategy)
        for state in states:
            value = state.read_value()
            offset = tf.cast(replica, value.dtype) * tf.constant(SEED_STRIDE, value.dtype)
            state.assign(tf.stack([value[0] + offset, *tf.unstack(value[1:])]))

    if states and replicas_of(strategy) > 1:
        strategy.run(tf.function(shift))


def _replica_index(strategy: tf.distribute.Strategy) -> Any:
    if isinstance(strategy, WorkerStrategy):
        return strategy.topology.rank
    return tf.distribute.get_replica_context().replica_id_in_sync_group
