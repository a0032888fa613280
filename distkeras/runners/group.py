"""The starting side of a run in several processes: progress shown, signals passed on, lost workers replaced."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from distkeras.checkpoint.commit import latest
from distkeras.errors import InterruptedRunError, PreemptedError
from distkeras.observability.relay import RelayReader
from distkeras.observability.run_directory import RunDirectory
from distkeras.runners.attempt import Attempt
from distkeras.runners.failures import Failure, GroupError, may_retry
from distkeras.runners.record import begin_again
from distkeras.runners.workers import WorkerTask, forget_errors
from distkeras.training.stopping import SIGNALS

# (task, called again and again) -> None once all workers have ended
StartGroup = Callable[[WorkerTask, Callable[[], None]], None]


def run_group(attempt: Attempt, function: str, payload: Mapping[str, Any]) -> None:
    """Runs a function in workers until they are done, starting again from the last commit where one was lost.

    Args:
        attempt: The run, held by this process.
        function: What each worker calls: `package.module:function`.
        payload: What it works on; JSON values.

    Raises:
        DistkerasError: What ended the run, as its first failing worker said it.
    """
    directory, max_failures = attempt.directory, attempt.settings.topology.max_failures
    task = WorkerTask(function, payload, str(directory.path.absolute()), attempt.command, attempt.unfinished)
    start = _starter(attempt)
    failures: list[Failure] = []
    while True:
        forget_errors(directory)
        relay = RelayReader(directory.relay_path, attempt.progress)
        with _passing_on_signals(directory, attempt):
            try:
                start(task, relay.show_news)
                return
            except GroupError as failure:
                last = failure.cause(_committed(directory))
        failures.append(last)
        if isinstance(last.error, PreemptedError | InterruptedRunError) or not may_retry(
            failures, max_failures
        ):
            raise last.error
        attempt.progress.announce(
            f"{last.error.problem} Starting again from step {last.step} ({len(failures)} of {max_failures})"
        )
        begin_again(directory)


def _starter(attempt: Attempt) -> StartGroup:
    section = attempt.settings.topology
    if section.kind == "processes":
        from distkeras.runners.processes import run_processes

        return lambda task, watch: run_processes(task, section, watch)
    from distkeras.runners.ray_workers import run_on_ray

    return lambda task, watch: run_on_ray(task, section, watch, attempt.progress)


@contextmanager
def _passing_on_signals(directory: RunDirectory, attempt: Attempt) -> Generator[None]:
    """Passes Ctrl-C and SIGTERM on to the workers, which commit and stop; a second one ends this process."""
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt
        directory.stop_path.write_text(str(number))
        attempt.progress.announce(f"{signal.Signals(number).name}: committing; once more stops at once")

    previous = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    except KeyboardInterrupt as error:
        kind = InterruptedRunError if received and received[0] == signal.SIGINT else PreemptedError
        raise kind(
            "The run was stopped at once; what was committed before is kept.",
            remedy=f"resume with: {attempt.command}",
        ) from error
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _committed(directory: RunDirectory) -> int:
    found = latest(directory.checkpoints)
    return found.commit.step if found else 0
