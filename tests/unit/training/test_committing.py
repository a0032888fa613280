"""A stop is committed by all workers before any ends, and waits for what the end of an epoch still brings.

Before the state is copied, what was copied last is written: the copy may take its memory.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from distkeras.checkpoint.writer import BackgroundWriter
from distkeras.errors import PreemptedError, TrainingError
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

    def run_to(step: int, *, interval: int, epochs: int = 3, **every: int) -> tuple[list, Committer]:
        cursor = Cursor(steps_per_epoch=10, interval=interval, **every)
        while cursor.asked < step:
            cursor.next_interval()
        cursor.step = step
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")

        def capture() -> dict[str, np.ndarray]:
            events.append("copied")
            return {"weights/00000": np.zeros(1)}

        committer = Committer(
            CommitPlan(1, "again", {}),
            cursor=cursor,
            epochs=epochs,
            capture=capture,
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
    assert events == ["written", "copied", ("commit", 3), "written", "all there"]


def test_at_a_logging_point_it_waits_until_that_is_written(stopped) -> None:
    events, committer = stopped(5, interval=5)
    committer.after_chunk(SIGTERM)
    assert events == []
    with pytest.raises(PreemptedError):
        committer.on_train_batch_end(4)
    assert events == ["written", "copied", ("commit", 5), "written", "all there"]


def test_at_the_end_of_an_epoch_it_waits_for_validation(stopped) -> None:
    events, committer = stopped(10, interval=5)
    committer.after_chunk(SIGTERM)
    committer.on_train_batch_end(9)
    assert events == []
    with pytest.raises(PreemptedError):
        committer.on_epoch_end(0)
    assert events == ["written", "copied", ("commit", 10), "written", "all there"]


def test_at_the_end_of_the_run_it_is_late(stopped) -> None:
    events, committer = stopped(30, interval=5)
    committer.after_chunk(SIGTERM)
    committer.on_epoch_end(2)
    assert events == ["written", "copied", ("commit", 30)]


def test_a_commit_within_an_interval_is_at_once(stopped) -> None:
    events, committer = stopped(2, interval=5, commit_every=2)
    committer.after_chunk(0)
    assert events == ["written", "copied", ("commit", 2)]


def test_a_commit_at_a_logging_point_waits_until_that_is_written(stopped) -> None:
    events, committer = stopped(5, interval=5, commit_every=5)
    committer.after_chunk(0)
    assert events == []
    committer.on_train_batch_end(4)
    assert events == ["written", "copied", ("commit", 5)]


def test_workers_that_have_not_met_do_not_commit(stopped) -> None:
    events, committer = stopped(5, interval=5, commit_every=5, meet_every=2)
    committer.on_train_batch_end(4)
    assert events == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_not_committed(tmp_path: Path, value: float) -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    writer = BackgroundWriter(tmp_path, keep=1)
    committer = Committer(
        CommitPlan(1, "again", {}),
        cursor=Cursor(steps_per_epoch=10, interval=5, step=3),
        epochs=1,
        capture=lambda: {"weights/00000": np.array([1.0, value]), "metrics/00000": np.zeros(1)},
        callbacks=(),
        writer=writer,
    )
    committer.set_model(model)
    committer.commit()
    with pytest.raises(TrainingError, match="1 of the model's weights are no longer finite numbers"):
        committer.commit()
    assert list(tmp_path.iterdir()) == []
