"""Logs and metrics of all workers as one: added up at logging points, and at no step in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from distkeras.distribution.strategy import WorkerStrategy
from distkeras.training.step import with_tracked

# (logs of the last step, whether the total stays on every worker) -> logs of the global batch
Totals = Callable[[Any, bool], Any]


def totals(model: keras.Model, strategy: tf.distribute.Strategy) -> Totals:
    """Returns what adds up the workers' logs and the state of their metrics. Collective.

    Between logging points every worker's metrics hold its own examples. Afterwards rank zero's hold the examples of
    all, and the others' none, so that rank zero's are what is committed and nothing is counted twice. At the end of
    an epoch or of an evaluation, where Keras reads them and then resets them, the total stays everywhere.
    """
    if not isinstance(strategy, WorkerStrategy):
        return lambda logs, everywhere: logs
    collectives, is_rank_zero = strategy.collectives, strategy.topology.is_rank_zero

    @tf.function(reduce_retracing=True)
    def add_up(logs: Any) -> Any:
        state = [variable.value for variable in model.metrics_variables]
        leaves = tf.nest.flatten(logs)
        sums = collectives.sum_all([*leaves, *(variable.read_value() for variable in state)])
        for variable, total in zip(state, sums[len(leaves) :], strict=True):
            variable.assign(total)
        return with_tracked(model, tf.nest.pack_sequence_as(logs, sums[: len(leaves)]))

    def totals_of(logs: Any, everywhere: bool) -> Any:
        with collectives.waiting():
            logs = add_up(logs)
        if not everywhere and not is_rank_zero:
            for variable in model.metrics_variables:
                variable.assign(tf.zeros_like(variable.value))
        return logs

    return totals_of
