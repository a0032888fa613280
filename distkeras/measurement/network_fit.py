"""Latency and bandwidth as measured steps show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from distkeras.errors import ConfigError
from distkeras.measurement.cost_model import StepFacts, expected_slowest, exposed_exchange, predict
from distkeras.measurement.network import TENSORFLOW_CPU, Algorithm, Network
from distkeras.measurement.quantities import bandwidth_text, check_positive, seconds_text
from distkeras.observability.formats import percent_text

# Where the search begins: a message and a link as they are between two processes.
_START = Network(latency=1e-4, bandwidth=1e9)
# Each round says which exchanges are hidden; that settles within a few, or goes back and forth between two.
_ROUNDS = 20
# Measurements whose messages and bytes are so close to proportional do not tell one from the other.
_LEAST_ANGLE = 1e-3


@dataclass(frozen=True)
class MeasuredStep:
    """How long steps took on several workers.

    Attributes:
        step: One worker's part, measured with as many workers on the same machines that do not exchange: what workers
            take from each other is not the network's.
        num_workers: How many workers there were.
        seconds: Mean of a step with the exchange.
    """

    step: StepFacts
    num_workers: int
    seconds: float


@dataclass(frozen=True)
class NetworkFit:
    """A network that explains measured steps.

    Attributes:
        network: Its latency and bandwidth.
        measured: The steps that it was fitted to.
        residuals: Measured seconds less those of the model, step by step.
    """

    network: Network
    measured: tuple[MeasuredStep, ...]
    residuals: tuple[float, ...]

    @property
    def largest_error(self) -> float:
        """The largest residual, as a share of the step that it belongs to."""
        return max(
            abs(residual) / step.seconds for residual, step in zip(self.residuals, self.measured, strict=True)
        )

    def describe(self) -> str:
        """Returns what was found, from how much, and how well it fits."""
        return (
            f"{len(self.measured)} measured steps fit a network of {bandwidth_text(self.network.bandwidth)} and "
            f"{seconds_text(self.network.latency)} a message, with errors of up to "
            f"{percent_text(self.largest_error)} of a step."
        )


def fit_network(
    measured: Sequence[MeasuredStep], algorithms: tuple[Algorithm, ...] = TENSORFLOW_CPU
) -> NetworkFit:
    """Returns the latency and the bandwidth that explain measured steps best.

    Errors are shares of the steps: the sum of their squares is least. What the exchanges of a step take is linear in
    the latency and in the inverse of the bandwidth as long as the same of them are hidden, so rounds of linear least
    squares find it.

    Args:
        measured: Steps on two workers or more, whose gradients differ in size; others say nothing of the network.
        algorithms: The ways to sum that the workers had.

    Raises:
        ConfigError: If the steps do not tell the latency from the bandwidth.
    """
    steps = tuple(step for step in measured if step.num_workers > 1)
    for step in steps:
        check_positive("seconds", step.seconds)
    network = Network(latency=_START.latency, bandwidth=_START.bandwidth, algorithms=algorithms)
    fits: list[NetworkFit] = []
    for _ in range(_ROUNDS):
        network = _next(steps, network)
        fits.append(NetworkFit(network, steps, _residuals(steps, network)))
        if len(fits) > 1 and fits[-1].residuals == fits[-2].residuals:
            break
    return min(fits, key=_sum_of_squares)


def _next(steps: Sequence[MeasuredStep], network: Network) -> Network:
    """Returns the best network among those under which the same exchanges are hidden as under this one."""
    exchanges = [exposed_exchange(step.step, network, step.num_workers) for step in steps]
    parts = np.array([[exchange.messages, exchange.num_bytes] for exchange in exchanges]).reshape(-1, 2)
    seconds = np.array([step.seconds for step in steps])
    computing = np.array([expected_slowest(step.step, step.num_workers) for step in steps])
    hidden = np.array([exchange.hidden_seconds for exchange in exchanges])
    _require_two_directions(steps, parts)
    latency, inverse = _least_squares(
        parts / seconds[:, np.newaxis], (seconds - computing + hidden) / seconds
    )
    bandwidth = 1 / inverse if inverse > 0 else float("inf")
    return Network(latency=latency, bandwidth=bandwidth, algorithms=network.algorithms)


def _require_two_directions(steps: Sequence[MeasuredStep], parts: npt.NDArray[np.float64]) -> None:
    lengths = np.linalg.norm(parts, axis=0)
    if (
        len(steps) < 2
        or not lengths.all()
        or np.linalg.svd(parts / lengths, compute_uv=False)[-1] < _LEAST_ANGLE
    ):
        raise ConfigError(
            "The measured steps do not tell the latency of the network from its bandwidth.",
            place="measured steps",
            received=[(step.num_workers, step.step.gradient_bytes) for step in steps],
            remedy="measure two workers with two models whose gradients differ in size, one of less than a bucket",
        )


def _least_squares(parts: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Returns factors of the two columns, none below zero, whose sum is closest to what is wanted."""
    best, least = (0.0, 0.0), float(wanted @ wanted)
    for columns in ([0, 1], [0], [1]):
        scale = np.linalg.norm(parts[:, columns], axis=0)
        found = np.linalg.lstsq(parts[:, columns] / scale, wanted, rcond=None)[0] / scale
        left = wanted - parts[:, columns] @ found
        if (found >= 0).all() and left @ left < least:
            factors = dict(zip(columns, found.tolist(), strict=True))
            best, least = (factors.get(0, 0.0), factors.get(1, 0.0)), float(left @ left)
    return best


def _residuals(steps: Sequence[MeasuredStep], network: Network) -> tuple[float, ...]:
    return tuple(step.seconds - predict(step.step, network, step.num_workers).step_seconds for step in steps)


def _sum_of_squares(fit: NetworkFit) -> float:
    return sum((left / step.seconds) ** 2 for left, step in zip(fit.residuals, fit.measured, strict=True))
