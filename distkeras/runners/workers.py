"""The worker's side of a run in several processes: its work, its log, and the error that it leaves behind.

What starts a worker (`processes.py`, Ray) hands it a `WorkerTask`; everything after that is the same for all.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import traceback
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distkeras import errors
from distkeras.config.sections import RunSettings
from distkeras.errors import DistkerasError, TrainingError, error_text
from distkeras.observability.atomic_files import read_json, write_json
from distkeras.observability.console import owned_console
from distkeras.observability.logs import rank_log
from distkeras.observability.progress import Progress
from distkeras.observability.relay import RelayedProgress
from distkeras.observability.run_directory import RunDirectory
from distkeras.runners.attempt import Attempt
from distkeras.runners.failures import WorkerError
from distkeras.topology import Worker


@dataclass(frozen=True)
class WorkerTask:
    """What a worker does, as plain values that cross process boundaries.

    Attributes:
        function: Whose work: `package.module:function`, called with the task and the worker.
        payload: What it works on; JSON values.
        directory: The run's directory, the same storage for all workers.
        command: What the user types to go on after a stop.
        unfinished: Whether there is anything left to train.
        engine: The engine that it computes with.
    """

    function: str
    payload: Mapping[str, Any]
    directory: str
    command: str
    unfinished: bool
    engine: str


def work(task: WorkerTask, worker: Worker) -> None:
    """Does a worker's work. Its error, if any, is written where the process that started it looks, and raised.

    Raises:
        BaseException: Whatever the work raises.
    """
    module, _, name = task.function.partition(":")
    if worker.cores and sys.platform == "linux":
        os.sched_setaffinity(0, worker.cores)  # and, from here on, every thread that is started
    try:
        getattr(importlib.import_module(module), name)(task, worker)
    except BaseException as error:
        write_json(RunDirectory(Path(task.directory)).error_path(worker.rank), _described(error))
        raise


@contextmanager
def worker_attempt(settings: RunSettings, task: WorkerTask, worker: Worker) -> Generator[Attempt]:
    """Opens the run for one worker: what libraries print goes to its rank's log, rank zero's progress is relayed."""
    directory = RunDirectory(Path(task.directory))
    log = directory.log_path(worker.rank)
    with ExitStack() as stack:
        stack.enter_context(rank_log(log, worker.rank))
        console = stack.enter_context(owned_console(log))
        progress = (
            RelayedProgress(directory.relay_path)
            if worker.rank == 0
            else Progress(console.stderr, quiet=True)
        )
        stack.enter_context(progress)
        yield Attempt(settings, directory, task.unfinished, console, progress, task.command, worker)


def forget_errors(directory: RunDirectory) -> None:
    """Removes what workers of an earlier attempt left behind."""
    for path in directory.logs.glob("rank-*.error.json"):
        path.unlink(missing_ok=True)


def read_errors(directory: RunDirectory) -> list[WorkerError]:
    """Returns what the workers of this attempt said, the cause first: what others ran into comes last."""
    found = [
        _restored(int(path.name.split(".")[0].removeprefix("rank-")), read_json(path))
        for path in directory.logs.glob("rank-*.error.json")
    ]
    return sorted(found, key=lambda one: (one.is_consequence, one.seconds))


def _described(error: BaseException) -> dict[str, Any]:
    expected = isinstance(error, DistkerasError)
    lines = traceback.format_exception(error)
    described: dict[str, Any] = {
        "seconds": time.time(),
        "kind": type(error).__name__,
        "expected": expected,
        # How TensorFlow words the error of an operation whose other end has gone.
        "consequence": "Collective ops is aborted" in str(error) and not expected,
        "problem": error.problem if isinstance(error, DistkerasError) else error_text(error),
        "traceback": "".join(lines),
    }
    if isinstance(error, DistkerasError):
        described |= {
            "place": error.place,
            "remedy": error.remedy,
            # As text: a loss that is not a number is no JSON.
            "received": None if error.received is None else repr(error.received),
        }
    return described


class _Shown(str):
    """What a value looked like in the worker that received it."""

    __slots__ = ()
    __repr__ = str.__str__


def _restored(rank: int, described: Mapping[str, Any]) -> WorkerError:
    if described["expected"]:
        kind = getattr(errors, described["kind"], DistkerasError)
        error = DistkerasError.__new__(kind)
        DistkerasError.__init__(
            error,
            described["problem"],
            place=described["place"] or f"rank {rank}",
            received=None if described["received"] is None else _Shown(described["received"]),
            remedy=described["remedy"],
        )
    else:
        error = TrainingError(
            f"A worker failed: {described['problem']}",
            place=f"rank {rank}",
            remedy=f"see its traceback in logs/rank-{rank}.log, or start with --debug",
        )
        error.add_note(described["traceback"])
    return WorkerError(rank, described["seconds"], error, described["expected"], described["consequence"])


def as_values(task: WorkerTask, worker: Worker) -> dict[str, Any]:
    """Returns a task and its worker as JSON values."""
    return {"task": asdict(task), "worker": asdict(worker)}


def from_values(values: Mapping[str, Any]) -> tuple[WorkerTask, Worker]:
    """Returns what `as_values` took apart."""
    worker = values["worker"]
    lists = {name: tuple(worker[name]) for name in ("addresses", "cores")}
    return WorkerTask(**values["task"]), Worker(**worker | lists)
