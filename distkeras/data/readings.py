"""Counts how often each example is read, by the arithmetic that feeds the workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from distkeras.data.batches import BatchPlan, batch_ids
from distkeras.data.order import Order
from distkeras.data.overlaps import MAX_PLACES
from distkeras.data.permutation import Int64Array
from distkeras.data.sources.base import Source
from distkeras.data.worker_loads import Loads, WorkerShare
from distkeras.topology import Topology

# Ids that are counted at once; a few arrays of this length are alive.
IDS_PER_CHUNK = 2**18

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Count:
    """How often the examples of one part are read, held against how often they must be.

    Attributes:
        arithmetic: How an epoch is cut into steps, in one line.
        num_examples: Examples of the part.
        steps_per_epoch: Steps that every worker makes.
        num_dropped: Readings that the remainder policy leaves out of all audited epochs.
        num_repeated: Readings of an example that was read before in the epoch, as policy, mixture or balance ask for.
        num_unseen: Examples that a mixture or balanced classes leave for later epochs.
        num_missing: Readings that should have been and were not.
        num_duplicated: Readings that should not have been.
        places: Where some of the missing and duplicated examples are.
        uneven_steps: Whether a worker makes another number of steps than the others.
        workers: What each worker reads, by rank.
    """

    arithmetic: str
    num_examples: int
    steps_per_epoch: int
    num_dropped: int
    num_repeated: int
    num_unseen: int
    num_missing: int
    num_duplicated: int
    places: tuple[str, ...]
    uneven_steps: bool
    workers: tuple[WorkerShare, ...]

    @property
    def passed(self) -> bool:
        """Whether everything is read as often as it must be, in equally many steps."""
        return not (self.num_missing or self.num_duplicated or self.uneven_steps)

    @property
    def imbalance(self) -> float:
        """How much more than the mean the busiest worker reads, of bytes where they are known, else of examples."""
        loads = [worker.num_bytes for worker in self.workers if worker.num_bytes is not None]
        if len(loads) < len(self.workers):
            loads = [worker.num_examples for worker in self.workers]
        return max(loads) * len(loads) / max(sum(loads), 1) - 1


def count_readings(
    source: Source,
    order: Order,
    plan: BatchPlan,
    topology: Topology,
    num_epochs: int,
    groups: Int64Array | None,
    advance: Advance = lambda _: None,
) -> Count:
    """Counts what all workers read in the first epochs, with the arithmetic that feeds them.

    Args:
        source: The examples.
        order: Which of them stands where.
        plan: How an epoch is cut into steps.
        topology: How many workers and replicas there are.
        num_epochs: Epochs to count.
        groups: Which examples are walked through together, over epochs, shape (num_examples,): then each must be read
            as often as any other of its group, but for one time. None: each must be read once an epoch.
        advance: Told after every chunk how many readings it counted.
    """
    tally = _Tally(source, groups)
    loads = Loads(source)
    uneven = False
    workers: list[WorkerShare] = []
    for epoch in range(num_epochs):
        for rank in range(topology.world_size):
            num_rows = 0
            for ids, rows in _readings(order, plan, topology, rank, epoch):
                tally.add(ids)
                num_rows += rows
                if epoch == 0:
                    loads.add(ids)
                advance(len(ids))
            uneven |= num_rows != plan.steps_per_epoch * topology.num_local_replicas
            if epoch == 0:
                workers.append(loads.share())
        tally.end_epoch(order, plan, epoch)
    tally.end()
    return Count(
        arithmetic=plan.describe(topology),
        num_examples=source.num_examples,
        steps_per_epoch=plan.steps_per_epoch,
        num_dropped=plan.num_dropped * num_epochs,
        num_repeated=plan.num_repeated * num_epochs + tally.num_revisited,
        num_unseen=tally.num_unseen,
        num_missing=tally.num_missing,
        num_duplicated=tally.num_duplicated,
        places=tuple(tally.places),
        uneven_steps=uneven,
        workers=tuple(workers),
    )


def _readings(
    order: Order, plan: BatchPlan, topology: Topology, rank: int, epoch: int
) -> Iterator[tuple[Int64Array, int]]:
    """Yields the ids that one worker reads in an epoch, and the number of batches they come in, chunk by chunk."""
    first = rank * topology.num_local_replicas
    replicas = range(first, first + topology.num_local_replicas)
    steps_per_chunk = max(1, IDS_PER_CHUNK // plan.global_batch_size)
    steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
    for start in range(0, len(steps), steps_per_chunk):
        chunk = steps[start : start + steps_per_chunk]
        batches = batch_ids(plan, order, chunk, replicas, topology.num_replicas)
        places = np.arange(batches.ids.shape[1])
        yield batches.ids[places < batches.lengths[:, np.newaxis]], len(batches.lengths)


class _Tally:
    """How often each example was read, and what is wrong with that."""

    def __init__(self, source: Source, groups: Int64Array | None) -> None:
        self._source = source
        self._groups = groups
        self._counts = np.zeros(source.num_examples, np.int32)
        self.num_missing = self.num_duplicated = self.num_revisited = self.num_unseen = 0
        self.places: list[str] = []

    def add(self, ids: Int64Array) -> None:
        found, times = np.unique(ids, return_counts=True)
        self._counts[found] += times.astype(np.int32)

    def end_epoch(self, order: Order, plan: BatchPlan, epoch: int) -> None:
        """Takes the remainder policy out of the counts, and holds them against once an epoch."""
        dropped = np.arange(plan.num_examples - plan.num_dropped, plan.num_examples)
        np.add.at(self._counts, order.visits(epoch, dropped).ids, 1)
        repeated = np.arange(plan.num_repeated) % plan.num_examples
        np.subtract.at(self._counts, order.visits(epoch, repeated).ids, 1)
        if self._groups is None:
            self._compare(1, 1)
            self._counts[:] = 0

    def end(self) -> None:
        """Holds the counts of all epochs against one another where groups are walked through."""
        if self._groups is None:
            return
        sizes = np.bincount(self._groups)
        visits = np.bincount(self._groups, weights=self._counts).astype(np.int64)
        self.num_revisited = int(np.maximum(self._counts - 1, 0).sum())
        self.num_unseen = int(np.count_nonzero(self._counts == 0))
        self._compare((visits // sizes)[self._groups], (-(-visits // sizes))[self._groups])

    def _compare(self, least: Int64Array | int, most: Int64Array | int) -> None:
        too_few, too_many = np.maximum(least - self._counts, 0), np.maximum(self._counts - most, 0)
        self.num_missing += int(too_few.sum())
        self.num_duplicated += int(too_many.sum())
        wrong = np.flatnonzero(too_few + too_many)[: MAX_PLACES - len(self.places)]
        self.places += [self._source.locate(example_id) for example_id in wrong.tolist()]
