"""How long a worker waits for the others before it gives up: a limit on calls, kept by a thread that watches them.

TensorFlow's own `timeout_seconds` of a collective operation starts a thread for each operation, which sleeps for the
whole timeout: 11,000 threads after 1,900 steps at 60 s (2.21, 2026-11-21), until the machine has none left.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from tensorflow.python.eager import context as tf_context

# What a call of many steps gets beside the timeout, for each step: so many times the steps of the call before.
PATIENCE = 5.0
_DEADLINE_EXCEEDED = 4


class Patience:
    """Ends the collective operations of this process where a call takes too long.

    Args:
        rank: Index of this worker, for the message.
        timeout_seconds: Longest wait in a call of one step.
    """

    def __init__(self, rank: int, timeout_seconds: float) -> None:
        self._rank = rank
        self._timeout = timeout_seconds
        self._pace: dict[str, float | None] = {}
        self._is_waiting = False

    @contextmanager
    def waiting(self, kind: str = "", num_steps: int = 1) -> Generator[None]:
        """Limits the block, which calls collective operations; a block inside it adds nothing.

        Args:
            kind: What sort of call it is; one with many steps is judged by the one of its kind before.
            num_steps: Steps in the call.
        """
        if self._is_waiting:
            yield
            return
        limit = self._limit(kind, num_steps)
        timer = threading.Timer(limit, self._abort, [limit])
        timer.daemon = True
        timer.start()
        self._is_waiting, begin = True, time.monotonic()
        try:
            yield
        finally:
            self._is_waiting = False
            timer.cancel()
            if kind in self._pace:
                self._pace[kind] = (time.monotonic() - begin) / num_steps
            else:
                self._pace[kind] = None  # the first call traces and compiles, which says nothing of the next

    def _limit(self, kind: str, num_steps: int) -> float:
        pace = self._pace.get(kind)
        # Nothing is known of the first calls' steps, but that each may take as long as a wait.
        return self._timeout * num_steps if pace is None else self._timeout + PATIENCE * pace * num_steps

    def _abort(self, limit: float) -> None:
        message = (
            f"rank {self._rank} waited {limit:.0f} s for the other workers, which are alive and do not answer "
            "(topology.timeout_seconds)"
        )
        tf_context.context().abort_collective_ops(_DEADLINE_EXCEEDED, message)
