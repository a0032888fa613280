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


def run_group(
    attempt: Attempt, function: str, payload: Mapping[str, Any], *, wait_seconds: float = 0.0
) -> None:
    """Runs a function in workers until they are done, starting again from the last commit where one was lost.

    Args:
        attempt: The run, held by this process.
        function: What each worker calls: `package.module:function`.
        payload: What it works on; JSON values.
        wait_seconds: On Ray, how long to wait for machines that the cluster does not have yet.

    Raises:
        DistkerasError: What ended the run, as its first failing worker said it.
    """
    directory, max_failures = attempt.directory, attempt.settings.topology.max_failures
    task = WorkerTask(function, payload, str(directory.path.absolute()), attempt.command, attempt.unfinished)
    start = _starter(attempt, wait_seconds)
    failures: list[Failure] = []
    while True:
        forget_errors(directory)
        relay = RelayReader(directory.relay_path, attempt.progress)
        with _passing_on_signals(directory, attempt) as watch_signals:

            def watch(show_news: Callable[[], None] = relay.show_news) -> None:
                show_news()
                watch_signals()

            try:
                start(task, watch)
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


def _starter(attempt: Attempt, wait_seconds: float) -> StartGroup:
    section = attempt.settings.topology
    if section.kind == "processes":
        from distkeras.runners.processes import run_processes

        return lambda task, watch: run_processes(task, section, watch)
    from distkeras.runners.ray_workers import run_on_ray

    size = attempt.settings.training.global_batch_size
    return lambda task, watch: run_on_ray(
        task, section, watch, attempt.progress, global_batch_size=size, wait_seconds=wait_seconds
    )


@contextmanager
def _passing_on_signals(directory: RunDirectory, attempt: Attempt) -> Generator[Callable[[], None]]:
    """Passes Ctrl-C and SIGTERM on to the workers, which commit and stop; a second one ends this process.

    Yields:
        What is to be called again and again: a signal's handler itself must neither print nor touch files.
    """
    received: list[int] = []
    passed_on = False

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt

    def pass_on() -> None:
        nonlocal passed_on
        if received and not passed_on:
            passed_on = True
            directory.stop_path.write_text(str(received[0]))
            attempt.progress.announce(
                f"{signal.Signals(received[0]).name}: committing; once more stops at once"
            )

    previous = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield pass_on
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
