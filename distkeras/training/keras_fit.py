"""Steps of the global batch that Keras's own `fit` and `evaluate` drive: on the replicas of one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from distkeras.distribution.reduction import averaging
from distkeras.training.execution import for_batches_like, step_function


def give_to_keras(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Gives a model steps that Keras's own `fit` and `evaluate` drive, on any data."""
    average: Callable[[], None] | None = None

    def average_again() -> None:
        nonlocal average
        average = average or averaging(model, strategy)
        average()

    model.train_function = _function(model, strategy, "train_step")
    model.test_function = _function(model, strategy, "test_step", before=average_again)
    model.predict_function = None


def next_batches(iterator: Any, count: int) -> Iterator[Any]:
    """Yields the next batches of an iterator, fewer where it ends."""
    for _ in range(count):
        try:
            yield next(iterator)
        except (StopIteration, tf.errors.OutOfRangeError):
            return


def _function(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    method: str,
    before: Callable[[], None] = lambda: None,
) -> Callable[[Any], Any]:
    """Returns a Keras `train_function`: as many steps as the model's `steps_per_execution`, or what is left."""
    jit_compile = model.jit_compile and strategy.num_replicas_in_sync == 1
    step = step_function(model, strategy, method, jit_compile)

    def function(iterator: Any) -> Any:
        before()
        logs: Any = None
        # `train_on_batch` comes with a generator, which cannot say what its batches are like.
        spec = getattr(iterator, "element_spec", None)
        for batch in next_batches(iterator, model.steps_per_execution):
            logs = for_batches_like(spec, step)(batch)
        if logs is None:
            raise StopIteration
        return logs

    return function
