"""Whole numbers in given shares."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def apportion(total: int, shares: FloatArray, owed: FloatArray) -> Int64Array:
    """Divides a whole number by shares, by the method of largest remainders.

    Args:
        total: What the counts sum to.
        shares: Shape (num_parts,), with the sum 1.
        owed: What earlier roundings took from each part; it counts towards the remainders.

    Returns:
        Counts, each `total * share` rounded down or up; of equal remainders the first part's is rounded up.
    """
    # Without rounding first, 100 * (1 - 0.7 - 0.2) is a little more than 10 and might be rounded up to 11.
    targets = np.round(total * shares, 9)
    counts = np.floor(targets).astype(np.int64)
    remainders = targets - counts
    largest = np.argsort(-np.where(remainders > 0, remainders + owed, -np.inf), kind="stable")
    counts[largest[: total - counts.sum()]] += 1
    return counts
