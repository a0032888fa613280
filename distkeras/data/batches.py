"""Which positions of an epoch make up each global batch, and which of them each replica reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from distkeras.data.order import Order, each_value
from distkeras.data.permutation import Int64Array
from distkeras.errors import DataError
from distkeras.topology import Topology

Remainder = Literal["drop", "partial", "wrap"]


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """An epoch cut into global batches: step s takes the positions from `s * global_batch_size` on.

    It knows nothing of workers, so that every number of workers sees the same global batches.

    Attributes:
        num_examples: Examples in an epoch.
        global_batch_size: Examples of one step over all replicas.
        remainder: What becomes of the last batch where it is not full: "drop" leaves it out, "partial" makes
            it smaller, "wrap" fills it with the epoch's first examples.

    Raises:
        DataError: If there are no examples, or, with "drop", fewer than one global batch.
    """

    num_examples: int
    global_batch_size: int
    remainder: Remainder = "drop"

    def __post_init__(self) -> None:
        if self.num_examples < 1:
            raise DataError("There are no examples to make batches of.", received=self.num_examples)
        if self.global_batch_size < 1:
            raise DataError(
                "A global batch needs at least one example.",
                place="training.global_batch_size",
                received=self.global_batch_size,
            )
        if self.remainder == "drop" and self.num_examples < self.global_batch_size:
            raise DataError(
                f"The {self.num_examples:,} examples are fewer than one global batch of "
                f"{self.global_batch_size:,}, so with `remainder: drop` there is nothing to train on.",
                place="training.global_batch_size",
                received=self.global_batch_size,
                remedy=f"use at most {self.num_examples}, or set data.remainder to partial or wrap",
            )

    @property
    def steps_per_epoch(self) -> int:
        """Global batches in an epoch; the same on every worker."""
        full, rest = divmod(self.num_examples, self.global_batch_size)
        return full + (rest > 0 and self.remainder != "drop")

    @property
    def num_dropped(self) -> int:
        """Examples that an epoch leaves out."""
        return self.num_examples % self.global_batch_size if self.remainder == "drop" else 0

    @property
    def num_repeated(self) -> int:
        """Examples that an epoch reads again to fill its last batch."""
        return -self.num_examples % self.global_batch_size if self.remainder == "wrap" else 0

    def examples_in_step(self, step_in_epoch: int) -> int:
        """Returns the examples of one step over all replicas.

        Raises:
            DataError: If the epoch has no such step.
        """
        if not 0 <= step_in_epoch < self.steps_per_epoch:
            raise DataError(
                f"An epoch has {self.steps_per_epoch:,} steps, counted from 0.", received=step_in_epoch
            )
        if self.remainder != "partial":
            return self.global_batch_size
        return min(self.global_batch_size, self.num_examples - step_in_epoch * self.global_batch_size)

    def positions(self, step_in_epoch: int, replica: int, num_replicas: int) -> Int64Array:
        """Returns the positions in the epoch's order that one replica reads in one step.

        A step's positions are dealt out in contiguous slices. Their sizes differ by at most one, earlier
        replicas get the larger ones, and a replica gets none only if the step has fewer examples than
        replicas.

        Args:
            step_in_epoch: Index of the step, in [0, steps_per_epoch).
            replica: Global index of the replica, in [0, num_replicas).
            num_replicas: Replicas over all workers.

        Returns:
            int64, shape (per_replica_batch,), values in [0, num_examples).

        Raises:
            DataError: If there is no such step or replica.
        """
        if not 0 <= replica < num_replicas:
            raise DataError(f"A replica must lie in [0, {num_replicas}).", received=replica)
        self.examples_in_step(step_in_epoch)
        starts, lengths = self.slices(np.array([step_in_epoch]), np.array([replica]), num_replicas)
        return (starts[0] + np.arange(lengths[0])) % self.num_examples

    def slices(
        self, steps_in_epoch: Int64Array, replicas: Int64Array, num_replicas: int
    ) -> tuple[Int64Array, Int64Array]:
        """Returns the first position and the number of positions of each (step, replica), elementwise.

        Positions past the end, with "wrap", are not yet continued at 0.
        """
        firsts = steps_in_epoch * self.global_batch_size
        in_step = np.full_like(firsts, self.global_batch_size)
        if self.remainder == "partial":
            in_step = np.minimum(in_step, self.num_examples - firsts)
        sizes, larger = np.divmod(in_step, num_replicas)
        return firsts + replicas * sizes + np.minimum(replicas, larger), sizes + (replicas < larger)

    def longest_batch(self, num_replicas: int) -> int:
        """Returns the most examples that a replica reads in any step."""
        return -(-self.examples_in_step(0) // num_replicas)

    def has_equal_batches(self, num_replicas: int) -> bool:
        """Whether every replica reads the same number of examples in every step."""
        size = self.examples_in_step(0)
        return size % num_replicas == 0 and size == self.examples_in_step(self.steps_per_epoch - 1)

    def check_replicas(self, num_replicas: int) -> None:
        """Refuses to train where some replica could never get an example.

        Raises:
            DataError: If an epoch has fewer examples than there are replicas.
        """
        if self.num_examples < num_replicas:
            raise DataError(
                f"There are {self.num_examples:,} examples for {num_replicas:,} replicas.",
                place="topology.replicas",
                received=num_replicas,
                remedy=f"use at most {self.num_examples} replicas, or more data",
            )

    def describe(self, topology: Topology) -> str:
        """Returns the arithmetic of an epoch in one line, to be said aloud at the start of a run."""
        smaller, rest = divmod(self.global_batch_size, topology.num_replicas)
        size = f"{smaller:,} or {smaller + 1:,}" if rest else f"{smaller:,}"
        workers = _count(topology.world_size, "worker")
        replicas = _count(topology.num_local_replicas, "replica")
        text = (
            f"global batch {self.global_batch_size:,} = {workers} x {replicas} x {size}; "
            f"{_count(self.num_examples, 'example')} -> {_count(self.steps_per_epoch, 'step')} an epoch"
        )
        if self.num_dropped:
            return f"{text} ({self.num_dropped:,} dropped each epoch)"
        if self.num_repeated:
            return f"{text} ({self.num_repeated:,} repeated each epoch)"
        rest = self.num_examples % self.global_batch_size
        if rest:
            return f"{text} (the last one with {rest:,})"
        return text


@dataclass(frozen=True, slots=True)
class BatchIds:
    """The ids that some replicas read in some consecutive steps: one row a batch, step-major, replica-minor.

    Attributes:
        ids: int64, shape (num_batches, longest_batch). A shorter batch is filled up with an id that can be
            read.
        passes: int64, the same shape: which pass over the data each visit belongs to; see `order.Visits`.
        lengths: int64, shape (num_batches,): how many leading ids of each row are the batch.
    """

    ids: Int64Array
    passes: Int64Array
    lengths: Int64Array


def batch_ids(plan: BatchPlan, order: Order, steps: range, replicas: range, num_replicas: int) -> BatchIds:
    """Returns exactly the example ids that some replicas read in some steps of a run.

    Where the order is local, a step's ids are sorted before they are dealt out: each replica then reads from few of
    the blocks that the step's examples lie in.

    Args:
        plan: The cut of an epoch into steps.
        order: Which example stands where; of `plan.num_examples` positions.
        steps: Consecutive global steps, counted over epochs from 0.
        replicas: Global indices of the replicas.
        num_replicas: Replicas over all workers.

    Raises:
        DataError: If there is no such step or replica.
    """
    if steps.start < 0:
        raise DataError("A step is counted from 0.", received=steps.start)
    if replicas.start < 0 or replicas.stop > num_replicas:
        raise DataError(f"A replica must lie in [0, {num_replicas}).", received=replicas)
    step, replica = (grid.ravel() for grid in np.meshgrid(steps, replicas, indexing="ij"))
    epochs, steps_in_epoch = np.divmod(step.astype(np.int64), plan.steps_per_epoch)
    starts, lengths = plan.slices(steps_in_epoch, replica.astype(np.int64), num_replicas)
    places = np.arange(plan.longest_batch(num_replicas))
    positions = starts[:, np.newaxis] + np.where(places < lengths[:, np.newaxis], places, 0)
    if order.is_local:
        rows = np.repeat(np.arange(len(steps)), len(replicas))
        columns = positions - (steps_in_epoch * plan.global_batch_size)[:, np.newaxis]
        # A replica without examples begins behind the step's last one.
        columns = np.minimum(columns, plan.examples_in_step(0) - 1)
        ids, passes = (part[rows[:, np.newaxis], columns] for part in _sorted_steps(plan, order, steps))
    else:
        ids, passes = _visits(order, epochs, positions % plan.num_examples)
    return BatchIds(ids, passes, lengths)


def _sorted_steps(plan: BatchPlan, order: Order, steps: range) -> tuple[Int64Array, Int64Array]:
    """Ids and passes of whole steps, each step's by id, shape (num_steps, largest step); the fill comes last."""
    epochs, steps_in_epoch = np.divmod(np.array(steps, np.int64), plan.steps_per_epoch)
    firsts, lengths = plan.slices(steps_in_epoch, np.zeros_like(steps_in_epoch), 1)
    places = np.arange(plan.longest_batch(1))
    is_filled = places >= lengths[:, np.newaxis]
    positions = firsts[:, np.newaxis] + np.where(is_filled, 0, places)
    ids, passes = _visits(order, epochs, positions % plan.num_examples)
    if not is_filled.any() and (passes == passes[:, :1]).all():
        return np.sort(ids, axis=1), passes
    by_id = np.argsort(np.where(is_filled, np.iinfo(np.int64).max, ids), axis=1, kind="stable")
    return np.take_along_axis(ids, by_id, axis=1), np.take_along_axis(passes, by_id, axis=1)


def _visits(order: Order, epochs: Int64Array, positions: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Ids and passes at positions, shape (num_rows, num_columns), where each row is of one epoch."""
    ids, passes = np.empty_like(positions), np.empty_like(positions)
    for epoch, rows in each_value(epochs):
        visits = order.visits(epoch, positions[rows])
        ids[rows], passes[rows] = visits.ids, visits.passes
    return ids, passes


def step_ids(plan: BatchPlan, order: Order, step: int, replica: int, num_replicas: int) -> Int64Array:
    """Returns the example ids that one replica reads in one step: one batch of `batch_ids`.

    Returns:
        int64, shape (per_replica_batch,); empty where a step has fewer examples than replicas.

    Raises:
        DataError: If there is no such step or replica.
    """
    batches = batch_ids(plan, order, range(step, step + 1), range(replica, replica + 1), num_replicas)
    return batches.ids[0, : batches.lengths[0]]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
