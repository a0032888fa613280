"""Which example stands at which position of which epoch: whole sources, blocks of files, and mixtures.

Every order is a pure function of its source's fingerprint, the seed, the epoch and the position. It knows nothing of
workers, so that any number of them sees the same global batches, and a run resumes at any position at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from distkeras.data.permutation import Int64Array, order_key, permute
from distkeras.errors import DataError

# Blocks whose examples are shuffled together: many enough to mix, few enough to be held in memory decoded.
WINDOW_BLOCKS = 8
# Positions of a mixture over which its sources are spread by their weights, then shuffled.
STRIPE_POSITIONS = 4096


@dataclass(frozen=True, slots=True)
class Visits:
    """Examples at some positions.

    Attributes:
        ids: int64, any shape.
        passes: int64, the same shape: how often the order went through all that the example belongs to before this
            visit. Without mixtures it is the epoch.
    """

    ids: Int64Array
    passes: Int64Array


def each_value(values: Int64Array) -> Iterator[tuple[int, Any]]:
    """Yields each value once, with an index of where it stands; where all are equal, everywhere costs nothing."""
    if values.size and (values == values.flat[0]).all():
        yield int(values.flat[0]), ...
        return
    for value in np.unique(values).tolist():
        yield value, values == value


class Order(ABC):
    """The order of the examples of every epoch.

    Attributes:
        num_examples: Positions in an epoch.
        is_local: Whether neighbouring positions hold examples that lie together, so that a step's examples are
            worth sorting: a worker's share of them then lies in few blocks.
    """

    num_examples: int
    is_local: bool = False

    @abstractmethod
    def visits(self, epoch: int, positions: Int64Array) -> Visits:
        """Returns the examples at positions of one epoch, each in `[0, num_examples)`."""


class ById(Order):
    """Every epoch by id."""

    def __init__(self, num_examples: int) -> None:
        self.num_examples = num_examples

    def visits(self, epoch: int, positions: Int64Array) -> Visits:
        return Visits(positions, np.full_like(positions, epoch))


class Shuffled(Order):
    """Every epoch a pseudo-random permutation of its own.

    Args:
        num_examples: Examples of the source.
        fingerprint: The source's.
        seed: The run's.
    """

    def __init__(self, num_examples: int, fingerprint: str, seed: int) -> None:
        self.num_examples = num_examples
        self._fingerprint = fingerprint
        self._seed = seed

    def visits(self, epoch: int, positions: Int64Array) -> Visits:
        key = order_key(self._fingerprint, self._seed, epoch)
        return Visits(permute(positions, self.num_examples, key), np.full_like(positions, epoch))


class ShuffledBlocks(Order):
    """Every epoch shuffles blocks, cuts that order into windows of some blocks, and shuffles the rows of each window.

    Any example may stand at any position, but not any order of examples may come: two examples of one block are never
    further apart than a window.

    Args:
        block_starts: First id of each block, and after them the number of examples; shape (num_blocks + 1,).
        fingerprint: The source's.
        seed: The run's.
        window_blocks: Blocks of a window.
    """

    is_local = True

    def __init__(
        self, block_starts: Int64Array, fingerprint: str, seed: int, window_blocks: int = WINDOW_BLOCKS
    ) -> None:
        self.num_examples = int(block_starts[-1])
        self._starts = block_starts[:-1]
        self._lengths = np.diff(block_starts)
        self._fingerprint = fingerprint
        self._seed = seed
        self._window_blocks = window_blocks
        # Positions at hand are of one epoch, or of the one before it.
        self._layout = lru_cache(maxsize=2)(self._new_layout)

    def visits(self, epoch: int, positions: Int64Array) -> Visits:
        firsts, offsets, window_firsts = self._layout(epoch)
        shuffled = np.empty_like(positions)
        # Positions at hand are neighbours: one window, or a few.
        reach = (positions.min(), positions.max()) if positions.size else ()
        lowest, highest = np.searchsorted(window_firsts, reach, side="right") - 1 if reach else (0, -1)
        for window in range(lowest, highest + 1):
            first, end = window_firsts[window], window_firsts[window + 1]
            inside = ... if lowest == highest else (positions >= first) & (positions < end)
            key = order_key(f"{self._fingerprint}/window {window}", self._seed, epoch)
            shuffled[inside] = first + permute(positions[inside] - first, int(end - first), key)
        ids = shuffled + offsets[np.searchsorted(firsts, shuffled, side="right") - 1]
        return Visits(ids, np.full_like(positions, epoch))

    def _new_layout(self, epoch: int) -> tuple[Int64Array, Int64Array, Int64Array]:
        """This epoch's blocks: first positions, what makes positions ids of them, and the borders of the windows."""
        num_blocks = len(self._starts)
        key = order_key(f"{self._fingerprint}/blocks", self._seed, epoch)
        blocks = permute(np.arange(num_blocks), num_blocks, key)
        ends = np.cumsum(self._lengths[blocks])
        firsts = ends - self._lengths[blocks]
        return firsts, self._starts[blocks] - firsts, np.append(firsts[:: self._window_blocks], ends[-1])


