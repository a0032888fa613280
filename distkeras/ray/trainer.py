"""Ray's data-parallel trainer for Keras 3: how the workers of one training find each other."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import ray
from ray.train.backend import Backend, BackendConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from distkeras.distribution.ports import free_ports
from distkeras.ray.membership import join, under_strategy
from distkeras.ray.waits import with_waits
from distkeras.topology import Worker


@dataclass
class KerasConfig(BackendConfig):
    """How the workers of a `KerasTrainer` work together.

    Attributes:
        timeout_seconds: Longest that a worker waits for the others in one operation, `ray.train.report` included.
        reduction: What gradients cross the network as: the precision they have, or half the bytes of float32.
        connect: Whether workers meet before the train loop begins; False: the loop itself sees to it.
    """

    timeout_seconds: float = 300.0
    reduction: Literal["full", "bfloat16"] = "full"
    connect: bool = True

    @property
    def backend_cls(self) -> type[Backend]:
        """Ray asks for it."""
        return KerasBackend

    @property
    def train_func_context(self) -> Any:
        """What Ray calls the train loop in."""
        return under_strategy if self.connect else nullcontext

    def to_dict(self) -> dict[str, Any]:
        """Returns what Ray's state export shows."""
        return asdict(self)


class KerasBackend(Backend):
    """Gives each worker its place among the others before the train loop begins."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Called by Ray's controller once the worker processes run."""
        nodes = _with_cores(worker_group.execute(_describe))
        addresses = _addresses(worker_group, nodes)
        ray.get(
            [
                worker_group.execute_single_async(
                    rank,
                    join,
                    Worker(addresses, rank, node.num_threads, node.cores),
                    node.on_gpu,
                    backend_config,
                )
                for rank, node in enumerate(nodes)
            ]
        )


@dataclass(frozen=True)
class _Node:
    """Where a worker runs, and what Ray gave it there.

    Attributes:
        cores: Those that it may run on: of the machine, and after `_with_cores` its own.
    """

    host: str
    num_threads: int
    on_gpu: bool
    cores: tuple[int, ...]


def _describe() -> _Node:
    context = ray.get_runtime_context()
    resources = context.get_assigned_resources()
    # Ray appends the placement group to a resource's name.
    cpus = max((value for name, value in resources.items() if name.startswith("CPU")), default=1)
    return _Node(
        ray.util.get_node_ip_address(),
        max(1, int(cpus)),
        bool(context.get_accelerator_ids().get("GPU")),
        tuple(sorted(os.sched_getaffinity(0))) if sys.platform == "linux" else (),
    )


def _with_cores(nodes: Sequence[_Node]) -> list[_Node]:
    """Deals out the cores of the hosts that the run has to itself. On others Ray says how many, and not which."""
    taken = dict.fromkeys((node.host for node in nodes), 0)
    asked = {host: sum(node.num_threads for node in nodes if node.host == host) for host in taken}
    dealt: list[_Node] = []
    for node in nodes:
        start = taken[node.host]
        taken[node.host] += node.num_threads
        is_whole = asked[node.host] == len(node.cores)
        dealt.append(replace(node, cores=node.cores[start : start + node.num_threads] if is_whole else ()))
    return dealt


def _addresses(worker_group: Any, nodes: list[_Node]) -> tuple[str, ...]:
    """Lets one worker of each host choose the ports of all workers there, so that no two get the same one."""
    hosts = [node.host for node in nodes]
    ports = {
        host: iter(worker_group.execute_single(hosts.index(host), free_ports, hosts.count(host), host))
        for host in dict.fromkeys(hosts)
    }
    return tuple(f"{host}:{next(ports[host])}" for host in hosts)


class KerasTrainer(DataParallelTrainer):
    """Runs a train loop in worker processes on a Ray cluster, for Keras 3 on TensorFlow.

    It takes the arguments of Ray's trainers. In the loop, `distkeras.ray.prepare_model(compiled_model)` makes
    Keras's own `fit` train the global batch over all workers, on whatever each worker feeds it: its part of the
    data, as `ray.train.get_dataset_shard` or `dataset.shard(world_size, rank)` gives it, never the whole.

    Workers that share storage must not write the same files: on all ranks but zero a prepared model leaves out
    those Keras callbacks that write (see `distkeras.training.keras_workers.WRITING`). What a loop or a callback of
    your own writes is for `ray.train.get_context().get_world_rank() == 0`.

    Args:
        train_loop_per_worker: Called in every worker, with `train_loop_config` if it takes an argument.
        train_loop_config: What it is called with.
        keras_config: How the workers work together.
        scaling_config: How many workers there are, and what each holds of the cluster; one device a worker.
        run_config: Where results go, and how often a failed group starts again.
        datasets: Ray datasets, split among the workers.
        dataset_config: How they are split.
        others: Any further arguments of Ray's trainers, such as `validation_config`.
    """

    def __init__(
        self,
        train_loop_per_worker: Callable[..., Any],
        *,
        train_loop_config: dict[str, Any] | None = None,
        keras_config: KerasConfig | None = None,
        scaling_config: Any = None,
        run_config: Any = None,
        datasets: Mapping[str, Any] | None = None,
        dataset_config: Any = None,
        **others: Any,
    ) -> None:
        self.keras_config = keras_config or KerasConfig()
        super().__init__(
            train_loop_per_worker,
            train_loop_config=train_loop_config,
            backend_config=self.keras_config,
            scaling_config=scaling_config,
            run_config=run_config,
            datasets=None if datasets is None else dict(datasets),
            dataset_config=dataset_config,
            **others,
        )

    def fit(self) -> Any:
        """Trains until all workers are done and returns Ray's `Result`.

        Raises:
            ray.train.TrainingFailedError: If the workers failed more often than the run config allows.
        """
        with with_waits(self.keras_config.timeout_seconds):
            return super().fit()
