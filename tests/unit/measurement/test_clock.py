"""When a trial begins to measure, when it is over, and what it says then."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from distkeras.errors import ConfigError
from distkeras.measurement.clock import LEAST_CHUNKS, Clock, Order, TimeIsUp
from distkeras.training.schedule import Cursor

ORDER: dict[str, Any] = {
    "seconds": 10.0,
    "talks": False,
    "is_bare": True,
    "repeats_input": False,
    "num_processes": 1,
    "num_shares": 1,
    "sees_all_gpus": True,
    "counts_energy": False,
    "visible_gpus": None,
}


@dataclass
class Training:
    """Chunks of ten steps of ten examples each, which take as long as they are told."""

    folder: Path
    order: Order
    steps_per_epoch: int = 10**6
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.clock = Clock(self.order, self.folder, 0, lambda: self.seconds)
        self.cursor = Cursor(self.steps_per_epoch, 10)

    def run(self, *chunks: float) -> bool:
        """Runs chunks of so many seconds; returns whether time is up after one of them."""
        for seconds in chunks:
            stop = self.clock.asked_to_stop()
            self.seconds += seconds
            self.cursor.step += 10
            self.clock.timer.step(10, 100)
            try:
                self.clock.after_chunk(self.cursor, stop)
            except TimeIsUp:
                return True
        return False


@pytest.fixture
def training(tmp_path):
    def start(steps_per_epoch: int = 10**6, **changes: Any) -> Training:
        return Training(tmp_path, Order(**{**ORDER, **changes}), steps_per_epoch)

    return start


def test_it_measures_what_follows_the_warm_up(training) -> None:
    one = training()
    # Tracing, then a fifth of the ten seconds for the warm-up, then ten that count.
    assert not one.run(30.0, 1.0, 1.0, *[0.5] * 20)
    assert one.run(0.5)
    result = one.clock.result()
    assert result["warm_up_seconds"] == 32.0
    assert result["seconds"] == 10.5
    assert (result["num_steps"], result["num_examples"]) == (210, 2100)
    assert result["step_milliseconds"]["p50"] == pytest.approx(50, rel=0.02)
    assert result["deviation_milliseconds"] == 0


def test_what_is_not_steps_is_timed_by_its_kind_once_it_is_warm(training) -> None:
    one = training()
    one.clock.turn_to("commits")
    one.run(30.0, 1.0, 1.0)
    one.clock.turn_to("validation")
    one.seconds += 3.0
    one.clock.turn_to("steps")
    one.run(2.0, 2.0)
    one.clock.turn_to("commits")
    one.seconds += 1.0
    one.clock.turn_to("logging")
    one.seconds += 0.5
    one.clock.turn_to("steps")
    assert one.run(4.0, 4.0)
    one.clock.end()
    # Twenty steps in chunks that were not asked to stop, and those that were.
    num_steps = one.clock.result()["num_steps"]
    parts = {part: value * num_steps for part, value in one.clock.result()["part_milliseconds"].items()}
    assert parts == pytest.approx(
        {"steps": 1000 * (one.seconds - 32.0 - 4.5), "commits": 1000, "validation": 3000, "logging": 500}
    )


def test_the_deviation_is_that_of_most_steps(training) -> None:
    one = training(seconds=20.0)
    assert not one.run(1.0, 2.0, 2.0)
    assert one.run(*[1.0] * 10, *[1.5] * 10)
    assert one.clock.result()["deviation_milliseconds"] == pytest.approx(50 / 1.2816, rel=0.05)


def test_slow_steps_are_not_judged_by_one(training) -> None:
    one = training()
    assert not one.run(60.0, 60.0, 60.0)
    assert not one.run(*[60.0] * LEAST_CHUNKS)
    assert one.run(60.0)
    assert one.clock.result()["seconds"] == 60.0 * (LEAST_CHUNKS + 1)


def test_the_end_of_a_first_epoch_that_comes_soon_belongs_to_the_warm_up(training) -> None:
    one = training(is_bare=False, steps_per_epoch=80)
    assert not one.run(30.0, *[1.0] * 8)
    assert one.clock.timer.overall().warm_up_seconds == 38.0


def test_so_does_one_that_slow_steps_would_reach_before_there_are_enough(training) -> None:
    one = training(is_bare=False, steps_per_epoch=70)
    # Enough are forty steps of six seconds each chunk, though ten seconds are wanted.
    assert not one.run(30.0, *[6.0] * 6)
    assert one.clock.timer.overall().warm_up_seconds == 0
    assert not one.run(6.0)
    assert one.clock.timer.overall().warm_up_seconds == 72.0


def test_the_end_of_a_first_epoch_that_comes_late_is_not_waited_for(training) -> None:
    one = training(is_bare=False, steps_per_epoch=1000)
    assert not one.run(30.0, *[1.0] * 8)
    assert one.clock.timer.overall().warm_up_seconds == 32.0


def test_runs_side_by_side_wait_until_all_are_warm(training, tmp_path) -> None:
    one = training(num_processes=2)
    assert not one.run(*[1.0] * 100)
    assert (tmp_path / "warm-0").exists()
    (tmp_path / "warm-1").touch()
    assert one.run(*[1.0] * 12)
    assert one.clock.result()["seconds"] == 11.0


def test_workers_of_one_run_do_not(training, tmp_path) -> None:
    assert training(num_processes=2, talks=True).run(*[1.0] * 20)
    assert not list(tmp_path.iterdir())


def test_training_that_ends_before_it_was_measured_is_refused(training) -> None:
    one = training()
    one.run(1.0, 1.0)
    one.clock.end()
    with pytest.raises(ConfigError, match="ended before its speed could be measured"):
        one.clock.result()


def test_training_that_ends_while_it_is_measured_counts(training) -> None:
    one = training()
    assert not one.run(30.0, 1.0, 1.0, 2.0, 2.0)
    one.clock.end()
    one.clock.end()
    assert one.clock.result()["seconds"] == 4.0
