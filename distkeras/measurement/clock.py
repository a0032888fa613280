"""When a trial begins to measure and when it is over, and what it measured in between."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from distkeras.errors import ConfigError
from distkeras.measurement.energy import EnergyMeter
from distkeras.observability.timers import StepTimer

if TYPE_CHECKING:
    from distkeras.training.schedule import Cursor

Part = Literal["steps", "commits", "validation", "logging"]
"""What a run does at a time. `logging`: with callbacks and the turn of epochs."""

# Calls into the engine before and while it measures, however long they take.
LEAST_CHUNKS = 3
# Of a normal distribution: its 90th percentile less its median, in deviations.
_P90_DEVIATIONS = 1.2816


@dataclass(frozen=True)
class Order:
    """What a process of a trial is told, beside its config; JSON values.

    Attributes:
        seconds: How long to measure.
        talks: Whether it is one of several workers.
        is_bare: Whether epochs are as long as they can be, without validation.
        repeats_input: Whether the input is a few batches again and again.
        num_processes: Processes that measure at the same time.
        num_shares: As one of how many it uses the cores of the machine.
        sees_all_gpus: Whether it may use every GPU that the user has.
        counts_energy: Whether the first process tells what its machine takes: all of them are on it.
        visible_gpus: CUDA_VISIBLE_DEVICES as the user has it; None: it is not set.
    """

    seconds: float
    talks: bool
    is_bare: bool
    repeats_input: bool
    num_processes: int
    num_shares: int
    sees_all_gpus: bool
    counts_energy: bool
    visible_gpus: str | None


class TimeIsUp(BaseException):
    """Leaves the loop past everything that handles errors."""


class Clock:
    """Says when a trial is warm and when it is over, and measures what lies between.

    Args:
        order: What the process was told.
        folder: Where processes that measure at the same time tell each other that they are warm.
        rank: Index of this process among them.
        now: Monotonic seconds.
    """

    def __init__(
        self, order: Order, folder: Path, rank: int, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._order, self._rank, self._folder, self._now = order, rank, folder, now
        self.timer = StepTimer(now)
        self._warm_up = max(0.5, order.seconds / 5)
        self._num_chunks = 0
        self._first_chunk: float | None = None
        self._begin: float | None = None
        self._cpu = 0.0
        self._meter = EnergyMeter() if order.counts_energy and rank == 0 else None
        self._joules: float | None = None
        self._steps_per_epoch = 0
        self._facts: dict[str, Any] = {}
        self._is_over = False
        self._part: Part = "steps"
        self._turned = now()
        self._parts: dict[Part, float] = dict.fromkeys(get_args(Part), 0.0)

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Adds what is known of the model to what is measured."""
        self._facts = dict(facts)

    def turn_to(self, part: Part) -> None:
        """Says what follows; the time since the last turn belongs to what was said then."""
        now = self._now()
        if self._begin is not None and not self._is_over:
            self._parts[self._part] += now - max(self._turned, self._begin)
        self._part, self._turned = part, now

    def asked_to_stop(self) -> int:
        """Votes to leave: any number but 0 counts as a signal does."""
        if self._begin is None or self._num_chunks < LEAST_CHUNKS:
            return 0
        return int(self._now() - self._begin >= self._order.seconds)

    def after_chunk(self, cursor: Cursor, stop: int) -> None:
        """Notes steps that are complete: begins to measure once they say something, leaves when time is up.

        Raises:
            TimeIsUp: On all workers after the same step.
        """
        if stop:
            self.end()
            raise TimeIsUp
        self._num_chunks += 1
        self._steps_per_epoch = cursor.steps_per_epoch
        if self._begin is None and self._is_warm(cursor):
            self.timer.summarize()  # ends the warm-up
            self._joules = self._meter and self._meter.read()
            self._num_chunks, self._begin, self._cpu = 0, self._now(), _cpu_seconds()

    def end(self) -> None:
        """Ends the measurement; once."""
        if self._begin is not None and not self._is_over:
            self.turn_to("steps")
            self.timer.summarize()
            self._cpu = _cpu_seconds() - self._cpu
            if self._meter is not None and self._joules is not None:
                self._joules = (self._meter.read() or 0.0) - self._joules
            self._is_over = True

    def result(self) -> dict[str, Any]:
        """Returns what was measured, as JSON values.

        Raises:
            ConfigError: If the data ended before that.
        """
        overall = self.timer.overall()
        if not self._is_over or not overall.num_steps:
            raise ConfigError(
                "Training ended before its speed could be measured.",
                place="data.source",
                remedy="give it more examples, or bench with fewer --seconds",
            )
        percentiles = overall.step_milliseconds
        return {
            "num_steps": overall.num_steps,
            "num_examples": overall.num_examples,
            "steps_per_epoch": self._steps_per_epoch,
            "seconds": overall.seconds,
            "examples_per_second": overall.examples_per_second,
            "step_milliseconds": {f"p{percent}": value for percent, value in percentiles.items()},
            "deviation_milliseconds": (percentiles[90] - percentiles[50]) / _P90_DEVIATIONS,
            "input_wait_ratio": overall.input_wait_ratio,
            "part_milliseconds": {
                part: 1000 * seconds / overall.num_steps for part, seconds in self._parts.items()
            },
            "warm_up_seconds": overall.warm_up_seconds,
            "cpu_seconds": self._cpu,
            "joules": self._joules,
            "peak_memory_bytes": _peak_memory_bytes(),
            **self._facts,
        }

    def _is_warm(self, cursor: Cursor) -> bool:
        """Whether everything was traced, buffers are filled, and the others are as far."""
        now = self._now()
        if self._first_chunk is None:
            self._first_chunk = now
        since = now - self._first_chunk
        if since < self._warm_up or self._num_chunks < LEAST_CHUNKS:
            return False
        if not self._order.is_bare and self._would_end_first_epoch(cursor, since):
            return False  # it traces validation
        return self._order.talks or self._others_are_warm()

    def _would_end_first_epoch(self, cursor: Cursor, since: float) -> bool:
        """Whether the end of the first epoch, at this pace, would fall into the measurement."""
        step, steps = cursor.step, cursor.steps_per_epoch
        # It ends with the second chunk after its time, and not before there were enough: with slow steps much later.
        chunk = since / (self._num_chunks - 1)
        longest = max(self._order.seconds + 2 * chunk, (LEAST_CHUNKS + 1) * chunk)
        return step <= steps and (steps + 1 - step) * since / max(1, step - 1) <= longest

    def _others_are_warm(self) -> bool:
        files = [self._folder / f"warm-{rank}" for rank in range(self._order.num_processes)]
        files[self._rank].touch()
        return all(path.exists() for path in files)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
