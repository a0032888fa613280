"""Worker processes of this machine, as the side that asks for them sees them: who forks them is `worker_process.py`."""

from __future__ import annotations

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
        log: The file that gets what it prints while it imports.
    """

    def __init__(self, engine: str, log: Path) -> None:
        with log.open("a") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "distkeras.runners.worker_process", engine],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the process that started it, which passes it on
            )
        self._requests = cast("IO[bytes]", self._process.stdin)
        self._answers = cast("IO[bytes]", self._process.stdout).fileno()
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
            environment: Its whole environment.
            log: The file that gets what it prints.
        """
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
            code = self._process.wait()
            for worker in self._living():
                worker.code = -signal.SIGKILL if worker.process else code

    def end_workers(self) -> None:
        """Kills the workers that have not ended, and returns when there is none."""
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
        self._workers.clear()

    def _living(self) -> list[ForkedWorker]:
        return [worker for worker in self._workers if worker.code is None]


# Servers that nobody uses, by engine. They end with this process, whose end of their stdin is closed then.
_idle: defaultdict[str, list[ForkServer]] = defaultdict(list)


@contextmanager
def fork_server(engine: str, log: Path) -> Generator[ForkServer]:
    """Lends a server that has forked workers before, or a new one; no worker is left after the block.

    Args:
        engine: The engine that it has imported.
        log: The file that gets what it prints while it imports.
    """
    servers = [server for server in _idle.pop(engine, []) if server.is_alive]
    server = servers.pop() if servers else ForkServer(engine, log)
    _idle[engine] += servers
    try:
        yield server
    finally:
        server.end_workers()
        _idle[engine].append(server)
