from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distkeras.data.batches import BatchPlan, Remainder, batch_ids, step_ids
from distkeras.data.order import ById, Shuffled
from distkeras.data.permutation import global_order
from distkeras.errors import DataError
from distkeras.topology import Topology


@st.composite
def plans(draw: st.DrawFn) -> BatchPlan:
    remainder: Remainder = draw(st.sampled_from(["drop", "partial", "wrap"]))
    batch = draw(st.integers(1, 40))
    smallest = batch if remainder == "drop" else 1
    return BatchPlan(draw(st.integers(smallest, 200)), batch, remainder)


def shuffled(plan: BatchPlan, seed: int = 0) -> Shuffled:
    return Shuffled(plan.num_examples, "f", seed)


def global_batch(plan: BatchPlan, step: int, num_replicas: int, *, seed: int = 3) -> list[int]:
    parts = [
        step_ids(plan, shuffled(plan, seed), step, replica, num_replicas) for replica in range(num_replicas)
    ]
    return np.concatenate(parts).tolist()


@given(plan=plans(), num_replicas=st.integers(1, 12))
def test_an_epoch_visits_every_example_once_but_for_what_it_counts(plan: BatchPlan, num_replicas: int):
    steps, replicas = range(plan.steps_per_epoch), range(num_replicas)
    block = batch_ids(plan, shuffled(plan), steps, replicas, num_replicas)
    epoch = [ids[:length] for ids, length in zip(block.ids, block.lengths, strict=True)]
    visits = np.bincount(np.concatenate(epoch), minlength=plan.num_examples)
    assert visits.sum() == plan.num_examples - plan.num_dropped + plan.num_repeated
    assert (visits == 0).sum() == plan.num_dropped
    assert visits.sum() - (visits > 0).sum() == plan.num_repeated
    if plan.remainder == "partial":
        assert (visits == 1).all()


@given(plan=plans(), step=st.integers(0, 100), num_replicas=st.integers(1, 12))
def test_global_batches_do_not_depend_on_the_number_of_replicas(
    plan: BatchPlan, step: int, num_replicas: int
):
    assert global_batch(plan, step, num_replicas) == global_batch(plan, step, 1)


@given(plan=plans(), num_replicas=st.integers(1, 12), data=st.data())
def test_replicas_get_almost_equal_slices_the_larger_ones_first(
    plan: BatchPlan, num_replicas: int, data: st.DataObject
):
    step = data.draw(st.integers(0, plan.steps_per_epoch - 1))
    sizes = [len(plan.positions(step, replica, num_replicas)) for replica in range(num_replicas)]
    assert sum(sizes) == plan.examples_in_step(step)
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) <= plan.longest_batch(num_replicas)
    assert (min(sizes) > 0) == (plan.examples_in_step(step) >= num_replicas)


@given(plan=plans(), num_replicas=st.integers(1, 12))
def test_equal_batches_are_announced_exactly_where_they_are(plan: BatchPlan, num_replicas: int):
    sizes = {
        len(plan.positions(step, replica, num_replicas))
        for step in range(plan.steps_per_epoch)
        for replica in range(num_replicas)
    }
    assert plan.has_equal_batches(num_replicas) == (len(sizes) == 1)


@given(
    plan=plans(),
    world_size=st.integers(1, 4),
    num_local_replicas=st.sampled_from([1, 2, 4]),
    start=st.integers(0, 50),
    num_steps=st.integers(1, 12),
    shuffle=st.booleans(),
)
@settings(max_examples=60)
def test_a_block_holds_what_each_step_and_replica_reads(
    plan: BatchPlan, world_size: int, num_local_replicas: int, start: int, num_steps: int, shuffle: bool
):
    for rank in range(world_size):
        topology = Topology(world_size=world_size, rank=rank, num_local_replicas=num_local_replicas)
        steps, replicas = range(start, start + num_steps), topology.local_replicas
        order = shuffled(plan, 1) if shuffle else ById(plan.num_examples)
        block = batch_ids(plan, order, steps, replicas, topology.num_replicas)
        rows = iter(zip(block.ids, block.lengths, block.passes, strict=True))
        for step in steps:
            epoch, step_in_epoch = divmod(step, plan.steps_per_epoch)
            expected_order = (
                global_order("f", 1, epoch, plan.num_examples) if shuffle else np.arange(plan.num_examples)
            )
            for replica in replicas:
                ids, length, row_passes = next(rows)
                expected = expected_order[plan.positions(step_in_epoch, replica, topology.num_replicas)]
                assert ids[:length].tolist() == expected.tolist()
                assert ((ids >= 0) & (ids < plan.num_examples)).all()
                assert (row_passes == epoch).all()
        assert next(rows, None) is None


