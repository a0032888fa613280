"""What all workers must have in common before the first step, and must keep while they train."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from distkeras.distribution.strategy import WorkerStrategy
from distkeras.errors import TrainingError
from distkeras.training.differences import first_difference


def require_same(strategy: tf.distribute.Strategy, facts: Mapping[str, Any]) -> None:
    """Refuses to train where the workers differ in a fact, such as a version or the model. Collective.

    Args:
        strategy: Where the run trains; anything but a `WorkerStrategy` has no one to compare with.
        facts: What must be the same on every worker, by the name that a person knows it by; JSON values.

    Raises:
        ConfigError: On every worker, naming the first fact that differs, and where.
    """
    if not isinstance(strategy, WorkerStrategy):
        return
    difference = first_difference(strategy.collectives.exchange(dict(facts)), list(facts))
    if difference is not None:
        raise difference


def begin_equal(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Gives every worker the variables of rank zero, after a look at whether they are the same model. Collective.

    A builder that draws its initial weights from anything but Keras's seed draws others on every worker.

    Raises:
        ConfigError: If a worker built another model.
    """
    if not isinstance(strategy, WorkerStrategy):
        return
    shapes = [[*variable.shape, variable.dtype] for variable in model.variables]
    require_same(strategy, {"the shapes of the model's variables": shapes})
    collectives, is_rank_zero = strategy.collectives, strategy.topology.is_rank_zero

    @tf.function
    def broadcast() -> None:
        variables = [variable.value for variable in model.variables]
        own = [_as_number(variable.read_value()) for variable in variables]
        mine = own if is_rank_zero else [tf.zeros_like(value) for value in own]
        for variable, value in zip(variables, collectives.sum_all(mine), strict=True):
            variable.assign(tf.cast(value, variable.dtype))

    with collectives.waiting():
        broadcast()


def _as_number(value: tf.Tensor) -> tf.Tensor:
    """Sums over workers exist for these types only; all fit into them."""
    if value.dtype in (tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.int32, tf.int64):
        return value
    return tf.cast(value, tf.int64)


class DivergenceWatch:
    """Compares the workers' weights: equal bits, or the run stops.

    Args:
        model: A built model.
        strategy: Where it trains.
    """

    def __init__(self, model: keras.Model, strategy: tf.distribute.Strategy) -> None:
        self._model = model
        self._strategy = strategy
        self._function: Any = None

    def check(self, step: int) -> None:
        """Compares the weights now. Collective.

        Args:
            step: Complete optimizer steps, for the message.

        Raises:
            TrainingError: On every worker, naming the first weight that differs.
        """
        if not isinstance(self._strategy, WorkerStrategy):
            return
        self._function = self._function or self._digest(self._strategy)
        with self._strategy.collectives.waiting():
            if bool(self._function()):
                return
        weights = self._model.trainable_variables
        everyone: list[list[str]] = self._strategy.collectives.exchange(
            [_host_digest(one) for one in weights]
        )
        index, rank = next(
            (index, rank)
            for index in range(len(weights))
            for rank in range(len(everyone))
            if everyone[rank][index] != everyone[0][index]
        )
        raise TrainingError(
            f"The weights of rank {rank} are no longer those of rank 0; the first that differs is "
            f"{weights[index].path}.",
            place=f"step {step}",
            remedy="look for code that updates weights on one rank only, such as a callback; or for a broken machine",
        )

    def _digest(self, strategy: WorkerStrategy) -> Any:
        @tf.function
        def is_same() -> tf.Tensor:
            digests = tf.stack([_digest(variable.value) for variable in self._model.trainable_variables])
            # The largest of a number and of its negative are the same number on workers that agree.
            both = strategy.collectives.max(tf.concat([digests, -digests], axis=0))
            largest, smallest = tf.split(both, 2)
            return tf.reduce_all(tf.equal(largest, -smallest))

        return is_same


def _digest(value: tf.Tensor) -> tf.Tensor:
    """Returns a hash of a tensor's bits, int32: what its elements say and where they stand."""
    value = tf.convert_to_tensor(value)
    # Of 8 bytes this makes two numbers.
    words = tf.bitcast(value, tf.int16 if value.dtype.size == 2 else tf.int32)
    bits = tf.cast(tf.reshape(words, [-1]), tf.int32)
    # Odd factors, so that no change of a single element can be lost in the product.
    places = 2 * tf.range(tf.size(bits)) + 1
    return tf.maximum(tf.reduce_sum(bits * places), tf.int32.min + 1)


def _host_digest(variable: Any) -> str:
    return hashlib.sha256(variable.numpy().tobytes()).hexdigest()
