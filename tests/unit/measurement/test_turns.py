"""Keras's calls, in Keras's order: what lies between them is charged to what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

from distkeras.measurement.clock import Clock, Order
from distkeras.measurement.turns import with_turns
from distkeras.training.committing import CommitPlan, Committer
from distkeras.training.schedule import Cursor

ORDER = Order(
    seconds=60.0,
    talks=False,
    is_bare=False,
    repeats_input=True,
    num_processes=1,
    num_shares=1,
    sees_all_gpus=True,
    counts_energy=False,
    visible_gpus=None,
)
EPOCHS = 10


class Time:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def passes(self, seconds: float) -> None:
        self.seconds += seconds


class Logging(keras.callbacks.Callback):
    """A second at a logging point, two at the end of an epoch."""

    def __init__(self, now: Time) -> None:
        super().__init__()
        self._now = now

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._now.passes(1.0)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._now.passes(2.0)


def committer(now: Time, cursor: Cursor) -> Committer:
    def capture() -> dict[str, Any]:
        now.passes(4.0)
        return {}

    return Committer(
        CommitPlan(1, "", {}), cursor=cursor, epochs=EPOCHS, capture=capture, callbacks=[], writer=None
    )


@pytest.fixture
def parts_of(tmp_path: Path) -> Callable[..., dict[str, float]]:
    """Trains epochs of two intervals of 20 seconds and returns the seconds of each part of one epoch."""

    def train(*, validation_seconds: float) -> dict[str, float]:
        now, cursor = Time(), Cursor(steps_per_epoch=2, interval=1)
        clock = Clock(ORDER, tmp_path, 0, now)
        own = [Logging(now), committer(now, cursor)]
        validates = validation_seconds > 0
        callbacks = with_turns(own, clock, cursor, validates=validates)
        model = keras.Sequential()
        model.stop_training = False
        together = keras.callbacks.CallbackList(callbacks, model=model)
        for epoch in range(EPOCHS):
            for batch in range(2):
                together.on_train_batch_begin(batch)
                now.passes(20.0)
                cursor.step += 1
                clock.timer.step(1, 8)
                clock.after_chunk(cursor, 0)
                together.on_train_batch_end(batch)
            now.passes(validation_seconds)
            together.on_epoch_end(epoch)
            now.passes(0.5)  # Keras's own
        clock.end()
        result = clock.result()
        return {part: value * 2 / 1000 for part, value in result["part_milliseconds"].items()}

    return train


def test_each_part_of_an_epoch_is_charged_to_what_it_is(parts_of) -> None:
    parts = parts_of(validation_seconds=8.0)
    # The measurement begins within an epoch.
    assert parts == pytest.approx({"steps": 40, "commits": 4, "validation": 8, "logging": 4.5}, rel=0.1)


def test_without_validation_the_turn_of_an_epoch_is_logging(parts_of) -> None:
    parts = parts_of(validation_seconds=0.0)
    assert parts == pytest.approx({"steps": 40, "commits": 4, "validation": 0, "logging": 4.5}, rel=0.1)
