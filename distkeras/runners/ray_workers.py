"""Worker processes on a Ray cluster, started and watched through Ray Train.

What Ray waits for by default, and what is set here on purpose, beside the table in `distkeras/ray/waits.py`:

| what | Ray's default | here |
|---|---|---|
| restarts by Ray itself (`FailureConfig`) | none for workers, without end for a group that finds no room | none |
| a request that the cluster can never meet | tried for ever | refused in one sentence before anything starts |
| room that others hold (RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S) | 60 s, then again for ever | 60 s or `wait_seconds` |
| watch for machines that go (RAY_TRAIN_ENABLE_PREEMPTION_WATCHER) | on | off: `run_group` starts again |
| a cluster address that nobody answers at | half a minute of tries | 5 s |
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.v2.api.config import LoggingConfig

from distkeras.config.sections import TopologySection
from distkeras.errors import DistkerasError, ResourceError, error_text
from distkeras.observability.progress import Progress
from distkeras.observability.run_directory import RunDirectory
from distkeras.ray import KerasConfig, KerasTrainer
from distkeras.ray.membership import current_worker
from distkeras.ray.waits import with_environment
from distkeras.runners.failures import GroupError, WorkerError
from distkeras.runners.ray_room import Group, Resources, choose_group, no_room
from distkeras.runners.workers import WorkerTask, as_values, from_values, read_errors, work
from distkeras.topology import Worker

POLL_SECONDS = 0.1
# For an answer from an address that the user gave.
REACH_SECONDS = 5.0
# For room on the cluster that others hold; with `wait_seconds`, that long.
START_SECONDS = 60.0
# Ray Train's own machinery that a run does not use.
_QUIET = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}


def run_on_ray(
    task: WorkerTask,
    section: TopologySection,
    watch: Callable[[], None],
    progress: Progress,
    *,
    global_batch_size: int | None = None,
    wait_seconds: float = 0.0,
) -> None:
    """Runs a task in Ray Train workers until all have ended.

    Args:
        task: What they do. Its directory is storage that all machines of the cluster share.
        section: How many workers, and what each holds of the cluster.
        watch: Called again and again while they run.
        progress: Where it is said what is waited for.
        global_batch_size: Where the number of workers is a range: what it must divide.
        wait_seconds: How long to wait for machines that the cluster does not have yet.

    Raises:
        GroupError: If a worker failed or was lost; the others are ended then.
        ResourceError: If there is no such cluster, or no room on it.
    """
    directory = RunDirectory(Path(task.directory))
    join_cluster(progress)
    group = _wait_for_room(section, global_batch_size, wait_seconds, watch, progress, directory.stop_path)
    progress.announce(f"starting {group.num_workers} workers on Ray")
    storage = directory.path / "ray"
    waits = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": f"{max(START_SECONDS, wait_seconds):g}"}
    try:
        with with_environment(_QUIET | waits):
            _run(_trainer(task, section, group, storage), watch)
    except TrainingFailedError as error:
        raise _explained(error, directory, group) from error
    finally:
        shutil.rmtree(storage, ignore_errors=True)


def join_cluster(progress: Progress) -> None:
    """Connects this process to the cluster of RAY_ADDRESS or of this machine; where there is none, starts one here.

    Raises:
        ResourceError: If nobody answers at RAY_ADDRESS.
    """
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")
    joins = address not in (None, "local")
    progress.announce(f"joining the Ray cluster at {address}" if joins else "starting Ray")
    _require_answer(address)
    with _own_signals():
        try:
            _init(None)
        except (ConnectionError, RuntimeError) as error:
            if joins:
                raise _no_cluster(address, str(error)) from error
            _init("local")  # what Ray remembers of this machine's last cluster is out of date


def _init(address: str | None) -> None:
    ray.init(
        address=address,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        logging_level=logging.ERROR,
    )


def _require_answer(address: str | None) -> None:
    """Ray itself tries for half a minute, and ends the process then."""
    host, _, port = (address or "").rpartition(":")
    if not host or "://" in host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()
    except OSError as error:
        raise _no_cluster(address, str(error)) from error


def _no_cluster(address: str | None, reason: str) -> ResourceError:
    return ResourceError(
        "There is no Ray cluster at this address.",
        place=f"RAY_ADDRESS: {address}",
        received=reason.partition("\n")[0],
        remedy="start one with `ray start --head`, or unset RAY_ADDRESS to use this machine alone",
    )


@contextmanager
def _own_signals() -> Generator[None]:
    """Gives the signals back that Ray takes over."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait_for_room(
    section: TopologySection,
    global_batch_size: int | None,
    wait_seconds: float,
    watch: Callable[[], None],
    progress: Progress,
    stop_path: Path,
) -> Group:
    deadline = time.monotonic() + wait_seconds
    said = False
    while True:
        nodes = _nodes()
        group = choose_group(section, nodes, global_batch_size)
        if group is not None:
            return group
        error = no_room(section, nodes)
        if time.monotonic() >= deadline:
            raise error
        if not said:
            progress.announce(f"waiting up to {wait_seconds:g} s: {error.problem}")
            said = True
        watch()
        if stop_path.exists():
            raise GroupError([], {})
        time.sleep(POLL_SECONDS)