def test_without_shuffling_examples_come_by_id():
    plan = BatchPlan(10, 4, "partial")
    steps = [step_ids(plan, ById(plan.num_examples), step, 0, 1).tolist() for step in range(4)]
    assert steps == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [0, 1, 2, 3]]


def test_wrap_continues_with_the_first_examples_of_the_epoch():
    plan = BatchPlan(10, 4, "wrap")
    assert plan.positions(2, 0, 1).tolist() == [8, 9, 0, 1]
    assert [plan.positions(2, replica, 2).tolist() for replica in range(2)] == [[8, 9], [0, 1]]
    assert BatchPlan(3, 8, "wrap").positions(0, 0, 1).tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_a_step_with_fewer_examples_than_replicas_leaves_the_last_ones_without():
    plan = BatchPlan(10, 8, "partial")
    assert [plan.positions(1, replica, 4).tolist() for replica in range(4)] == [[8], [9], [], []]


@pytest.mark.parametrize(
    ("remainder", "steps", "dropped", "repeated", "last"),
    [("drop", 19, 41, 0, 64), ("partial", 20, 0, 0, 41), ("wrap", 20, 0, 23, 64)],
)
def test_the_arithmetic_of_an_epoch(remainder: Remainder, steps: int, dropped: int, repeated: int, last: int):
    plan = BatchPlan(1257, 64, remainder)
    assert (plan.steps_per_epoch, plan.num_dropped, plan.num_repeated) == (steps, dropped, repeated)
    assert plan.examples_in_step(0) == 64
    assert plan.examples_in_step(steps - 1) == last


def test_the_arithmetic_is_said_aloud():
    imagenet = BatchPlan(1_281_167, 512, "drop")
    assert imagenet.describe(Topology(world_size=2, num_local_replicas=4)) == (
        "global batch 512 = 2 workers x 4 replicas x 64; "
        "1,281,167 examples -> 2,502 steps an epoch (143 dropped each epoch)"
    )
    assert BatchPlan(1257, 64, "wrap").describe(Topology()) == (
        "global batch 64 = 1 worker x 1 replica x 64; "
        "1,257 examples -> 20 steps an epoch (23 repeated each epoch)"
    )
    assert (
        BatchPlan(1257, 64, "partial")
        .describe(Topology())
        .endswith("20 steps an epoch (the last one with 41)")
    )
    assert BatchPlan(64, 64, "drop").describe(Topology()).endswith("64 examples -> 1 step an epoch")


def test_unequal_parts_are_said_aloud():
    text = BatchPlan(100, 64).describe(Topology(world_size=3))
    assert text.startswith("global batch 64 = 3 workers x 1 replica x 21 or 22; ")


def test_fewer_examples_than_one_global_batch_are_refused_where_they_would_be_dropped():
    with pytest.raises(DataError, match=r"The 50 examples are fewer than one global batch of 64") as caught:
        BatchPlan(50, 64, "drop")
    assert caught.value.place == "training.global_batch_size"
    assert caught.value.remedy == "use at most 50, or set data.remainder to partial or wrap"
    assert BatchPlan(50, 64, "partial").steps_per_epoch == 1
    assert BatchPlan(50, 64, "wrap").num_repeated == 14


def test_an_empty_plan_is_refused():
    with pytest.raises(DataError, match="no examples to make batches of"):
        BatchPlan(0, 4, "partial")
    with pytest.raises(DataError, match="A global batch needs at least one example"):
        BatchPlan(4, 0, "partial")


def test_fewer_examples_than_replicas_are_refused():
    plan = BatchPlan(3, 8, "wrap")
    plan.check_replicas(3)
    with pytest.raises(DataError, match="There are 3 examples for 4 replicas") as caught:
        plan.check_replicas(4)
    assert caught.value.remedy == "use at most 3 replicas, or more data"


@pytest.mark.parametrize("step", [-1, 2])
def test_a_step_outside_the_epoch_is_refused(step: int):
    with pytest.raises(DataError, match="An epoch has 2 steps, counted from 0"):
        BatchPlan(8, 4).positions(step, 0, 1)


@pytest.mark.parametrize("replica", [-1, 2])
def test_a_replica_that_is_not_there_is_refused(replica: int):
    plan = BatchPlan(8, 4)
    with pytest.raises(DataError, match=r"A replica must lie in \[0, 2\)"):
        plan.positions(0, replica, 2)
    with pytest.raises(DataError, match=r"A replica must lie in \[0, 2\)"):
        step_ids(plan, shuffled(plan), 0, replica, 2)


def test_a_negative_step_is_refused():
    with pytest.raises(DataError, match="A step is counted from 0"):
        step_ids(BatchPlan(8, 4), ById(8), -1, 0, 1)


def test_order_and_batches_need_no_tensorflow():
    code = (
        "import sys, distkeras.data.order, distkeras.data.batches; "
        "sys.exit(bool({'tensorflow', 'keras', 'ray'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
