"""Worker processes on this machine, started and watched without Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from distkeras.config.sections import TopologySection
from distkeras.distribution.ports import free_ports
from distkeras.errors import ResourceError
from distkeras.observability.environment import describe_gpus
from distkeras.observability.run_directory import RunDirectory
from distkeras.runners.failures import GroupError
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
    processes: list[subprocess.Popen[str]] = []
    try:
        for rank, environment in enumerate(environments):
            worker = Worker(addresses, rank, max(1, len(cores[rank])), cores[rank])
            processes.append(_start(task, worker, environment, directory.log_path(rank)))
        _wait(processes, directory, watch)
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                # Its own session: what it may have started goes with it.
                os.killpg(process.pid, signal.SIGKILL)
            if process.stdin is not None:
                process.stdin.close()
            process.wait()


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


def _start(
    task: WorkerTask, worker: Worker, environment: Mapping[str, str], log: Path
) -> subprocess.Popen[str]:
    with log.open("a") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "distkeras.runners.worker_process"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
            text=True,
            start_new_session=True,  # Ctrl-C is for the process that started it, which passes it on
        )
    values: Any = as_values(task, worker)
    if process.stdin is not None:
        with suppress(BrokenPipeError):  # one that ended at once is found by its exit code
            print(json.dumps(values), file=process.stdin, flush=True)
    return process


def _wait(
    processes: Sequence[subprocess.Popen[str]], directory: RunDirectory, watch: Callable[[], None]
) -> None:
    first_end: float | None = None
    while any(process.poll() is None for process in processes):
        watch()
        if any(process.returncode for process in processes):
            first_end = first_end or time.monotonic()
            if time.monotonic() - first_end > GRACE_SECONDS:
                break
        time.sleep(POLL_SECONDS)
    watch()
    codes = {rank: process.poll() for rank, process in enumerate(processes)}
    lost = {rank: -code for rank, code in codes.items() if code is not None and code < 0}
    if any(codes.values()) or None in codes.values():
        raise GroupError(read_errors(directory), lost)