def _nodes() -> list[Resources]:
    """Returns what each machine of the cluster has in total; what others use of it is waited for."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _trainer(task: WorkerTask, section: TopologySection, group: Group, storage: Path) -> KerasTrainer:
    resources = dict(group.resources)
    values = as_values(task, Worker((), 0))
    return KerasTrainer(
        work_in_worker,
        train_loop_config={"values": values, "folder": str(Path.cwd())},
        keras_config=KerasConfig(connect=False, timeout_seconds=section.timeout_seconds),
        scaling_config=ScalingConfig(
            num_workers=group.num_workers,
            use_gpu="GPU" in resources,
            resources_per_worker=resources,
            placement_strategy=section.placement,
        ),
        run_config=RunConfig(
            name="workers",
            storage_path=str(storage),
            failure_config=FailureConfig(
                max_failures=0, controller_failure_limit=0, max_preemption_failures=0
            ),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def work_in_worker(config: Mapping[str, Any]) -> None:
    """The train loop: does the task's work at the place that the backend has given this process.

    Raises:
        DistkerasError: As the work raised it.
        RuntimeError: In place of anything else. Ray's controller and the process that called it would first import
            TensorFlow, one after the other, to hold an error of TensorFlow in their hands: 7 of the 18 s from the
            loss of a worker to the next step.
    """
    with suppress(OSError):  # on other machines the folder may be missing; the run's directory is absolute
        os.chdir(config["folder"])
    task, _ = from_values(config["values"])
    try:
        work(task, current_worker())
    except DistkerasError:
        raise
    except Exception as error:
        raise RuntimeError(error_text(error)) from None


def _run(trainer: KerasTrainer, watch: Callable[[], None]) -> None:
    """Runs Ray's `fit`, which blocks, in a thread, so that this one can watch and hear signals."""
    failed: list[BaseException] = []

    def fit() -> None:
        try:
            trainer.fit()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=fit, name="ray", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            watch()
            thread.join(POLL_SECONDS)
    except BaseException:
        ray.shutdown()  # the workers belong to this process, and end with its connection
        raise
    watch()
    if failed:
        raise failed[0]


def _explained(error: TrainingFailedError, directory: RunDirectory, group: Group) -> Exception:
    failures: Mapping[int, Exception] | None = getattr(error, "worker_failures", None)
    if failures is None:
        return _not_started(error, group)
    errors = read_errors(directory)
    said = {one.rank for one in errors}
    silent = {rank: failure for rank, failure in failures.items() if rank not in said}
    # Ray does not know by which signal a worker ended.
    lost = {rank: 0 for rank, failure in silent.items() if _is_loss(failure)}
    errors += [_unwritten(rank, failure) for rank, failure in silent.items() if rank not in lost]
    return GroupError(errors, lost)


def _is_loss(failure: Exception) -> bool:
    """Whether a worker no longer answered; the classes are Ray Train's own and not public."""
    return type(failure).__name__.startswith("WorkerHealthCheck")


def _unwritten(rank: int, failure: Exception) -> WorkerError:
    """Returns the error of a worker that could not write it where this process reads: storage that is not shared."""
    root: BaseException = getattr(failure, "_base_exc", failure)  # what the train function raised
    known = root.problem if isinstance(root, DistkerasError) else None
    text = known or (str(root) if type(root) is RuntimeError else error_text(root))
    error = ResourceError(
        f"A worker failed, and its error did not reach the run's directory: {text}",
        place=f"rank {rank}",
        remedy="put output_dir on storage that all machines of the cluster share at the same path",
    )
    return WorkerError(rank, time.time(), error, is_expected=True, is_consequence=False)


def _not_started(error: TrainingFailedError, group: Group) -> ResourceError:
    cause = getattr(error, "controller_failure", error)
    if type(cause).__name__ == "WorkerGroupStartupTimeoutError":
        free = {name: ray.available_resources().get(name, 0) for name in group.resources}
        return ResourceError(
            f"The Ray cluster did not get free for {group.num_workers} workers in time.",
            place="topology.workers",
            received=f"free now: {free}, asked for by each: {dict(group.resources)}",
            remedy="wait until others are done, or ask for fewer workers or less for each",
        )
    return ResourceError(
        "Ray could not start the workers.",
        received=str(cause).strip().partition("\n")[0],
        remedy="see logs/rank-0.log of the run, and that all machines have this package and share the run's storage",
    )
