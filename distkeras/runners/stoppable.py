"""Ctrl-C and SIGTERM where training does not listen: while modules are imported, data is opened, a test runs."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from distkeras.errors import InterruptedRunError, PreemptedError
from distkeras.runners.record import this_command
from distkeras.training.stopping import SIGNALS


class _Stopped(BaseException):
    """Passes every `except Exception` on its way, as KeyboardInterrupt does.

    It is none itself: Python ends by SIGINT whatever the exit code, once a KeyboardInterrupt has passed through
    `exec` of a text, which imports are full of (`unhandled_keyboard_interrupt` in CPython's pythonrun.c).
    """


@contextmanager
def stoppable() -> Generator[None]:
    """Turns both signals into an error that says how to go on; call it from the main thread.

    Raises:
        InterruptedRunError: After Ctrl-C.
        PreemptedError: After SIGTERM.
    """
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise _Stopped

    previous = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    except _Stopped as error:
        is_interrupt = received[0] == signal.SIGINT
        kind = InterruptedRunError if is_interrupt else PreemptedError
        raise kind(
            f"{'Ctrl-C' if is_interrupt else 'SIGTERM'} came outside of training; what was committed is kept.",
            remedy=f"resume with: {shlex.join(this_command())}",
        ) from error
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
