from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distkeras.data.batches import BatchPlan, batch_ids, step_ids
from distkeras.data.order import WINDOW_BLOCKS, ById, Mixed, Order, Share, Shuffled, ShuffledBlocks
from distkeras.errors import DataError

blocks = st.lists(st.integers(1, 30), min_size=1, max_size=40).map(lambda lengths: np.cumsum([0, *lengths]))


def mixture(counts: list[tuple[int, int]], seed: int = 0) -> Mixed:
    """Parts of so many examples, each with so many positions an epoch."""
    firsts = np.cumsum([0, *(size for size, _ in counts)])
    shares = [
        Share(Shuffled(size, f"part {index}", seed), np.arange(first, first + size), positions)
        for index, ((size, positions), first) in enumerate(zip(counts, firsts, strict=False))
    ]
    return Mixed(shares, "mixture", seed)


def epoch_of(order: Order, epoch: int = 0) -> np.ndarray:
    return order.visits(epoch, np.arange(order.num_examples)).ids


@given(starts=blocks, seed=st.integers(0, 2**32), epoch=st.integers(0, 5))
def test_shuffled_blocks_visit_every_example_once(starts: np.ndarray, seed: int, epoch: int):
    assert np.array_equal(np.sort(epoch_of(ShuffledBlocks(starts, "f", seed), epoch)), np.arange(starts[-1]))


@given(starts=blocks, data=st.data())
def test_part_of_an_order_is_computed_alone(starts: np.ndarray, data: st.DataObject):
    order = ShuffledBlocks(starts, "f", 3)
    whole = epoch_of(order, 2)
    positions = np.array(data.draw(st.lists(st.integers(0, int(starts[-1]) - 1), max_size=20)), np.int64)
    assert np.array_equal(order.visits(2, positions).ids, whole[positions])


def test_a_window_holds_few_blocks_and_epochs_and_seeds_differ():
    starts = np.arange(0, 4001, 100)
    order = ShuffledBlocks(starts, "f", 0)
    first = epoch_of(order)
    for begin in range(0, 4000, 100 * WINDOW_BLOCKS):
        window = first[begin : begin + 100 * WINDOW_BLOCKS]
        assert len(np.unique(window // 100)) == WINDOW_BLOCKS
        # Rows of all its blocks from the beginning, not block after block.
        assert len(np.unique(window[:64] // 100)) == WINDOW_BLOCKS
    for other in (
        epoch_of(order, 1),
        epoch_of(ShuffledBlocks(starts, "f", 1)),
        epoch_of(ShuffledBlocks(starts, "g", 0)),
    ):
        assert (first == other).mean() < 0.05


def test_every_block_may_come_first():
    starts = np.arange(0, 50, 10)
    firsts = [epoch_of(ShuffledBlocks(starts, "f", seed))[0] for seed in range(4000)]
    counts = np.bincount(firsts, minlength=40)
    # 100 expected each; five standard deviations.
    assert counts.min() > 50
    assert counts.max() < 150


@given(
    starts=blocks,
    batch=st.integers(1, 40),
    remainder=st.sampled_from(["drop", "partial", "wrap"]),
    num_replicas=st.integers(2, 7),
    step=st.integers(0, 50),
)
@settings(max_examples=60)
def test_a_step_of_blocks_is_sorted_and_dealt_out_the_same_for_any_replicas(
    starts: np.ndarray, batch: int, remainder, num_replicas: int, step: int
):
    order = ShuffledBlocks(starts, "f", 0)
    plan = BatchPlan(order.num_examples, min(batch, order.num_examples), remainder)
    together = step_ids(plan, order, step, 0, 1).tolist()
    parts = [step_ids(plan, order, step, replica, num_replicas).tolist() for replica in range(num_replicas)]
    assert together == sorted(together) == [example for part in parts for example in part]
    epoch, step_in_epoch = divmod(step, plan.steps_per_epoch)
    positions = plan.positions(step_in_epoch, 0, 1)
    assert together == sorted(order.visits(epoch, positions).ids.tolist())


def test_a_workers_share_of_sorted_steps_lies_in_few_blocks():
    order = ShuffledBlocks(np.arange(0, 80_001, 1000), "f", 0)
    plan = BatchPlan(80_000, 400)
    share = batch_ids(plan, order, range(20), range(1), 4).ids
    assert len(np.unique(share // 1000)) <= 3  # of the window's eight


@given(
    counts=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 200)), min_size=1, max_size=5).filter(
        lambda counts: any(positions for _, positions in counts)
    ),
    num_epochs=st.integers(1, 4),
)
def test_parts_keep_their_shares_and_repeat_only_when_they_are_through(
    counts: list[tuple[int, int]], num_epochs: int
):
    order = mixture(counts)
    visits = [order.visits(epoch, np.arange(order.num_examples)) for epoch in range(num_epochs)]
    first = 0
    for size, positions in counts:
        own = [(v.ids[(v.ids >= first) & (v.ids < first + size)]) for v in visits]
        assert [len(ids) for ids in own] == [positions] * num_epochs
        times = np.bincount(np.concatenate(own) - first, minlength=size)
        assert times.max() - times.min() <= 1
        first += size


def test_a_mixture_is_even_from_the_beginning_to_the_end():
    order = mixture([(5000, 50_000), (700, 10_000)])
    ids = epoch_of(order)
    for begin in range(0, 60_000, 5000):
        assert 0.14 < (ids[begin : begin + 5000] >= 5000).mean() < 0.19


def test_passes_count_how_often_a_part_was_gone_through():
    order = mixture([(10, 25), (100, 20)])
    passes = [order.visits(epoch, np.arange(45)) for epoch in range(2)]
    of_first = [visits.passes[visits.ids < 10] for visits in passes]
    assert sorted(of_first[0].tolist()) == [0] * 10 + [1] * 10 + [2] * 5
    assert sorted(of_first[1].tolist()) == [2] * 5 + [3] * 10 + [4] * 10
    assert set(passes[1].passes[passes[1].ids >= 10].tolist()) == {0}


@given(data=st.data())
def test_part_of_a_mixture_is_computed_alone(data: st.DataObject):
    order = mixture([(50, 5000), (900, 4000)])
    whole = order.visits(1, np.arange(9000))
    positions = np.array(data.draw(st.lists(st.integers(0, 8999), max_size=30)), np.int64)
    some = order.visits(1, positions)
    assert np.array_equal(some.ids, whole.ids[positions])
    assert np.array_equal(some.passes, whole.passes[positions])


def test_a_mixture_of_nothing_is_refused():
    with pytest.raises(DataError, match="A mixture without examples has no order"):
        mixture([(3, 0)])


def test_by_id_is_the_same_in_every_epoch():
    assert [epoch_of(ById(5), epoch).tolist() for epoch in (0, 3)] == [[0, 1, 2, 3, 4]] * 2


def test_neighbouring_epochs_of_a_plain_shuffle_differ():
    orders = [epoch_of(Shuffled(200, "f", 0), epoch) for epoch in range(4)]
    assert all((one == other).mean() < 0.05 for one, other in pairwise(orders))
