"""Tells the clock of a trial what a run does beside its steps, from between the run's own callbacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from distkeras.measurement.clock import Clock, Part
from distkeras.training.committing import Committer
from distkeras.training.schedule import Cursor


def with_turns(
    callbacks: Sequence[keras.callbacks.Callback], clock: Clock, cursor: Cursor, *, validates: bool
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks of a run, and among them some that tell the clock what comes next.

    Args:
        callbacks: In the order in which Keras calls them.
        clock: The trial's.
        cursor: Where training stands.
        validates: Whether the run has validation data.
    """
    found: list[keras.callbacks.Callback] = [_AroundSteps(clock)]
    for callback in callbacks:
        found += [_Turn(clock, "commits" if isinstance(callback, Committer) else "logging"), callback]
    found.append(_Turn(clock, "logging"))
    return [*found, _BeforeValidation(clock, cursor)] if validates else found


class _AroundSteps(keras.callbacks.Callback):
    """The first of all."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._clock.turn_to("steps")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._clock.turn_to("logging")


class _Turn(keras.callbacks.Callback):
    """What the callback that follows does, at logging points and at the end of epochs, is of one kind."""

    def __init__(self, clock: Clock, part: Part) -> None:
        super().__init__()
        self._clock = clock
        self._part: Part = part

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._clock.turn_to(self._part)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._clock.turn_to(self._part)


class _BeforeValidation(keras.callbacks.Callback):
    """The last of all: Keras validates between this end of an epoch's last step and `on_epoch_end`. What it prepares
    for that, a new iterator each time, takes longer than a few batches: by `on_test_begin` that is over."""

    def __init__(self, clock: Clock, cursor: Cursor) -> None:
        super().__init__()
        self._clock, self._cursor = clock, cursor

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._cursor.at_epoch_end:
            self._clock.turn_to("validation")
