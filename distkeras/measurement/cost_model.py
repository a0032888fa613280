"""What a step would take on more workers than there are here. It is a model, and says so.

A step is computing, waiting for an input that is slower, waiting for the slowest worker, and what computing does not
hide of the exchange of gradients. One worker's part is measured (`StepFacts`); the network is the alpha-beta model of
network.py. Every worker keeps its batch, so that more workers mean a larger global batch. What is left out: links that
are shared or full, what workers of one machine take from each other, and input that all workers read from one place.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from distkeras.errors import ConfigError
from distkeras.measurement.network import Exchange, Network, all_reduce
from distkeras.measurement.quantities import check_not_negative, check_positive, seconds_text
from distkeras.observability.formats import count_text, percent_text, rate_text

# A backward pass computes about twice what the forward pass before it does.
BACKWARD_SHARE = 2 / 3
# So many deviations out, a normal distribution is 0 or 1 in float64, to the power of any number of workers.
_REACH = 9.0
_POINTS = 2001


@dataclass(frozen=True, kw_only=True)
class StepFacts:
    """A step of one worker, as measured.

    Attributes:
        batch_size: Examples of one worker's step.
        compute_seconds: Mean of what a step takes whose batch is at hand and whose gradients go nowhere.
        compute_deviation: Standard deviation of the same from step to step, in seconds.
        doubled_compute_seconds: The mean with twice the batch; None: not measured, taken to be twice as long.
        input_examples_per_second: What one worker's input gives when nothing else is waited for.
        input_deviation: Standard deviation of the time between two of its batches, in seconds: what its buffer leaves
            of it.
        gradient_bytes: Bytes of all gradients, in the type that they travel in.
        element_bytes: Bytes of one number of them: 4 is float32, 2 bfloat16.
        bucket_bytes: Size of the pieces that they are sent in.
        overlap: Share of `compute_seconds`, at its end, during which the first gradients travel already:
            `BACKWARD_SHARE` at best, 0 where the exchange starts when all are there.

    Raises:
        ConfigError: If a number is out of range.
    """

    batch_size: int
    compute_seconds: float
    compute_deviation: float = 0.0
    doubled_compute_seconds: float | None = None
    input_examples_per_second: float = math.inf
    input_deviation: float = 0.0
    gradient_bytes: float
    element_bytes: int = 4
    bucket_bytes: float
    overlap: float = 0.0

    def __post_init__(self) -> None:
        for name in ("batch_size", "compute_seconds", "input_examples_per_second"):
            check_positive(name, getattr(self, name))
        for name in ("element_bytes", "bucket_bytes"):
            check_positive(name, getattr(self, name))
        for name in ("compute_deviation", "input_deviation", "gradient_bytes"):
            check_not_negative(name, getattr(self, name))
        if not 0 <= self.overlap <= 1:
            raise ConfigError(
                "overlap is a share of computing.",
                place="overlap",
                received=self.overlap,
                remedy="give a number between 0 and 1",
            )

    @property
    def input_seconds(self) -> float:
        """Seconds between two batches of the input."""
        return self.batch_size / self.input_examples_per_second

    @property
    def num_buckets(self) -> int:
        """Pieces that the gradients are sent in."""
        return max(1, math.ceil(self.gradient_bytes / self.bucket_bytes))


@dataclass(frozen=True)
class Prediction:
    """A step on a number of workers.

    Attributes:
        step: One worker's part.
        network: What connects them.
        num_workers: How many there are.
        compute_seconds: Of a mean step.
        input_wait_seconds: That one worker alone waits for its input.
        slowest_wait_seconds: That a mean worker waits for the slowest one's computing or input.
        exchange_seconds: Of the exchange, what computing does not hide.
    """

    step: StepFacts
    network: Network
    num_workers: int
    compute_seconds: float
    input_wait_seconds: float
    slowest_wait_seconds: float
    exchange_seconds: float

    @property
    def step_seconds(self) -> float:
        """The sum of the parts."""
        return self._alone_seconds + self.slowest_wait_seconds + self.exchange_seconds

    @property
    def efficiency(self) -> float:
        """Examples a second of each worker, as a share of what one worker alone does."""
        return self._alone_seconds / self.step_seconds

    @property
    def examples_per_second(self) -> float:
        """Examples a second of all workers together."""
        return self.num_workers * self.step.batch_size / self.step_seconds

    @property
    def _alone_seconds(self) -> float:
        return self.compute_seconds + self.input_wait_seconds

    def describe(self) -> str:
        """Returns what is expected, and what a step consists of."""
        parts = {
            "computing": self.compute_seconds,
            "waiting for input": self.input_wait_seconds,
            "waiting for the slowest worker": self.slowest_wait_seconds,
            "exchanging gradients": self.exchange_seconds,
        }
        named = [
            f"{seconds_text(seconds)} {part}"
            for part, seconds in parts.items()
            if seconds >= 0.0005 * self.step_seconds
        ]
        return (
            f"{workers_text(self.num_workers)}: {rate_text(self.examples_per_second)} examples/s, "
            f"{percent_text(self.efficiency)} of as many times one. "
            f"A step of {seconds_text(self.step_seconds)}: {', '.join(named)}."
        )


def workers_text(num_workers: int) -> str:
    """Returns a number of workers: `1 worker`, `1,024 workers`."""
    return "1 worker" if num_workers == 1 else f"{count_text(num_workers)} workers"


def predict(step: StepFacts, network: Network, num_workers: int) -> Prediction:
    """Returns what a step takes on a number of workers.

    Args:
        step: One worker's part.
        network: What connects the workers.
        num_workers: How many there are.

    Raises:
        ConfigError: If there is no worker.
    """
    check_positive("num_workers", num_workers)
    alone = expected_slowest(step, 1)
    return Prediction(
        step,
        network,
        num_workers,
        compute_seconds=step.compute_seconds,
        input_wait_seconds=max(0.0, alone - step.compute_seconds),
        slowest_wait_seconds=expected_slowest(step, num_workers) - alone,
        exchange_seconds=exposed_exchange(step, network, num_workers).seconds(network),
    )


def predict_up_to(step: StepFacts, network: Network, most: int) -> list[Prediction]:
    """Returns predictions for 1, 2, 3, ... workers, from 100 on in steps of 2%, and for `most`."""
    counts = [1]
    while counts[-1] < most:
        counts.append(min(most, max(counts[-1] + 1, int(1.02 * counts[-1]))))
    return [predict(step, network, num_workers) for num_workers in counts]


def exposed_exchange(step: StepFacts, network: Network, num_workers: int) -> Exchange:
    """Returns what of a step's exchange is left when computing ends.

    Buckets are equal. They are ready at even distances in the time that overlaps, the last at its end; each is sent
    when it is ready and the one before it has arrived. So the last arrives when those from some bucket on were sent
    without a gap. As all distances are equal, that is the first bucket, or the last one alone.
    """
    count = step.num_buckets
    last = all_reduce(step.gradient_bytes / count, num_workers, network, may_gather=step.element_bytes != 2)
    after_the_first = step.overlap * step.compute_seconds * (count - 1) / count
    all_of_them = Exchange(count * last.messages, count * last.num_bytes, after_the_first)
    return max(last, all_of_them, key=lambda exchange: exchange.seconds(network))


def expected_slowest(step: StepFacts, num_workers: int) -> float:
    """Returns the mean of the longest of the workers' steps before the exchange, in seconds.

    A worker takes as long as its computing or its input, whichever is slower. Both are normal, and independent of each
    other and of other workers. The mean is integrated from the distribution of the largest.
    """
    computing = (step.compute_seconds, step.compute_deviation)
    end, seconds, share_below = _distribution(computing, (step.input_seconds, step.input_deviation))
    return float(end - np.trapezoid(share_below**num_workers, seconds))


@functools.lru_cache(maxsize=64)
def _distribution(
    *draws: tuple[float, float],
) -> tuple[float, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns where the largest draw ends, points before that, and the probability that it lies below each of them.

    It never lies below the first point.

    Args:
        *draws: Mean and standard deviation of each.
    """
    start = max(mean - _REACH * deviation for mean, deviation in draws)
    end = max(mean + _REACH * deviation for mean, deviation in draws)
    around_each = [
        np.linspace(max(start, mean - _REACH * deviation), mean + _REACH * deviation, _POINTS)
        for mean, deviation in draws
        if mean + _REACH * deviation > start
    ]
    points = np.unique(np.concatenate([np.array([start, end]), *around_each]))
    probability = np.ones_like(points)
    for mean, deviation in draws:
        probability *= _share_below(points, mean, deviation)
    return end, points, probability


def _share_below(points: npt.NDArray[np.float64], mean: float, deviation: float) -> npt.NDArray[np.float64]:
    if deviation == 0:
        return (points >= mean).astype(np.float64)
    deviations = (points - mean) / (deviation * math.sqrt(2))
    return np.array([0.5 * math.erfc(-value) for value in deviations.tolist()])
