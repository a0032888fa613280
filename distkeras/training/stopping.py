"""Being told to stop: Ctrl-C, and the notice that a machine is about to go."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from distkeras.errors import DistkerasError, InterruptedRunError, PreemptedError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Remembers the first signal to stop; training looks at it between two chunks of steps.

    The first Ctrl-C or SIGTERM lets the run commit; a second one ends the process at once, without a commit.

    Args:
        path: A file that asks to stop where it exists: it holds the number of the signal that the process which
            started the workers got in their place.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._signal: signal.Signals | None = None

    def asked(self) -> int:
        """Returns the number of the signal that asked to stop, or 0."""
        if self._signal is None and self._path.exists():
            self._signal = signal.Signals(int(self._path.read_text()))
        return self._signal or 0

    @contextmanager
    def listening(self) -> Generator[None]:
        """Takes the signals over for a block; outside the main thread, which gets none, does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {number: signal.signal(number, self._receive) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None:
            # Not sys.exit: a background commit may hold a lock that no cleanup could get.
            os._exit(128 + number)
        self._signal = signal.Signals(number)


def stop_error(stop: int, step: int, resume_command: str) -> DistkerasError:
    """Returns what to raise once the state is committed.

    Args:
        stop: The number of the signal that asked to stop.
        step: Complete optimizer steps.
        resume_command: What the user types to go on.
    """
    asked = signal.Signals(stop)
    kind = InterruptedRunError if asked is signal.SIGINT else PreemptedError
    return kind(
        f"The run was stopped by {asked.name} and is committed.",
        place=f"step {step}",
        remedy=f"resume with: {resume_command}",
    )
