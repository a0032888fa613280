"""Blocks of steps: the right rows in their order, whether or not they were copied ahead, and no waiting for that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import pytest

pytest.importorskip("jax", reason="the extra `jax` is not installed")

import jax

from distkeras.errors import DataError
from distkeras.topology import Topology
from distkeras.training.jax.blocks import Blocks
from distkeras.training.jax.feed import Prefetched, Rows
from distkeras.training.jax.step import BATCH


@pytest.fixture
def blocks_of() -> Iterator[Callable[[Iterator[Rows]], Blocks]]:
    """Returns blocks on one device, of rows that have been read as far as they are read ahead."""
    made: list[Blocks] = []

    def make(rows: Iterator[Rows]) -> Blocks:
        read = Prefetched(rows, 4)
        deadline = time.monotonic() + 10
        while read._thread.is_alive() and not read._queue.full() and time.monotonic() < deadline:
            time.sleep(0.001)
        mesh = jax.sharding.Mesh(np.array(jax.devices("cpu")[:1]), (BATCH,))
        made.append(Blocks(read, mesh, Topology()))
        return made[-1]

    yield make
    for blocks in made:
        blocks.close()


def numbered() -> Iterator[Rows]:
    return (Rows(np.full((2,), number), (2,)) for number in count())


def taken(blocks: Blocks, num_steps: int, capacity: int) -> list[int]:
    return np.asarray(blocks.take(num_steps, capacity).arrays)[:, 0].tolist()


def test_what_was_prepared_is_what_is_taken(blocks_of) -> None:
    blocks = blocks_of(numbered())
    blocks.prepare(2, 3)
    assert blocks._prepared is not None
    prepared = blocks._prepared[2]
    assert blocks.take(2, 3) is prepared
    assert np.asarray(prepared.arrays)[:, 0].tolist() == [0, 1, 1]
    assert taken(blocks, 1, 1) == [2]


@pytest.mark.parametrize(("num_steps", "capacity"), [(1, 1), (3, 3), (2, 2)])
def test_rows_keep_their_order_where_something_else_was_prepared(blocks_of, num_steps, capacity) -> None:
    blocks = blocks_of(numbered())
    blocks.prepare(2, 3)
    assert taken(blocks, num_steps, capacity) == list(range(num_steps))
    assert taken(blocks, 2, 2) == [num_steps, num_steps + 1]


def test_nothing_is_prepared_of_what_has_not_been_read(blocks_of) -> None:
    blocks = blocks_of(iter([Rows(np.zeros((2,)), (2,))]))
    blocks.prepare(2, 2)
    assert blocks._prepared is None
    blocks.prepare(1, 1)
    assert blocks._prepared is not None
    assert blocks.waited == 0


def test_an_error_comes_when_its_rows_are_taken_and_not_before(blocks_of) -> None:
    def failing() -> Iterator[Rows]:
        yield Rows(np.zeros((2,)), (2,))
        raise DataError("unreadable")

    blocks = blocks_of(failing())
    blocks.prepare(2, 2)
    assert taken(blocks, 1, 1) == [0]
    with pytest.raises(DataError, match="unreadable"):
        blocks.take(1, 1)
