"""Records that cannot be read, within a budget: they keep their place in the order, and weigh nothing.

A budget costs one reading of everything before the first step. For that, all workers know the same bad records before
they begin, so nothing depends on who would have met one first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from distkeras.data.lazy_tensorflow import tf
from distkeras.data.reading_check import bad_records
from distkeras.data.sources.base import Source, Subset, Wrapped
from distkeras.data.splits import Splits
from distkeras.errors import DataError

PARTS = ("train", "validation", "test")
NUM_SHOWN = 5
# What every worker says -> what all said, by rank.
Exchange = Callable[[Any], list[Any]]


@dataclass(frozen=True)
class LeftOut:
    """An example that cannot be read.

    Attributes:
        part: `train`, `validation` or `test`.
        example_id: Its id in that part.
        place: Its file and record.
        problem: What is wrong with it.
    """

    part: str
    example_id: int
    place: str
    problem: str


def find_bad_records(
    splits: Splits, budget: int, exchange: Exchange, rank: int, world_size: int
) -> list[LeftOut]:
    """Reads every example once, shared among the workers, and returns those that cannot be read. Collective.

    Args:
        splits: The parts of the data.
        budget: How many there may be.
        exchange: How workers tell each other.
        rank: This worker's.
        world_size: Number of workers.

    Raises:
        DataError: If there are more.
    """
    found: list[LeftOut] = []
    for part in PARTS:
        source: Source | None = getattr(splits, part)
        if source is not None:
            ids = np.arange(rank, source.num_examples, world_size)
            bad = bad_records(source, ids=ids)
            found += [LeftOut(part, one.example_id or 0, one.place, one.reason) for one in bad]
    everyone = exchange([asdict(record) for record in found])
    records = [LeftOut(**record) for worker in everyone for record in worker]
    records.sort(key=lambda record: (PARTS.index(record.part), record.example_id))
    if len(records) > budget:
        raise DataError(
            f"{len(records)} records cannot be read.",
            place=", ".join(record.place for record in records[:NUM_SHOWN]),
            received=records[0].problem,
            remedy=f"mend or remove them; data.max_bad_records allows {budget}",
        )
    return records


def without(splits: Splits, records: Iterable[LeftOut | Mapping[str, Any]]) -> Splits:
    """Returns the parts without their bad records: in training they weigh nothing, elsewhere they are left out."""
    bad: dict[str, list[int]] = {part: [] for part in PARTS}
    for record in records:
        one = record if isinstance(record, LeftOut) else LeftOut(**record)
        bad[one.part].append(one.example_id)
    train = Weightless(splits.train, bad["train"]) if bad["train"] else splits.train
    return Splits(train, _left(splits.validation, bad["validation"]), _left(splits.test, bad["test"]))


def _left(source: Source | None, bad: list[int]) -> Source | None:
    if source is None or not bad:
        return source
    return Subset(source, np.setdiff1d(np.arange(source.num_examples), bad))


class Weightless(Wrapped):
    """A source some of whose examples weigh nothing: another example is read in place of each.

    Args:
        source: A source.
        ids: The examples that weigh nothing.

    Raises:
        DataError: If no example is left.
    """

    def __init__(self, source: Source, ids: Iterable[int]) -> None:
        super().__init__(source)
        self._weights = np.ones(source.num_examples, np.float32)
        self._weights[list(ids)] = 0
        if not self._weights.any():
            raise DataError("No record can be read.", place=source.name)
        self._instead = np.arange(source.num_examples)
        self._instead[list(ids)] = int(np.argmax(self._weights))
        if source.jpeg_sizes is not None:
            self.jpeg_sizes = source.jpeg_sizes[self._instead]

    def read(self, ids: tf.Tensor) -> tuple[Any, ...]:
        return self._weighed(self.wrapped.read(tf.gather(self._instead, ids)), ids)

    def read_encoded(self, ids: tf.Tensor) -> tuple[Any, ...]:
        return self._weighed(self.wrapped.read_encoded(tf.gather(self._instead, ids)), ids)

    def read_arrays(self, ids: np.ndarray) -> tuple[Any, ...]:
        features, label, *weight = self.wrapped.read_arrays(self._instead[ids])
        own = self._weights[ids]
        return features, label, own * weight[0] if weight else own

    def _weighed(self, example: tuple[Any, ...], ids: tf.Tensor) -> tuple[Any, ...]:
        features, label, *weight = example
        own = tf.gather(self._weights, ids)
        return features, label, own * weight[0] if weight else own
