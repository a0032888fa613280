"""What several passes of the same measurements say together: between what a median lies, and what is faster."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

COVERAGE = 0.9
# Faster by less is not worth a change: it is within what two measurements of one thing differ by.
LEAST_GAIN = 1.05


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Returns two of the values between which the true median lies with a probability of at least 90%.

    They are the k-th smallest and the k-th largest, with the largest k that allows it. That supposes nothing of how
    the values are distributed. Of up to seven values it is their range; of fewer than five the probability is less:
    75% of three.
    """
    ordered = sorted(values)
    depth = interval_depth(len(ordered))
    return ordered[depth], ordered[-1 - depth]


def interval_depth(num_values: int) -> int:
    """Returns how many places in from its ends an interval of so many sorted values begins and ends."""
    depth = 0
    while coverage(num_values, depth + 1) >= COVERAGE:
        depth += 1
    return depth


def coverage(num_values: int, depth: int) -> float:
    """Returns the probability that the median lies between the two values that are `depth` places in from the ends.

    Each value is above the median with probability one half, so how many are is binomial.
    """
    return 1 - 2 * sum(math.comb(num_values, k) for k in range(depth + 1)) / 2**num_values


def gains(after: Sequence[float], before: Sequence[float]) -> list[float]:
    """Returns how many times as fast it was, pass by pass."""
    return [new / old for new, old in zip(after, before, strict=True)]


def is_faster(after: Sequence[float], before: Sequence[float]) -> bool:
    """Returns whether rates are higher by more than measuring is wrong by, pass by pass."""
    by_pass = gains(after, before)
    return statistics.median(by_pass) >= LEAST_GAIN and median_interval(by_pass)[0] > 1
