"""Sums over workers cost what the ring, the two trees and the gather send."""

from __future__ import annotations

import pytest

from distkeras.distribution import collectives
from distkeras.measurement.network import (
    GATHERED_BYTES,
    NCCL,
    Algorithm,
    Exchange,
    Network,
    all_reduce,
)


def network(*algorithms: Algorithm, bandwidth: float = 1e9, latency: float = 1e-5) -> Network:
    return Network(bandwidth=bandwidth, latency=latency, algorithms=algorithms or NCCL)


def test_a_ring_sends_each_byte_almost_twice() -> None:
    assert all_reduce(8e6, 4, network("ring")) == Exchange(6, 12e6)


def test_a_tree_goes_up_and_down_its_levels() -> None:
    assert all_reduce(8e6, 512, network("tree")) == Exchange(18, 16e6)
    assert all_reduce(8e6, 513, network("tree")).messages == 20


def test_one_worker_and_nothing_to_send_cost_nothing() -> None:
    assert all_reduce(8e6, 1, network()) == Exchange(0, 0) == all_reduce(0, 8, network())


@pytest.mark.parametrize("num_workers", [2, 3, 8, 64, 512])
def test_the_faster_of_ring_and_tree_is_taken(num_workers: int) -> None:
    for num_bytes in (1e3, 1e5, 1e7, 1e9):
        ring, tree, best = (
            all_reduce(num_bytes, num_workers, net).seconds(net)
            for net in (network("ring"), network("tree"), network())
        )
        assert best == min(ring, tree)


def test_the_ring_wins_with_long_sums_and_the_tree_with_short_ones() -> None:
    # Equal where the ring's further messages take as long as the tree's further bytes: 2 * n * (n - 1 - log2 n) * alpha
    # = 2 * bytes * beta.
    num_workers, net = 8, network()
    crossover = num_workers * (num_workers - 1 - 3) * net.latency * net.bandwidth
    assert all_reduce(0.99 * crossover, num_workers, net).messages == 2 * 3
    assert all_reduce(1.01 * crossover, num_workers, net).messages == 2 * 7


def test_short_sums_are_those_that_training_gathers() -> None:
    assert collectives.GATHERED_BYTES == GATHERED_BYTES
