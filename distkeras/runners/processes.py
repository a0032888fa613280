"""Worker processes on this machine, started and watched without Ray."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from distkeras.config.sections import TopologySection
from distkeras.distribution.ports import free_ports
from distkeras.errors import ResourceError
from distkeras.observability.environment import describe_gpus
from distkeras.observability.run_directory import RunDirectory
from distkeras.runners.failures import GroupError
from distkeras.runners.fork_server import ForkedWorker, ForkServer, fork_server
from distkeras.runners.workers import WorkerTask, as_values, read_errors
from distkeras.topology import Worker

POLL_SECONDS = 0.05
# What the other workers get to end by themselves and say why, once one has ended.
GRACE_SECONDS = 3.0


def run_processes(
    task: WorkerTask, section: TopologySection, watch: Callable[[], None], *, host: str = "127.0.0.1"
) -> None:
    """Runs a task in worker processes on this machine until all have ended.

    TensorFlow's server in each worker listens on all interfaces, whatever `host` is, and asks nobody who they are.

    Args:
        task: What they do.
        section: How many, and on which devices.
        watch: Called again and again while they run.
        host: Address at which the workers listen for each other.

    Raises:
        GroupError: If a worker failed or was lost; the others are ended then.
        ResourceError: If there are fewer GPUs than workers.
    """
    num_workers = section.workers if isinstance(section.workers, int) else section.workers[0]
    environments = _devices(section, num_workers)
    addresses = tuple(f"{host}:{port}" for port in free_ports(num_workers, host))
    cores = _cores(num_workers)
    directory = RunDirectory(Path(task.directory))
    logs = [directory.log_path(rank) for rank in range(num_workers)]
    num_threads = max(1, len(cores[0]))
    with fork_server(task.engine, num_threads, logs[0]) as server:
        workers = [
            server.fork(
                as_values(task, Worker(addresses, rank, num_threads, cores[rank])),
                environments[rank],
                logs[rank],
            )
            for rank in range(num_workers)
        ]
        codes = _wait(workers, server, watch)
    lost = {rank: -code for rank, code in enumerate(codes) if code is not None and code < 0}
    if any(codes):
        raise GroupError(read_errors(directory), lost)


def _cores(num_workers: int) -> list[tuple[int, ...]]:
    """Returns the cores of each worker, none where there are fewer cores than workers.

    Left to wander, two workers of a small CNN on 2 cores took 16.9 ms a step; each on its own core, 11.4 ms.
    """
    usable = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    share = len(usable) // num_workers
    return [tuple(usable[rank * share : (rank + 1) * share]) for rank in range(num_workers)]


def _devices(section: TopologySection, num_workers: int) -> list[Mapping[str, str]]:
    """Returns the environment of each worker: the one GPU that it sees, or none."""
    num_gpus = 0 if section.devices == "cpu" else len(describe_gpus())
    if (section.devices == "gpu" and num_gpus < num_workers) or 0 < num_gpus < num_workers:
        raise ResourceError(
            f"{num_workers} workers need a GPU each, and this machine has {num_gpus}.",
            place="topology.workers",
            remedy=f"use at most {num_gpus} workers" if num_gpus else "use topology.devices: cpu",
        )
    return [{"CUDA_VISIBLE_DEVICES": str(rank) if num_gpus else "-1"} for rank in range(num_workers)]


def _wait(workers: Sequence[ForkedWorker], server: ForkServer, watch: Callable[[], None]) -> list[int | None]:
    """Returns the exit codes of the workers; None of those that had to be ended after another one failed."""
    first_end: float | None = None
    while None in (codes := [worker.code for worker in workers]):
        watch()
        if any(codes):
            first_end = first_end or time.monotonic()
            # SIGKILL comes from outside the work: the others know no more of it than we do.
            if -signal.SIGKILL in codes or time.monotonic() - first_end > GRACE_SECONDS:
                break
        server.hear(POLL_SECONDS)
    watch()
    return codes
