"""Where the time of a step goes: waiting for input, or computing."""

from __future__ import annotations

import math
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# Step times are counted in classes 2% apart: percentiles good to 1%, in memory that does not grow with steps.
_CLASS_WIDTH = math.log(1.02)


@dataclass(frozen=True)
class IntervalSummary:
    """What happened between two logging points, on this worker.

    Attributes:
        num_steps: Steps completed in the interval.
        num_examples: Examples used by them.
        seconds: Their time, without pauses.
        input_wait_seconds: The part of it spent waiting for input.
        memory_bytes: Resident memory of this process at the end of the interval.
        is_warm_up: Whether it is the first interval, which includes tracing and compiling.
    """

    num_steps: int
    num_examples: int
    seconds: float
    input_wait_seconds: float
    memory_bytes: int
    is_warm_up: bool

    @property
    def examples_per_second(self) -> float:
        """Examples used a second."""
        return _ratio(self.num_examples, self.seconds)

    @property
    def step_milliseconds(self) -> float:
        """Mean time of a step, waiting included."""
        return 1000 * _ratio(self.seconds, self.num_steps)

    @property
    def input_wait_ratio(self) -> float:
        """Share of the time spent waiting for input, in `[0, 1]`."""
        return min(_ratio(self.input_wait_seconds, self.seconds), 1.0)

    def throughput(self) -> dict[str, float]:
        """Returns the numbers that a `train` row of metrics.jsonl carries; `warm_up` only on the first."""
        numbers: dict[str, float] = {
            "examples_per_second": self.examples_per_second,
            "input_wait_ratio": self.input_wait_ratio,
            "step_milliseconds": self.step_milliseconds,
            "memory_bytes": self.memory_bytes,
        }
        return numbers | ({"warm_up": True} if self.is_warm_up else {})


@dataclass(frozen=True)
class OverallSummary:
    """All intervals of one attempt after the warm-up, on this worker.

    Attributes:
        num_steps: Steps completed after the warm-up.
        num_examples: Examples used by them.
        seconds: Their time, without pauses.
        input_wait_ratio: Share of that time spent waiting for input.
        warm_up_seconds: Time of the first interval, which includes tracing and compiling.
        step_milliseconds: Percentiles of the step time: 50, 90 and 99; empty before any step.
    """

    num_steps: int
    num_examples: int
    seconds: float
    input_wait_ratio: float
    warm_up_seconds: float
    step_milliseconds: dict[int, float]

    @property
    def examples_per_second(self) -> float:
        """Examples used a second."""
        return _ratio(self.num_examples, self.seconds)


class StepTimer:
    """Measures steps, and apart from them the time that they wait for input.

    Call `start` before the first step, `step` after each call that ran one or more steps, and `summarize` at
    each logging point. What happens inside `paused` (validation, saving) is not time of a step.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._classes: Counter[int] = Counter()
        self._warm_up: IntervalSummary | None = None
        self._total = IntervalSummary(0, 0, 0.0, 0.0, 0, False)
        self.start()

    def start(self) -> None:
        """Begins an interval now; time before it is not counted."""
        self._begin = self._mark = self._clock()
        self._num_steps = self._num_examples = 0
        self._waited = 0.0

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Counts the block as waiting for input."""
        begin = self._clock()
        try:
            yield
        finally:
            self.waited(self._clock() - begin)

    def waited(self, seconds: float) -> None:
        """Counts seconds that were spent waiting for input where Python cannot see it: inside TensorFlow."""
        self._waited += seconds

    @contextmanager
    def paused(self) -> Generator[None]:
        """Leaves the block out of the measurement."""
        begin = self._clock()
        try:
            yield
        finally:
            pause = self._clock() - begin
            self._begin += pause
            self._mark += pause

    def step(self, num_steps: int, num_examples: int) -> None:
        """Counts steps that are complete, and the time since the previous call as theirs.

        Args:
            num_steps: How many steps ran in the call; their mean enters the percentiles that many times.
            num_examples: Examples they used, over all replicas.
        """
        now = self._clock()
        elapsed, self._mark = now - self._mark, now
        self._num_steps += num_steps
        self._num_examples += num_examples
        if self._warm_up is not None and num_steps and elapsed > 0:
            self._classes[round(math.log(elapsed / num_steps) / _CLASS_WIDTH)] += num_steps

    def summarize(self) -> IntervalSummary:
        """Ends the interval, begins the next one, and returns what the ended one held.

        On a device that runs ahead of Python, call it after the metrics were fetched: only then are the
        steps really complete, and the time of that fetch is theirs.
        """
        is_warm_up = self._warm_up is None
        interval = IntervalSummary(
            self._num_steps,
            self._num_examples,
            self._clock() - self._begin,
            self._waited,
            resident_memory_bytes(),
            is_warm_up,
        )
        if is_warm_up:
            self._warm_up = interval
        else:
            self._total = _sum(self._total, interval)
        self.start()
        return interval

    def overall(self) -> OverallSummary:
        """Returns all finished intervals together; the warm-up apart."""
        return OverallSummary(
            num_steps=self._total.num_steps,
            num_examples=self._total.num_examples,
            seconds=self._total.seconds,
            input_wait_ratio=self._total.input_wait_ratio,
            warm_up_seconds=self._warm_up.seconds if self._warm_up else 0.0,
            step_milliseconds=_percentiles(self._classes),
        )


def resident_memory_bytes() -> int:
    """Returns the memory of this process that is in RAM; where only its peak is known, the peak."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _sum(a: IntervalSummary, b: IntervalSummary) -> IntervalSummary:
    return IntervalSummary(
        a.num_steps + b.num_steps,
        a.num_examples + b.num_examples,
        a.seconds + b.seconds,
        a.input_wait_seconds + b.input_wait_seconds,
        b.memory_bytes,
        False,
    )


def _percentiles(classes: Counter[int]) -> dict[int, float]:
    total = sum(classes.values())
    return {percent: _percentile(classes, percent * total / 100) for percent in (50, 90, 99)} if total else {}


def _percentile(classes: Counter[int], num_below: float) -> float:
    seen = 0
    for index in sorted(classes):
        seen += classes[index]
        if seen >= num_below:
            return 1000 * math.exp(index * _CLASS_WIDTH)
    return 1000 * math.exp(max(classes) * _CLASS_WIDTH)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
