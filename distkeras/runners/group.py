"""The starting side of a run in several processes: progress shown, signals passed on, lost workers replaced."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from distkeras.checkpoint.commit import latest
from distkeras.errors import DistkerasError, InterruptedRunError, PreemptedError
from distkeras.observability.atomic_files import write_bytes
from distkeras.observability.relay import RelayReader
from distkeras.observability.run_directory import RunDirectory
from distkeras.runners.attempt import Attempt, import_text, require_engine
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
    path, engine = str(directory.path.absolute()), attempt.settings.engine
    task = WorkerTask(function, payload, path, attempt.command, attempt.unfinished, engine)
    start = _starter(attempt, wait_seconds)
    failures: list[Failure] = []
    with _passing_on_signals(directory, attempt) as signals:
        while True:
            forget_errors(directory)
            relay = RelayReader(directory.relay_path, attempt.progress)

            def watch(relay: RelayReader = relay) -> None:
                relay.show_news()
                signals.pass_on()

            try:
                start(task, watch)
                return
            except GroupError as failure:
                failures.append(failure.cause(_committed(directory)))
            last = failures[-1]
            if signals.received:
                raise _stopped(signals.received[0], last, attempt)
            if not may_retry(failures, max_failures):
                raise last.error
            attempt.progress.announce(
                f"{last.error.problem} Starting again from step {last.step} ({len(failures)} of {max_failures})"
            )
            begin_again(directory)


def _stopped(number: int, last: Failure, attempt: Attempt) -> DistkerasError:
    """Returns what the workers said of being stopped; where they were lost meanwhile, that this is how it ended."""
    if isinstance(last.error, PreemptedError | InterruptedRunError):
        return last.error
    kind = InterruptedRunError if number == signal.SIGINT else PreemptedError
    return kind(
        f"The run was stopped by {signal.Signals(number).name}, and its workers were gone before they could commit.",
        place=f"the last commit is of step {last.step}",
        received=last.error.problem,
        remedy=f"resume with: {attempt.command}",
    )


def _starter(attempt: Attempt, wait_seconds: float) -> StartGroup:
    section = attempt.settings.topology
    if section.kind == "processes":
        from distkeras.runners.processes import run_processes

        require_engine(attempt.settings.engine)  # rather than in each worker
        attempt.progress.announce(import_text(attempt.settings.engine))
        return lambda task, watch: run_processes(task, section, watch)
    from distkeras.runners.ray_workers import run_on_ray

    size = attempt.settings.training.global_batch_size
    return lambda task, watch: run_on_ray(
        task, section, watch, attempt.progress, global_batch_size=size, wait_seconds=wait_seconds
    )


class _Signals:
    """Ctrl-C and SIGTERM, which the workers are told of once: they commit and stop. A second one ends this process."""

    def __init__(self, directory: RunDirectory, attempt: Attempt) -> None:
        self._directory, self._attempt = directory, attempt
        self._passed_on = False
        self.received: list[int] = []

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Remembers a signal: its handler must neither print nor touch files."""
        self.received.append(number)
        if len(self.received) > 1:
            raise KeyboardInterrupt

    def pass_on(self) -> None:
        """Tells the workers of a signal; called again and again while they run."""
        if self.received and not self._passed_on:
            self._passed_on = True
            write_bytes(self._directory.stop_path, str(self.received[0]).encode())
            name = signal.Signals(self.received[0]).name
            self._attempt.progress.announce(f"{name}: committing; once more stops at once")


@contextmanager
def _passing_on_signals(directory: RunDirectory, attempt: Attempt) -> Generator[_Signals]:
    signals = _Signals(directory, attempt)
    previous = {number: signal.signal(number, signals.receive) for number in SIGNALS}
    try:
        yield signals
    except KeyboardInterrupt as error:
        is_interrupt = bool(signals.received) and signals.received[0] == signal.SIGINT
        kind = InterruptedRunError if is_interrupt else PreemptedError
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
