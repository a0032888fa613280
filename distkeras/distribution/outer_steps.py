"""Training over slow networks: workers train apart, and meet every so many steps.

Between two meetings each worker takes steps of its own on its part of each global batch. When they meet, the mean of
their changes is one step of an outer optimizer from where they last met (DiLoCo, arXiv:2311.08105; with learning rate
1 and no momentum, local SGD, arXiv:1805.09767). The state of the inner optimizers is averaged as well, so that rank
zero's commit is everything that a resumed run needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from distkeras.config.sections import OuterStepsSection
from distkeras.distribution.strategy import WorkerStrategy


def add_outer_optimizer(model: keras.Model, section: OuterStepsSection) -> None:
    """Gives a built model the outer optimizer, whose state is committed with the model's own."""
    outer = keras.optimizers.SGD(section.learning_rate, section.momentum, nesterov=section.momentum > 0)
    outer.build(model.trainable_variables)
    model.outer_optimizer = outer


class OuterSteps:
    """The outer steps of one model; make it once the model has the weights that it starts from.

    Args:
        model: A model that `add_outer_optimizer` was called with.
        optimizers: Its inner optimizers.
        strategy: Where it trains.
    """

    def __init__(self, model: Any, optimizers: Sequence[Any], strategy: WorkerStrategy) -> None:
        self._weights = list(model.trainable_variables)
        self._optimizers = [one for one in optimizers if one is not model.outer_optimizer]
        self._outer: Any = model.outer_optimizer
        self._strategy = strategy
        with strategy.scope():
            self._met_at = [tf.Variable(variable.value, trainable=False) for variable in self._weights]
        self._function = tf.function(self._step)

    def take(self) -> None:
        """Lets the workers meet. Collective."""
        with self._strategy.collectives.waiting():
            self._strategy.run(self._function)

    def _step(self) -> None:
        weights = [variable.value for variable in self._weights]
        # Looked up when the first steps have been taken: a custom `train_step` builds its optimizers in them.
        inner = [
            variable.value
            for optimizer in self._optimizers
            for variable in optimizer.variables
            if keras.backend.is_float_dtype(variable.dtype)
        ]
        sums = self._strategy.collectives.sum_all([variable.read_value() for variable in (*weights, *inner)])
        means = [total / self._strategy.topology.num_replicas for total in sums]
        changes = [start - mean for start, mean in zip(self._met_at, means[: len(weights)], strict=True)]
        for variable, start in zip(weights, self._met_at, strict=True):
            variable.assign(start)
        self._outer.apply(changes, self._weights)
        for start, variable in zip(self._met_at, weights, strict=True):
            start.assign(variable)
        for variable, mean in zip(inner, means[len(weights) :], strict=True):
            variable.assign(mean)
