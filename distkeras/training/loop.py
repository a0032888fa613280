"""The loop: Keras's `fit` drives epochs, callbacks and validation; every step inside it is ours.

Read `TrainingLoop.run` first, then `_train`: what Keras calls once a logging interval.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from distkeras.observability.timers import StepTimer
from distkeras.training.callbacks import LoggingPointCallbacks
from distkeras.training.execution import testing_chunk, training_chunk
from distkeras.training.schedule import ChunkSize, Cursor
from distkeras.training.state import restore_metrics
from distkeras.training.step import Change
from distkeras.training.totals import Totals


@dataclass(frozen=True)
class Validation:
    """Validation data: an endless repetition of the same steps, so that one iterator serves all epochs.

    Attributes:
        dataset: Batches, as `data.pipeline.evaluation_dataset` makes them, repeated.
        num_steps: Steps of one pass.
    """

    dataset: Any
    num_steps: int


@dataclass
class TrainingLoop:
    """Trains one model from where the cursor stands to the last epoch.

    Attributes:
        model: A compiled model, created under `strategy`.
        strategy: Where it runs.
        cursor: Where training stands; moved by the loop.
        epochs: Epochs of the whole run.
        dataset: Endless batches, each of one replica, that begin at the cursor's step.
        examples_in_step: From a step's index in its epoch to its number of examples.
        validation: Validation data, or None.
        totals: Adds up the logs and metrics of all workers.
        jit_compile: Whether XLA compiles the step.
        deterministic: Whether TensorFlow's determinism is on.
        change: What each replica does to its training batch first; None: nothing.
        chunk_size: Steps of one call into TensorFlow.
        timer: What measures the steps.
        epoch_metrics: State of the running metrics where training resumes inside an epoch, by name as
            `state.capture` has it; else None.
        average: Gives every replica the mean of the state that each keeps for itself; called at the end of epochs.
        meet: Called where workers that train apart meet.
        asked_to_stop: The number of the signal that asked this worker to stop, or 0.
        after_chunk: Called whenever steps are complete and the model is consistent: commits, stops, watches; with
            the signal that asked any of the workers to stop, the same on all of them, or 0.
        at_logging_point: Called with the step at the end of each logging interval, where workers have met.
    """

    model: keras.Model
    strategy: tf.distribute.Strategy
    cursor: Cursor
    epochs: int
    dataset: Any
    examples_in_step: Callable[[int], int]
    validation: Validation | None = None
    totals: Totals = lambda logs, everywhere: logs
    jit_compile: bool = False
    deterministic: bool = False
    change: Change | None = None
    chunk_size: ChunkSize = field(default_factory=ChunkSize)
    timer: StepTimer = field(default_factory=StepTimer)
    epoch_metrics: Mapping[str, np.ndarray] | None = None
    average: Callable[[], None] = lambda: None
    meet: Callable[[], None] = lambda: None
    asked_to_stop: Callable[[], int] = lambda: 0
    after_chunk: Callable[[int], None] = lambda stop: None
    at_logging_point: Callable[[int], None] = lambda step: None

    def run(self, callbacks: Sequence[keras.callbacks.Callback] = ()) -> None:
        """Trains until the last epoch, or until a callback sets `model.stop_training`. Collective."""
        cursor, validation = self.cursor, self.validation
        self._chunk = training_chunk(
            self.model,
            self.strategy,
            jit_compile=self.jit_compile,
            deterministic=self.deterministic,
            change=self.change,
        )
        self.model.train_function = self._train
        self.model.steps_per_execution = cursor.interval
        if validation is not None:
            self.model.test_function = testing(
                self.model, self.strategy, validation, cursor.interval, self.totals
            )
        self._batches = iter(self.dataset)
        self.model.fit(
            NoData(self.dataset.element_spec),
            epochs=self.epochs,
            initial_epoch=cursor.epoch,
            steps_per_epoch=cursor.steps_per_epoch,
            callbacks=LoggingPointCallbacks(callbacks, cursor=cursor, model=self.model, epochs=self.epochs),
            validation_data=validation and NoData(validation.dataset.element_spec),
            validation_steps=validation and validation.num_steps,
            shuffle=False,  # the data set has its order already; True makes Keras warn
            verbose=0,
        )

    def _train(self, _: Any) -> Any:
        """Runs one logging interval and returns the logs at its end."""
        cursor, logs = self.cursor, {}
        end = cursor.next_interval()
        if cursor.ran and self.epoch_metrics is not None:
            restore_metrics(self.model, self.epoch_metrics)
            self.epoch_metrics = None
        while cursor.step < end:
            logs, stop = self._run_chunk(cursor.chunk(end, self.chunk_size.steps))
            if not cursor.workers_met:
                continue
            self.meet()
            if cursor.at_epoch_end:
                self.average()
            self.after_chunk(stop)
        if cursor.ran:
            logs = self.totals(logs, cursor.at_epoch_end)
        if cursor.ran and cursor.workers_met:
            self.at_logging_point(cursor.step)
        return logs

    def _run_chunk(self, num_steps: int) -> tuple[Any, int]:
        begin = time.perf_counter()
        # The largest vote counts: any signal stops all workers, and the slowest of them sizes the next chunk.
        votes = (self.asked_to_stop(), -self.chunk_size.wish)
        logs, waited, (stop, size) = self._chunk(self._batches, num_steps, votes)
        self.chunk_size.steps = -size
        self.chunk_size.observe(num_steps, time.perf_counter() - begin)
        first = self.cursor.step % self.cursor.steps_per_epoch
        self.cursor.step += num_steps
        self.timer.waited(waited)
        self.timer.step(num_steps, sum(map(self.examples_in_step, range(first, first + num_steps))))
        return logs, stop


def testing(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    validation: Validation,
    interval: int,
    totals: Totals,
) -> Callable[[Any], Any]:
    """Returns a Keras `test_function` that runs the steps of `validation` in intervals, as often as Keras asks."""
    chunk = testing_chunk(model, strategy)
    cursor = Cursor(steps_per_epoch=validation.num_steps, interval=interval)
    # Not before it is needed: it reads ahead.
    batches = cache(lambda: iter(validation.dataset))

    def test(_: Any) -> Any:
        begin = cursor.asked
        end = cursor.next_interval()
        return totals(chunk(batches(), end - begin), end % validation.num_steps == 0)

    return test


class NoData(DataAdapter):
    """What Keras is given as data: its loop counts steps, and ours reads.

    From data that it reads itself Keras makes an iterator for each validation, and on replicas one more each time,
    of which it takes a batch only to see its shape.

    Args:
        element_spec: What a batch of one replica is like, as `tf.data.Dataset` has it.
    """

    def __init__(self, element_spec: Any) -> None:
        self._element_spec = element_spec

    @property
    def num_batches(self) -> None:
        """Unknown: `steps_per_epoch` says it."""
        return None

    def get_tf_dataset(self) -> Any:
        """Returns what Keras takes for a data set that is distributed already, and so leaves as it is."""
        return _Specs(self._element_spec)


class _Specs(tf.distribute.DistributedDataset):
    def __init__(self, element_spec: Any) -> None:
        self._element_spec = element_spec

    @property
    def element_spec(self) -> Any:
        return self._element_spec

    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat(self._element_spec)
