"""Worker processes of this machine, as the side that asks for them sees them: who forks them is `worker_process.py`."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, Any, cast

# A process that is killed ends within milliseconds, unless the kernel holds it.
_END_SECONDS = 10.0


@dataclass
class ForkedWorker:
    """A worker process.

    Attributes:
        process: Its id; None: it is not forked yet.
        code: Its exit code, below zero the signal that ended it; None: it has not ended.
    """

    process: int | None = None
    code: int | None = None


class ForkServer:
    """A process that has imported an engine, or is about to, and forks worker processes.

    Args:
        engine: The engine.
        environment: The environment in which it imports, and that its workers have.
        log: The file that gets what it prints while it imports.
    """

    def __init__(self, engine: str, environment: Mapping[str, str], log: Path) -> None:
        self._answers, answers = os.pipe()
        try:
            with log.open("a") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "distkeras.runners.worker_process", engine, str(answers)],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    pass_fds=(answers,),
                    start_new_session=True,  # Ctrl-C is for the process that started it, which passes it on
                )
        finally:
            os.close(answers)
        self._requests = cast("IO[bytes]", self._process.stdin)
        self._workers: list[ForkedWorker] = []
        self._rest = b""

    @property
    def is_alive(self) -> bool:
        """Whether it can fork more workers."""
        return self._process.poll() is None

    def fork(self, values: Mapping[str, Any], environment: Mapping[str, str], log: Path) -> ForkedWorker:
        """Asks for a worker process, which has this process's working directory.

        Args:
            values: Its task and its place among the workers, as `as_values` gives them.
            environment: Variables of its own.
            log: The file that gets what it prints.
        """
        log.touch()  # who cannot write it is told of it here
        place = {"environment": dict(environment), "log": str(log.absolute()), "folder": os.getcwd()}
        self._workers.append(worker := ForkedWorker())
        with suppress(BrokenPipeError):  # a server that has ended is heard of
            self._requests.write(json.dumps({**values, **place}).encode() + b"\n")
            self._requests.flush()
        return worker

    def hear(self, seconds: float) -> None:
        """Waits for news of the workers, at most so long."""
        if not wait([self._answers], seconds):
            return
        content = os.read(self._answers, 2**16)
        *lines, self._rest = (self._rest + content).split(b"\n")
        for line in lines:
            word, process, *code = line.split()
            if word == b"forked":
                next(worker for worker in self._workers if worker.process is None).process = int(process)
            else:
                next(worker for worker in self._workers if worker.process == int(process)).code = int(*code)
        if not content:  # the server has ended, and every worker with it
            code = self._process.wait() or 1
            for worker in self._living():
                worker.code = -signal.SIGKILL if worker.process else code

    def end_workers(self) -> None:
        """Kills the workers that have not ended, and returns when they have; what the kernel holds is left to it."""
        self.hear(0)
        deadline = time.monotonic() + _END_SECONDS
        for worker in self._living():
            if worker.process is None:  # while it imports, it hears nothing
                self._process.kill()
            else:
                with suppress(ProcessLookupError):
                    os.killpg(worker.process, signal.SIGKILL)
        while self._living() and time.monotonic() < deadline:
            self.hear(_END_SECONDS)
        if self._living():
            self._process.kill()
            self._process.wait()
        self._workers.clear()

    def close(self) -> None:
        """Gives back what is held of a server that is not used again."""
        with suppress(BrokenPipeError):
            self._requests.close()
        os.close(self._answers)
        self._process.wait()

    def _living(self) -> list[ForkedWorker]:
        return [worker for worker in self._workers if worker.code is None]


# Servers that nobody uses, by engine and environment. They keep what they imported in memory until this process ends.
_idle: defaultdict[tuple[str, frozenset[tuple[str, str]]], list[ForkServer]] = defaultdict(list)


@contextmanager
def fork_server(engine: str, num_threads: int, log: Path) -> Generator[ForkServer]:
    """Lends a server that has forked workers before, or a new one; no worker is left after the block.

    Args:
        engine: The engine that it has imported.
        num_threads: Of each worker: what NumPy may use in it, which it learns while it is imported.
        log: The file that gets what a new one prints while it imports.
    """
    environment = {"OPENBLAS_NUM_THREADS": str(num_threads), **os.environ}
    servers = _idle[engine, frozenset(environment.items())]
    server = servers.pop() if servers else ForkServer(engine, environment, log)
    try:
        yield server
    finally:
        server.end_workers()
        if server.is_alive:
            servers.append(server)
        else:
            server.close()


@atexit.register
def _close_idle() -> None:
    """Waits for the idle servers, so that what they and their workers took is counted as this process's."""
    for servers in _idle.values():
        while servers:
            servers.pop().close()
