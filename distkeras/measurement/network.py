"""The alpha-beta model of a network: a message takes a latency, and its bytes the time that they take to cross."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from distkeras.errors import ConfigError
from distkeras.measurement.quantities import check_not_negative, check_positive

# Sums of at most so many bytes over all workers are gathered; see distribution/collectives.py.
GATHERED_BYTES = 1024**2

Algorithm = Literal["ring", "tree", "gather"]
# What NCCL chooses from, and what distkeras does between CPUs.
NCCL: tuple[Algorithm, ...] = ("ring", "tree")
TENSORFLOW_CPU: tuple[Algorithm, ...] = ("ring", "gather")


@dataclass(frozen=True, kw_only=True)
class Network:
    """What connects the workers.

    Attributes:
        bandwidth: Bytes a second that a worker sends while it receives as many. Workers that share a machine's link
            to the others have it each: in a ring, only one of them sends through it.
        latency: Seconds that a message takes however short it is.
        algorithms: The ways to sum that there are; `gather` is what distkeras does with short sums.

    Raises:
        ConfigError: If a number is out of range, or long sums have no way.
    """

    bandwidth: float
    latency: float
    algorithms: tuple[Algorithm, ...] = NCCL

    def __post_init__(self) -> None:
        check_positive("bandwidth", self.bandwidth)
        check_not_negative("latency", self.latency)
        if not {"ring", "tree"} & set(self.algorithms):
            raise ConfigError(
                "Long sums have no way to be made.",
                place="algorithms",
                received=self.algorithms,
                remedy="add ring, or tree",
            )


@dataclass(frozen=True)
class Exchange:
    """What is sent one after the other: the part of an exchange that only a better network makes shorter.

    Attributes:
        messages: How many messages.
        num_bytes: How many bytes.
        hidden_seconds: How long computing goes on meanwhile.
    """

    messages: float
    num_bytes: float
    hidden_seconds: float = 0.0

    def seconds(self, network: Network) -> float:
        """Returns how long it goes on after computing."""
        return self.messages * network.latency + self.num_bytes / network.bandwidth - self.hidden_seconds


def all_reduce(num_bytes: float, num_workers: int, network: Network, *, may_gather: bool = True) -> Exchange:
    """Returns what is sent one after the other where all workers sum a tensor.

    Short tensors are gathered, where the network's algorithms say so: each worker gets those of all others, and sums
    by itself. Others go the faster way. Ring: each worker passes an n-th on, n - 1 times to sum and n - 1 times to
    spread the sums. Tree: up and down two trees that share the bytes (Sanders, Speck, Träff: Two-tree algorithms for
    full bandwidth broadcast, reduction and scan, 2009).

    Args:
        num_bytes: Bytes of the tensor on each worker.
        num_workers: How many workers there are.
        network: What connects them.
        may_gather: Whether the tensor is of a type that is gathered.
    """
    if num_workers == 1 or num_bytes == 0:
        return Exchange(0, 0)
    passes = num_workers - 1
    if "gather" in network.algorithms and may_gather and num_bytes * num_workers <= GATHERED_BYTES:
        return Exchange(passes, passes * num_bytes)
    ways: list[Exchange] = []
    if "ring" in network.algorithms:
        ways.append(Exchange(2 * passes, 2 * passes / num_workers * num_bytes))
    if "tree" in network.algorithms:
        ways.append(Exchange(2 * math.ceil(math.log2(num_workers)), 2 * num_bytes))
    return min(ways, key=lambda way: way.seconds(network))
