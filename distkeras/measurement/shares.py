"""What a step's time goes into: differences between trials that lack one thing each. Arithmetic on measured numbers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import NormalDist

from distkeras.measurement.passes import median_interval
from distkeras.measurement.plan import LARGE


@dataclass(frozen=True)
class Parts:
    """What a run does beside its steps, in seconds of a step, as far as training stands still for it.

    Attributes:
        commits: Commits.
        validation: Validation.
        logging: Logging, callbacks and the turn of epochs.
    """

    commits: float = 0.0
    validation: float = 0.0
    logging: float = 0.0

    @property
    def seconds(self) -> float:
        """All of them."""
        return self.commits + self.validation + self.logging


@dataclass(frozen=True)
class StepTimes:
    """What the trials of one pass took, each a full step, in seconds.

    Attributes:
        real: As the config says.
        one_batch: With input that costs nothing.
        bare: And without commits, validation, logging and callbacks.
        apart: Of several workers, each one's step where they never talk; of one, nothing.
        deviations: Deviations of these.
        growth: How many times as long a step takes on `LARGE` times the batch, without all that; None: not known.
        parts: What `bare` lacks, as it was timed in `one_batch`.
        real_parts: The same, as it was timed in `real`.
    """

    real: float
    one_batch: float
    bare: float
    apart: Sequence[float] = ()
    deviations: Sequence[float] = ()
    growth: float | None = None
    parts: Parts = Parts()
    real_parts: Parts = Parts()


@dataclass(frozen=True)
class Shares:
    """Shares of a real step; all but `waiting` and `lagging` are the whole of it.

    Attributes:
        input: Waiting for input, and what making it takes from computing.
        commits: Commits.
        validation: Validation.
        logging: Logging, callbacks and the turn of epochs.
        communication: What workers spend on each other.
        waiting: The part of `communication` that is only waiting for the slowest, at least.
        lagging: The part of `waiting` that is for a worker which is slower than the others on average.
        host: What a step costs whatever its batch.
        compute: The rest: what grows with the batch.
    """

    input: float
    commits: float
    validation: float
    logging: float
    communication: float
    waiting: float
    lagging: float
    host: float
    compute: float

    @property
    def keeping(self) -> float:
        """What a run does beside its steps: commits, validation and logging."""
        return self.commits + self.validation + self.logging

    def as_mapping(self) -> dict[str, float]:
        """Returns them by name."""
        return {**asdict(self), "keeping": self.keeping}


def shares_of(times: StepTimes) -> Shares:
    """Returns the shares of a step.

    What lacks a thing cannot take longer than what has it: where it was measured so, that is noise, and the thing
    costs nothing. A step on a batch of B takes `a + b * B`; `a` is the host's, and growth tells its share.
    """
    real = times.real
    # A disk never takes as long as the last time, which is not what input costs.
    as_kept = times.one_batch + times.real_parts.seconds - times.parts.seconds
    one_batch = min(max(as_kept, 0.0), real)
    bare = min(times.bare, one_batch)
    apart = min(statistics.median_low(times.apart), bare) if times.apart else bare
    commits, validation, logging = _kept(one_batch - bare, times.parts)
    fixed = 0.0 if times.growth is None else min(max((LARGE - times.growth) / (LARGE - 1), 0.0), 1.0)
    host = fixed * apart
    communication = (bare - apart) / real
    return Shares(
        input=1 - one_batch / real,
        commits=commits / real,
        validation=validation / real,
        logging=logging / real,
        communication=communication,
        waiting=min(waiting_seconds(times.apart, times.deviations) / real, communication),
        lagging=min(lagging_seconds(times.apart) / real, communication),
        host=host / real,
        compute=(apart - host) / real,
    )


def _kept(seconds: float, parts: Parts) -> tuple[float, float, float]:
    """Returns what of some seconds commits, validation and logging are.

    They cost more than was timed: steps between them come in shorter calls, a commit is written while training goes
    on. Each has as much of the rest as of what was timed: of two trials' difference it is more certain.
    """
    if not parts.seconds:
        return 0.0, 0.0, seconds
    factor = seconds / parts.seconds
    return factor * parts.commits, factor * parts.validation, factor * parts.logging


def lagging_seconds(means: Sequence[float]) -> float:
    """Returns how much longer the slowest worker's mean step is than a typical one's.

    Typical is the median; of two workers, the faster.

    Args:
        means: Mean step of each worker that trains apart, in seconds.
    """
    return max(means) - statistics.median_low(means) if means else 0.0


def waiting_seconds(means: Sequence[float], deviations: Sequence[float]) -> float:
    """Returns how much longer than a typical one's step that of the slowest of independent workers takes.

    Args:
        means: Mean step of each worker that trains apart, in seconds.
        deviations: Deviations of these.
    """
    if len(means) < 2:
        return 0.0
    deviation = math.sqrt(statistics.fmean(value**2 for value in deviations)) if deviations else 0.0
    return lagging_seconds(means) + deviation * expected_maximum(len(means))


def expected_maximum(count: int) -> float:
    """Returns the mean of the largest of `count` independent numbers from a normal distribution, in deviations."""
    normal, width = NormalDist(), 0.01
    points = [index * width for index in range(-800, 801)]
    return width * sum(x * count * normal.pdf(x) * normal.cdf(x) ** (count - 1) for x in points)


def typical(of_passes: Sequence[Shares]) -> Shares:
    """Returns the median share of each thing over the passes; compute is what they leave."""
    medians = {
        field.name: statistics.median(getattr(one, field.name) for one in of_passes)
        for field in fields(Shares)
    }
    others = sum(value for name, value in medians.items() if name not in ("waiting", "lagging", "compute"))
    medians["compute"] = max(1 - others, 0.0)
    return Shares(**medians)


def intervals(of_passes: Sequence[Shares]) -> Mapping[str, tuple[float, float]]:
    """Returns the interval around each share of `typical`."""
    by_pass = [one.as_mapping() for one in of_passes]
    spans: dict[str, tuple[float, float]] = {}
    for name, share in typical(of_passes).as_mapping().items():
        low, high = median_interval([one[name] for one in by_pass])
        # What is made of other medians may lie outside.
        spans[name] = min(low, share), max(high, share)
    return spans
