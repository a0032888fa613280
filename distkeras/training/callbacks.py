"""Keras callbacks: the list that calls them at logging points, and the one that writes those points down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from distkeras.errors import TrainingError
from distkeras.observability.progress import Progress
from distkeras.observability.progress_line import ProgressPoint
from distkeras.observability.timers import StepTimer
from distkeras.observability.writers import MetricWriter
from distkeras.training.schedule import Cursor


class LoggingPointCallbacks(keras.callbacks.CallbackList):
    """Calls Keras callbacks once a logging point, and not again for steps that were trained before a resume.

    Args:
        callbacks: Any Keras callbacks, unchanged.
        cursor: Where training stands.
        model: The model they belong to.
        epochs: Epochs of the run.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        *,
        cursor: Cursor,
        model: keras.Model,
        epochs: int,
    ) -> None:
        self._cursor = cursor
        steps = cursor.steps_per_epoch
        super().__init__(
            list(callbacks), add_history=True, model=model, epochs=epochs, steps=steps, verbose=0
        )
        # In a thread of its own a callback would see the model after the loop has moved on.
        self._async_train = self._async_test = self._async_predict = False

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Passes on the beginning of an interval that still has steps to run."""
        if self._cursor.has_steps_to_run:
            super().on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Passes on a logging point; `batch` is the index of the interval's last step in its epoch."""
        if self._cursor.ran:
            super().on_train_batch_end(min(batch, self._cursor.steps_per_epoch - 1), logs)


class LogWriting(keras.callbacks.Callback):
    """Writes every logging point and epoch, shows them, and stops a run whose loss is no longer a number.

    Args:
        cursor: Where training stands.
        timer: What measures the steps.
        writer: Where metrics are written.
        progress: Where a person sees them.
    """

    def __init__(self, cursor: Cursor, timer: StepTimer, writer: MetricWriter, progress: Progress) -> None:
        super().__init__()
        self._cursor = cursor
        self._timer = timer
        self._writer = writer
        self._progress = progress
        self._last: ProgressPoint | None = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Leaves what happened since the last step, such as validation, out of the step time."""
        self._timer.start()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Writes one logging point."""
        metrics = scalars(logs)
        interval = self._timer.summarize()
        step, epoch = self._cursor.step, (self._cursor.step - 1) // self._cursor.steps_per_epoch
        self._writer.write(step, epoch, "train", metrics, **interval.throughput())
        self._last = ProgressPoint(epoch, step, interval, metrics)
        if not self._cursor.at_epoch_end:  # there `on_epoch_end` says the same and more
            self._progress.update(self._last)
        _require_finite(metrics, step)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Writes the epoch's metrics, those of the validation data among them."""
        metrics = scalars(logs)
        self._writer.write(self._cursor.step, epoch, "epoch", metrics)
        if self._last is not None:
            self._progress.update(ProgressPoint(epoch, self._cursor.step, self._last.interval, metrics))


def scalars(logs: Mapping[str, Any] | None) -> dict[str, float]:
    """Returns plain numbers; a metric of several numbers, such as F1 a class, becomes `name_0`, `name_1`, ..."""
    numbers: dict[str, float] = {}
    for name, value in (logs or {}).items():
        values = np.asarray(value).reshape(-1)
        names = [name] if values.size == 1 else [f"{name}_{index}" for index in range(values.size)]
        numbers.update(zip(names, map(float, values), strict=True))
    return numbers


def _require_finite(metrics: Mapping[str, float], step: int) -> None:
    broken = {name: value for name, value in metrics.items() if "loss" in name and not math.isfinite(value)}
    if broken:
        raise TrainingError(
            "The loss is no longer a finite number; the last commit before it is kept.",
            place=f"step {step}",
            received=broken,
            remedy="lower training.optimizer.learning_rate, set global_clipnorm, or look for NaN in the data",
        )
