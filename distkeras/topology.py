"""Where am I, and how many are we: the one value object that answers it."""

from __future__ import annotations

from dataclasses import dataclass

from distkeras.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process among several: what starts it says where the others are.

    Attributes:
        addresses: `host:port` of each worker, by rank. The ports are free on their hosts until the workers take them.
        rank: Index of this worker.
        num_threads: Threads that one TensorFlow operation may use; 0: one for each core.
        cores: Cores of the machine that the worker stays on; none: all.
    """

    addresses: tuple[str, ...]
    rank: int
    num_threads: int = 0
    cores: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Topology:
    """The place of this worker process in the run.

    It is built once (local run: from the devices; Ray worker: from Ray's context) and handed to whatever
    needs it; nothing else reads TF_CONFIG, RANK or Ray's context.

    The trap: a worker is a process, a replica is a copy of the model on one device. Under MirroredStrategy
    `world_size` is 1 while `num_replicas` may be 8.

    Attributes:
        world_size: Number of worker processes in the run.
        rank: Index of this worker in the run, in `[0, world_size)`.
        num_local_replicas: Model replicas in this worker; equal on every worker.
        local_rank: Index of this worker on its node.
        num_nodes: Number of machines in the run.
        node_rank: Index of this machine.
    """

    world_size: int = 1
    rank: int = 0
    num_local_replicas: int = 1
    local_rank: int = 0
    num_nodes: int = 1
    node_rank: int = 0

    def __post_init__(self) -> None:
        for name in ("world_size", "num_local_replicas", "num_nodes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"A topology needs at least one of `{name}`.", received=getattr(self, name))
        for index, count in (("rank", "world_size"), ("node_rank", "num_nodes")):
            if not 0 <= getattr(self, index) < getattr(self, count):
                raise ConfigError(
                    f"`{index}` must lie in [0, {count}).",
                    received={index: getattr(self, index), count: getattr(self, count)},
                )

    @property
    def num_replicas(self) -> int:
        """Model replicas over all workers."""
        return self.world_size * self.num_local_replicas

    @property
    def is_rank_zero(self) -> bool:
        """Whether this worker writes what only one may write."""
        return self.rank == 0

    @property
    def local_replicas(self) -> range:
        """The global indices of this worker's replicas."""
        start = self.rank * self.num_local_replicas
        return range(start, start + self.num_local_replicas)

    def per_replica_batch_size(self, global_batch_size: int) -> int:
        """Returns the examples each replica gets of one full global batch.

        Raises:
            ConfigError: If the batch does not divide evenly over the replicas.
        """
        size, rest = divmod(global_batch_size, self.num_replicas)
        if rest or size == 0:
            lower = max(size, 1) * self.num_replicas
            kind = "workers" if self.world_size > 1 else "replicas"
            raise ConfigError(
                f"The global batch size does not divide by the {self.num_replicas} {kind}.",
                place="training.global_batch_size",
                received=global_batch_size,
                remedy=f"use {lower} or {lower + self.num_replicas}, or change topology.{kind}",
            )
        return size
