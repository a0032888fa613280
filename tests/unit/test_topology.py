"""The value object that says where a worker is, and refuses places that do not exist."""

import pytest

from distkeras.errors import ConfigError
from distkeras.topology import Topology


def test_replicas_count_over_all_workers():
    topology = Topology(world_size=3, rank=2, num_local_replicas=4)
    assert topology.num_replicas == 12
    assert list(topology.local_replicas) == [8, 9, 10, 11]
    assert not topology.is_rank_zero


def test_one_process_is_rank_zero():
    assert Topology().is_rank_zero
    assert Topology().num_replicas == 1


def test_the_global_batch_is_divided():
    assert Topology(num_local_replicas=4).per_replica_batch_size(64) == 16


@pytest.mark.parametrize("batch", [0, 3, 65])
def test_an_undividable_global_batch_is_refused_with_two_that_divide(batch):
    with pytest.raises(ConfigError, match="does not divide by the 4 replicas") as caught:
        Topology(num_local_replicas=4).per_replica_batch_size(batch)
    assert caught.value.place == "training.global_batch_size"
    suggested = [int(word) for word in caught.value.remedy.replace(",", "").split() if word.isdigit()]
    assert len(suggested) == 2
    assert all(size > 0 and size % 4 == 0 for size in suggested)


@pytest.mark.parametrize("name", ["world_size", "num_local_replicas", "num_nodes"])
def test_an_empty_topology_is_refused(name):
    with pytest.raises(ConfigError, match=f"needs at least one of `{name}`"):
        Topology(**{name: 0})


@pytest.mark.parametrize(("index", "count"), [("rank", "world_size"), ("node_rank", "num_nodes")])
def test_an_index_outside_its_range_is_refused(index, count):
    with pytest.raises(ConfigError, match=rf"`{index}` must lie in \[0, {count}\)"):
        Topology(**{index: 2, count: 2})