@dataclass(frozen=True)
class Share:
    """One part of a mixture.

    Attributes:
        order: The order in which its examples are walked through, pass after pass.
        ids: Ids of its examples in the mixture, shape (order.num_examples,).
        num_positions: Positions that it gets in every epoch of the mixture.
    """

    order: Order
    ids: Int64Array
    num_positions: int


class Mixed(Order):
    """Parts mixed in fixed shares, each walked through without repetition over as many epochs as that takes.

    The epoch is cut into stripes of about 4,096 positions. Each holds its share of every part, and is shuffled.

    Args:
        shares: The parts; those without positions are left out.
        fingerprint: The source's.
        seed: The run's.

    Raises:
        DataError: If no part has a position.
    """

    def __init__(self, shares: Sequence[Share], fingerprint: str, seed: int) -> None:
        self._shares = [share for share in shares if share.num_positions]
        counts = np.array([share.num_positions for share in self._shares], np.int64)
        self.num_examples = int(counts.sum())
        if not self.num_examples:
            raise DataError("A mixture without examples has no order.", received=self.num_examples)
        self.is_local = any(share.order.is_local for share in self._shares)
        num_stripes = -(-self.num_examples // STRIPE_POSITIONS)
        # Position j of part k lies in the stripe where j first fits: shape (num_stripes + 1, num_parts).
        self._part_firsts = np.arange(num_stripes + 1)[:, np.newaxis] * counts // num_stripes
        self._stripe_firsts = self._part_firsts.sum(axis=1)
        self._fingerprint = fingerprint
        self._seed = seed

    def visits(self, epoch: int, positions: Int64Array) -> Visits:
        ids, passes = np.empty_like(positions), np.empty_like(positions)
        stripes = np.searchsorted(self._stripe_firsts, positions, side="right") - 1
        for stripe in np.unique(stripes).tolist():
            inside = np.nonzero(stripes == stripe)
            slots = self._slots(epoch, stripe, positions[inside])
            # Where each part's slots begin in the stripe.
            borders = np.cumsum(np.diff(self._part_firsts[stripe : stripe + 2], axis=0)[0])
            parts = np.searchsorted(borders, slots, side="right")
            for index in np.unique(parts).tolist():
                chosen = tuple(axis[parts == index] for axis in inside)
                begin = borders[index - 1] if index else 0
                places = self._part_firsts[stripe, index] + slots[parts == index] - begin
                ids[chosen], passes[chosen] = self._walk(self._shares[index], epoch, places)
        return Visits(ids, passes)

    def _slots(self, epoch: int, stripe: int, positions: Int64Array) -> Int64Array:
        first, end = self._stripe_firsts[stripe], self._stripe_firsts[stripe + 1]
        key = order_key(f"{self._fingerprint}/stripe {stripe}", self._seed, epoch)
        return permute(positions - first, int(end - first), key)

    @staticmethod
    def _walk(share: Share, epoch: int, places: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Goes on where the epoch before stopped, and begins anew at the part's end."""
        rounds, positions = np.divmod(epoch * share.num_positions + places, share.order.num_examples)
        ids = np.empty_like(places)
        for one, chosen in each_value(rounds):
            ids[chosen] = share.order.visits(one, positions[chosen]).ids
        return share.ids[ids], rounds
