"""Batches on their way to the devices: those of the next call are copied while the devices compute this one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from distkeras.topology import Topology
from distkeras.training.jax.feed import Prefetched, Rows
from distkeras.training.jax.step import as_global


@dataclass(frozen=True)
class Block:
    """The batches of some steps, on the devices.

    Attributes:
        arrays: A tree of arrays, shape (capacity, rows of all workers, ...); past the steps it is filled up.
        lengths: Examples of each shard of each batch.
    """

    arrays: Any
    lengths: tuple[int, ...]


class Blocks:
    """Reads rows and places them; close it at the end.

    Args:
        rows: This worker's rows of every step, in order.
        mesh: All devices.
        topology: How the batch is dealt out.
    """

    def __init__(self, rows: Prefetched, mesh: Mesh, topology: Topology) -> None:
        self._rows, self._mesh, self._topology = rows, mesh, topology
        self._read: list[Rows] = []  # and not taken yet
        self._prepared: tuple[int, int, Block] | None = None
        # How long `take` has waited for rows, in seconds.
        self.waited = 0.0

    def take(self, num_steps: int, capacity: int) -> Block:
        """Returns the next steps' batches.

        Args:
            num_steps: How many.
            capacity: Steps that the compiled program has room for.
        """
        begin = time.perf_counter()
        while len(self._read) < num_steps:
            self._read.append(next(self._rows))
        self.waited += time.perf_counter() - begin
        prepared, self._prepared = self._prepared, None
        rows, self._read = self._read[:num_steps], self._read[num_steps:]
        if prepared is not None and prepared[:2] == (num_steps, capacity):
            return prepared[2]
        return self._place(rows, capacity)

    def prepare(self, num_steps: int, capacity: int) -> None:
        """Places what `take` will probably be asked for, if it has been read: nothing is waited for."""
        while len(self._read) < num_steps:
            one = self._rows.if_read()
            if one is None:
                return
            self._read.append(one)
        self._prepared = (num_steps, capacity, self._place(self._read[:num_steps], capacity))

    def close(self) -> None:
        """Ends reading."""
        self._rows.close()

    def _place(self, rows: list[Rows], capacity: int) -> Block:
        trees = [one.arrays for one in rows] + [rows[-1].arrays] * (capacity - len(rows))
        stacked = jax.tree.map(lambda *parts: np.stack(parts), *trees)
        return Block(as_global(stacked, self._mesh, self._topology), rows[0].lengths)
