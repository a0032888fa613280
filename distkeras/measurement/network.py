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
JAX_CPU: tuple[Algorithm, ...] = ("ring",)
# What TensorFlow's collectives over gRPC add to a link between CPUs: to each message, and to each byte, which is packed
# and copied. Sums of two workers on loopback, with next to no link (2 cores, 2026-11-21): 4 kB take 0.34 ms, 480 kB
# 0.75, 1 MB 1.6, 4 MB 9.9, 8 MB 21: bytes of messages below 500 kB, which caches hold, cost a third of these.
GRPC_MESSAGE_SECONDS = 0.35e-3
GRPC_BYTE_SECONDS = 2.5e-9


@dataclass(frozen=True, kw_only=True)
class Network:
    """What connects the workers.

    Attributes:
        bandwidth: Bytes a second that a worker sends while it receives as many. Workers that share a machine's link
            to the others have it each: in a ring, only one of them sends through it.
        latency: Seconds that a message takes however short it is.
        algorithms: The ways to sum that there are; `gather` is what distkeras does with short sums.
        trips: How often a message's latency passes: 2 where it is asked for.
        software_message_seconds: What software adds to each message, whatever the link.
        software_byte_seconds: What it adds to each byte: copies, one after the other.

    Raises:
        ConfigError: If a number is out of range, or long sums have no way.
    """

    bandwidth: float
    latency: float
    algorithms: tuple[Algorithm, ...] = NCCL
    trips: int = 1
    software_message_seconds: float = 0.0
    software_byte_seconds: float = 0.0

    def __post_init__(self) -> None:
        check_positive("bandwidth", self.bandwidth)
        for name in ("latency", "software_message_seconds", "software_byte_seconds"):
            check_not_negative(name, getattr(self, name))
        if not {"ring", "tree"} & set(self.algorithms):
            raise ConfigError(
                "Long sums have no way to be made.",
                place="algorithms",
                received=self.algorithms,
                remedy="add ring, or tree",
            )

    @property
    def message_seconds(self) -> float:
        """Seconds that a message takes however short it is, software and all."""
        return self.trips * self.latency + self.software_message_seconds

    @property
    def byte_seconds(self) -> float:
        """Seconds that each byte takes, software and all."""
        return 1 / self.bandwidth + self.software_byte_seconds


def between_cpus(bandwidth: float, latency: float) -> Network:
    """Returns a link with what TensorFlow's collectives make of it between CPUs.

    A message is asked for: the request crosses the link before it.

    Args:
        bandwidth: Of the link, in bytes a second in each direction.
        latency: Of the link, in seconds one way.
    """
    return Network(
        bandwidth=bandwidth,
        latency=latency,
        algorithms=TENSORFLOW_CPU,
        trips=2,
        software_message_seconds=GRPC_MESSAGE_SECONDS,
        software_byte_seconds=GRPC_BYTE_SECONDS,
    )


def with_software_apart(measured: Network) -> Network:
    """Returns a network between CPUs as it was measured, with the software's part told from the link's.

    No better link takes the software's part away.

    Args:
        measured: What a fit found: its latency and bandwidth hold the software's.
    """
    message = min(measured.latency, GRPC_MESSAGE_SECONDS)
    byte = min(measured.byte_seconds, GRPC_BYTE_SECONDS)
    left = measured.byte_seconds - byte
    return Network(
        bandwidth=1 / left if left > 0 else math.inf,
        latency=(measured.latency - message) / 2,
        algorithms=measured.algorithms,
        trips=2,
        software_message_seconds=message,
        software_byte_seconds=byte,
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
        return (
            self.messages * network.message_seconds
            + self.num_bytes * network.byte_seconds
            - self.hidden_seconds
        )


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
