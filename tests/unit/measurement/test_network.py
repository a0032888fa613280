"""Sums over workers cost what the ring, the two trees and the gather send."""

from __future__ import annotations

import math

import pytest

from distkeras.distribution import collectives
from distkeras.errors import ConfigError
from distkeras.measurement.network import (
    GATHERED_BYTES,
    GRPC_BYTE_SECONDS,
    GRPC_MESSAGE_SECONDS,
    NCCL,
    TENSORFLOW_CPU,
    Algorithm,
    Exchange,
    Network,
    all_reduce,
    between_cpus,
    with_software_apart,
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


def test_short_sums_are_gathered_between_cpus() -> None:
    net = network(*TENSORFLOW_CPU)
    assert all_reduce(GATHERED_BYTES / 4, 4, net) == Exchange(3, 3 * GATHERED_BYTES / 4)
    assert all_reduce(GATHERED_BYTES / 4 + 1, 4, net).messages == 6
    assert all_reduce(GATHERED_BYTES / 4, 4, net, may_gather=False).messages == 6
    assert all_reduce(GATHERED_BYTES / 4, 4, network("ring")).messages == 6


def test_what_is_gathered_is_what_the_collectives_gather() -> None:
    assert collectives.GATHERED_BYTES == GATHERED_BYTES


def test_what_is_hidden_is_not_waited_for() -> None:
    assert Exchange(10, 1e6, 4e-4).seconds(network()) == pytest.approx(10e-5 + 1e-3 - 4e-4)
    assert Exchange(10, 1e6).seconds(network(bandwidth=math.inf, latency=0)) == 0


def test_between_cpus_a_message_is_asked_for_and_software_takes_its_part() -> None:
    net = between_cpus(1.25e8, 2e-3)
    assert net.algorithms == TENSORFLOW_CPU
    assert Exchange(3, 1e6).seconds(net) == pytest.approx(
        3 * (4e-3 + GRPC_MESSAGE_SECONDS) + 1e6 * (1 / 1.25e8 + GRPC_BYTE_SECONDS)
    )


@pytest.mark.parametrize(("bandwidth", "latency"), [(1e8, 5e-3), (1e12, 1e-6), (math.inf, 0.0)])
def test_telling_software_apart_changes_no_exchange(bandwidth: float, latency: float) -> None:
    measured = network(*TENSORFLOW_CPU, bandwidth=bandwidth, latency=latency)
    assert Exchange(3, 1e6).seconds(with_software_apart(measured)) == pytest.approx(
        Exchange(3, 1e6).seconds(measured)
    )


def test_the_link_of_a_network_between_cpus_is_found_again() -> None:
    named = between_cpus(1.25e8, 2e-3)
    measured = network(*TENSORFLOW_CPU, bandwidth=1 / named.byte_seconds, latency=named.message_seconds)
    link = with_software_apart(measured)
    assert (link.bandwidth, link.latency) == (pytest.approx(1.25e8), pytest.approx(2e-3))


def test_no_link_takes_softwares_part_away() -> None:
    loopback = network(*TENSORFLOW_CPU, bandwidth=1e9, latency=2e-4)
    link = with_software_apart(loopback)
    assert (link.bandwidth, link.latency) == (math.inf, 0)
    assert (link.byte_seconds, link.message_seconds) == (pytest.approx(1e-9), pytest.approx(2e-4))


@pytest.mark.parametrize(
    ("numbers", "place"),
    [
        ({"bandwidth": 0.0, "latency": 0.0}, "bandwidth"),
        ({"bandwidth": math.nan, "latency": 0.0}, "bandwidth"),
        ({"bandwidth": 1.0, "latency": -1e-6}, "latency"),
        ({"bandwidth": 1.0, "latency": math.inf}, "latency"),
        ({"bandwidth": 1.0, "latency": 0.0, "algorithms": ("gather",)}, "algorithms"),
        ({"bandwidth": 1.0, "latency": 0.0, "software_byte_seconds": -1.0}, "software_byte_seconds"),
        ({"bandwidth": 1.0, "latency": 0.0, "software_message_seconds": -1.0}, "software_message_seconds"),
    ],
)
def test_a_network_that_cannot_be_is_refused(numbers: dict[str, float], place: str) -> None:
    with pytest.raises(ConfigError, match=r"above zero|zero or more|no way") as caught:
        Network(**numbers)
    assert caught.value.place == place
    assert caught.value.remedy
