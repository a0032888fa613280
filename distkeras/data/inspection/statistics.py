"""Numbers and texts in few numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

NUM_BINS = 20
NUM_FREQUENT = 10
# Words are counted in so many texts, evenly spaced; lengths in all.
MAX_TEXTS = 20_000
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")


@dataclass(frozen=True)
class Distribution:
    """How numbers are distributed; those that are not finite are left out.

    Attributes:
        min: The smallest.
        mean: Their mean.
        max: The largest.
        std: Their standard deviation.
        edges: Borders of the histogram's bins, one more than there are bins.
        counts: Numbers in each bin.
    """

    min: float
    mean: float
    max: float
    std: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]


def distribution(values: npt.ArrayLike) -> Distribution | None:
    """Returns how numbers are distributed; None: none of them is finite."""
    numbers = np.asarray(values, np.float64).ravel()
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        return None
    low, high = float(numbers.min()), float(numbers.max())
    # Whole numbers of a few values get a bin each.
    span = high - low
    is_whole = span < NUM_BINS and bool((numbers == np.floor(numbers)).all())
    bins = int(span) + 1 if is_whole else NUM_BINS
    around = (low - 0.5, high + 0.5) if is_whole else (low, high)
    counts, edges = np.histogram(numbers, bins, around)
    return Distribution(
        low, float(numbers.mean()), high, float(numbers.std()), tuple(edges.tolist()), tuple(counts.tolist())
    )


def measured(**numbers: npt.ArrayLike) -> dict[str, Distribution]:
    """Returns the distribution of each of some measurements, without those that measured nothing."""
    found = {title: distribution(values) for title, values in numbers.items()}
    return {title: one for title, one in found.items() if one is not None}


def frequent(values: Iterable[str], most: int = NUM_FREQUENT) -> list[tuple[str, int]]:
    """Returns the values that occur most often, with how often that is; of equal ones the first by alphabet."""
    counts = sorted(Counter(values).items(), key=lambda pair: (-pair[1], pair[0]))
    return counts[:most]


def frequent_words(texts: Sequence[str]) -> list[tuple[str, int]]:
    """Returns the words that occur most often, in lower case, in up to 20,000 of the texts."""
    step = max(1, len(texts) // MAX_TEXTS)
    some = islice(texts, 0, None, step)
    return frequent(word for text in some for word in _WORD.findall(text.lower()))
