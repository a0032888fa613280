"""Finds examples that are in two parts of the data: what is trained on must not be measured with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distkeras.data.permutation import Int64Array
from distkeras.data.sources.base import Source
from distkeras.data.splits import Splits

MAX_PLACES = 5


@dataclass(frozen=True)
class Overlap:
    """Examples that are in two parts.

    Attributes:
        first: Name of one part.
        second: Name of the other.
        num_examples: How many.
        places: Where some of them are.
    """

    first: str
    second: str
    num_examples: int
    places: tuple[str, ...]


def overlaps(splits: Splits) -> list[Overlap]:
    """Returns which parts share examples.

    Examples are the same where they are one record of one source, also if it is opened twice or copied whole. Copies
    of single records are not found.
    """
    parts = parts_of(splits)
    names = list(parts)
    pairs = [(first, second) for place, first in enumerate(names) for second in names[place + 1 :]]
    found: list[Overlap] = []
    for first, second in pairs:
        common = _common(parts[first], parts[second])
        if common.size:
            places = tuple(parts[first].locate(one) for one in common[:MAX_PLACES].tolist())
            found.append(Overlap(first, second, common.size, places))
    return found


def num_in_no_part(splits: Splits) -> int:
    """Returns how many examples of the training part's source are in no part: leaking windows, or outliers."""
    root, _ = splits.train.origin(np.arange(1))
    is_used = np.zeros(root.num_examples, bool)
    for part in parts_of(splits).values():
        origin, ids = part.origin(np.arange(part.num_examples))
        if origin is root:
            is_used[ids] = True
    return int(np.count_nonzero(~is_used))


def parts_of(splits: Splits) -> dict[str, Source]:
    """Returns the parts that there are, by name."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {name: part for name, part in parts.items() if part is not None}


def _common(one: Source, other: Source) -> Int64Array:
    """Ids of the first part whose examples are in the second, too."""
    first, first_ids = one.origin(np.arange(one.num_examples))
    second, second_ids = other.origin(np.arange(other.num_examples))
    if first is second or first.fingerprint == second.fingerprint:
        return np.flatnonzero(np.isin(first_ids, second_ids))
    if first.name != second.name:
        return np.arange(0)
    # The same files, read in two ways: as other columns, for example.
    places = {second.locate(example_id) for example_id in second_ids.tolist()}
    return np.array(
        [i for i, one_id in enumerate(first_ids.tolist()) if first.locate(one_id) in places], np.int64
    )
