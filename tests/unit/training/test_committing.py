"""A stop is committed by all workers before any ends, and waits for what the end of an epoch still brings."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from distkeras.errors import PreemptedError
from distkeras.training.committing import CommitPlan, Committer
from distkeras.training.schedule import Cursor

SIGTERM = 15


class Writer:
    """Notes what a background writer is asked for."""

    def __init__(self, events: list) -> None:
        self._events = events

    def raise_pending(self) -> None:
        pass

    def submit(self, step, files, metadata) -> None:
        self._events.append(("commit", step))

    def close(self) -> None:
        self._events.append("written")


@pytest.fixture
def stopped():
    """Runs to a step of an epoch of 10, told to stop; returns what happened, and the committer."""
    events: list = []

    def run_to(step: int, *, interval: int, epochs: int = 3) -> tuple[list, Committer]:
        cursor = Cursor(steps_per_epoch=10, interval=interval)
        while cursor.asked < step:
            cursor.next_interval()
        cursor.step = step
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        committer = Committer(
            CommitPlan(1, "again", {}),
            cursor=cursor,
            epochs=epochs,
            capture=lambda: {"weights/00000": np.zeros(1)},
            callbacks=(),
            writer=Writer(events),
            barrier=lambda: events.append("all there"),
        )
        committer.set_model(model)
        model.stop_training = False
        return events, committer

    return run_to


def test_within_an_interval_it_is_at_once(stopped) -> None:
    events, committer = stopped(3, interval=5)
    with pytest.raises(PreemptedError):
        committer.after_chunk(SIGTERM)
    assert events == [("commit", 3), "written", "all there"]


def test_at_a_logging_point_it_waits_until_that_is_written(stopped) -> None:
    events, committer = stopped(5, interval=5)
    committer.after_chunk(SIGTERM)
    assert events == []
    with pytest.raises(PreemptedError):
        committer.on_train_batch_end(4)
    assert events == [("commit", 5), "written", "all there"]


def test_at_the_end_of_an_epoch_it_waits_for_validation(stopped) -> None:
    events, committer = stopped(10, interval=5)
    committer.after_chunk(SIGTERM)
    committer.on_train_batch_end(9)
    assert events == []
    with pytest.raises(PreemptedError):
        committer.on_epoch_end(0)
    assert events == [("commit", 10), "written", "all there"]


def test_at_the_end_of_the_run_it_is_late(stopped) -> None:
    events, committer = stopped(30, interval=5)
    committer.after_chunk(SIGTERM)
    committer.on_epoch_end(2)
    assert events == [("commit", 30)]
