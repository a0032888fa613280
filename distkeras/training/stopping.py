"""Being told to stop: Ctrl-C, and the notice that a machine is about to go."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from distkeras.errors import DistkerasError, InterruptedRunError, PreemptedError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Remembers the first signal to stop; training looks at it between two chunks of steps.

    The first Ctrl-C or SIGTERM lets the run commit; a second one ends the process at once, without a commit.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

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
        if self.signal is not None:
            # Not sys.exit: a background commit may hold a lock that no cleanup could get.
            os._exit(128 + number)
        self.signal = signal.Signals(number)

    def error(self, step: int, resume_command: str) -> DistkerasError:
        """Returns what to raise once the state is committed."""
        kind = InterruptedRunError if self.signal is signal.SIGINT else PreemptedError
        return kind(
            f"The run was stopped by {self.signal.name if self.signal else 'a request'} and is committed.",
            place=f"step {step}",
            remedy=f"resume with: {resume_command}",
        )
