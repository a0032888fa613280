"""The rows that each worker feeds: those of the order contract, and no others."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax", reason="the extra `jax` is not installed")

from distkeras.config.settings import settings_from_mapping
from distkeras.data.batches import BatchPlan, step_ids
from distkeras.data.changes import RandomChanges
from distkeras.data.order import Shuffled
from distkeras.data.sources.arrays import ArraySource
from distkeras.errors import DataError
from distkeras.topology import Topology
from distkeras.training.feeding import TrainingData
from distkeras.training.jax import feed

NUM_EXAMPLES, BATCH, STEPS = 53, 8, 16  # two epochs of seven steps, the last with 5 examples, and more


class Recording(ArraySource):
    """Remembers which examples were read."""

    read_ids: set[int]

    def read_arrays(self, ids: np.ndarray) -> tuple[Any, ...]:
        self.read_ids = getattr(self, "read_ids", set()) | set(ids.tolist())
        return super().read_arrays(ids)


class ThroughTensorFlow(ArraySource):
    """The same examples, which TensorFlow reads."""

    def __init__(self, *arrays: np.ndarray) -> None:
        super().__init__(*arrays)
        self.needs_tensorflow = True


def arrays() -> tuple[np.ndarray, np.ndarray]:
    ids = np.arange(NUM_EXAMPLES)
    return ids[:, np.newaxis].astype("float32"), ids % 3


def rows_of(source: Any, topology: Topology, start: int = 0, **changes: Any) -> list[feed.Rows]:
    mapping = {"name": "a", "seed": 4, "training.global_batch_size": BATCH, "data.remainder": "partial"}
    settings, input_section = settings_from_mapping(mapping | changes)
    data = TrainingData(source, None, input_section, RandomChanges(input_section.image))
    plan = BatchPlan(NUM_EXAMPLES, BATCH, "partial")
    return list(islice(feed.training_rows(settings, data, plan, topology, start), STEPS - start))


def real_ids(rows: feed.Rows, topology: Topology) -> list[list[int]]:
    """The examples of each local shard, without the fill."""
    shards = rows.arrays[0][:, 0].astype(int).reshape(topology.num_local_replicas, -1)
    lengths = [rows.lengths[replica] for replica in topology.local_replicas]
    return [shard[:length].tolist() for shard, length in zip(shards, lengths, strict=True)]


@pytest.mark.parametrize("make", [Recording, ThroughTensorFlow])
@pytest.mark.parametrize("topology", [Topology(), Topology(2, 0, 1), Topology(2, 1, 2), Topology(8, 7, 1)])
def test_a_worker_feeds_the_ids_of_its_replicas(make: Any, topology: Topology) -> None:
    source = make(*arrays())
    plan = BatchPlan(NUM_EXAMPLES, BATCH, "partial")
    for step, rows in enumerate(rows_of(source, topology)):
        expected = [
            step_ids(
                plan, Shuffled(NUM_EXAMPLES, source.fingerprint, 4), step, replica, topology.num_replicas
            ).tolist()
            for replica in topology.local_replicas
        ]
        assert real_ids(rows, topology) == expected
        assert sum(rows.lengths) == plan.examples_in_step(step % plan.steps_per_epoch)
        # One shape on all workers, whatever their own lengths.
        assert len(rows.arrays[0]) == topology.num_local_replicas * max(rows.lengths)
        assert rows.arrays[1].dtype == np.int32


def test_a_worker_reads_no_more_than_its_shards() -> None:
    source, topology = Recording(*arrays()), Topology(2, 1, 1)
    rows = list(feed.evaluation_rows(source, BATCH, topology))
    own = {example for one in rows for shard in real_ids(one, topology) for example in shard}
    assert len(own) == 26
    # Apart from the example that a source is asked for its size with.
    assert source.read_ids - {0} == own


@pytest.mark.parametrize("make", [Recording, ThroughTensorFlow])
def test_feeding_starts_at_any_step(make: Any) -> None:
    source, topology = make(*arrays()), Topology(2, 1, 1)
    whole, later = rows_of(source, topology), rows_of(source, topology, start=9)
    for one, other in zip(whole[9:], later, strict=True):
        assert one.lengths == other.lengths
        np.testing.assert_array_equal(one.arrays[0], other.arrays[0])


@pytest.mark.parametrize("make", [Recording, ThroughTensorFlow])
def test_evaluation_feeds_each_example_once_and_in_order(make: Any) -> None:
    topology = Topology(2, 0, 2)
    rows = list(feed.evaluation_rows(make(*arrays()), BATCH, topology))
    assert len(rows) == feed.num_steps(make(*arrays()), BATCH) == 7
    assert [shard for one in rows for shard in real_ids(one, topology)][:2] == [[0, 1], [2, 3]]
    assert rows[-1].lengths == (2, 1, 1, 1)


def test_class_weights_become_sample_weights() -> None:
    changes = {"training.class_weight": {"0": 3.0, "1": 0.5}}
    for rows in rows_of(ArraySource(*arrays()), Topology(), **changes):
        _, labels, weights = rows.arrays
        np.testing.assert_array_equal(weights, np.array([3.0, 0.5, 1.0], np.float32)[labels])
    weighted = ArraySource(*arrays(), np.full(NUM_EXAMPLES, 2.0))
    _, labels, weights = rows_of(weighted, Topology(), **changes)[0].arrays
    np.testing.assert_array_equal(weights, np.array([6.0, 1.0, 2.0], np.float32)[labels])


def test_a_whole_number_that_does_not_fit_is_refused() -> None:
    features, labels = arrays()
    with pytest.raises(DataError, match="too large for int32") as refusal:
        rows_of(ArraySource(features, labels + 2**40), Topology())
    assert refusal.value.received > 2**40


def test_an_error_of_the_reading_thread_is_raised_where_rows_are_taken() -> None:
    def failing() -> Any:
        yield feed.Rows((), (1,))
        raise DataError("unreadable")

    rows = feed.Prefetched(failing(), 4)
    assert next(rows).lengths == (1,)
    with pytest.raises(DataError, match="unreadable"):
        next(rows)
    rows.close()


def test_the_reading_thread_ends_when_it_is_told_to() -> None:
    def endless() -> Any:
        while True:
            yield feed.Rows((), (1,))

    rows = feed.Prefetched(endless(), 2)
    next(rows)
    rows.close()
    assert not rows._thread.is_alive()
