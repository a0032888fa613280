"""The program that worker processes are forked from: `python -m distkeras.runners.worker_process ENGINE ANSWERS`.

It imports the engine, which takes seconds, and then forks a worker for each request on its stdin. So the engine is
imported once, however many workers there are and however often one is replaced, and lies in memory once. Nothing of it
may run before the fork, which no thread but the calling one survives: those that importing starts are OpenBLAS's and
jemalloc's, which know of forks.

Requests are lines of JSON (`fork_server.py` writes them). Answers are lines in the descriptor ANSWERS: `forked PID`
to each request, `ended PID CODE` when that worker has ended; a code below zero is the signal that ended it.

Its stdin stays open as long as the process that started it lives. When that is gone, so is the lock on the run's
directory: server and workers end at once, or they would go on to write where another run may have begun. Signals that
stop a run are for its workers, which commit first.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from distkeras.runners.attempt import use_backend
from distkeras.runners.workers import from_values, work
from distkeras.training.stopping import SIGNALS


class Server:
    """Forks workers, and says which and how they ended.

    Args:
        requests: File descriptor that requests are read from.
        answers: File descriptor that is written to. Workers keep it open: it is at its end when they have gone, too.
    """

    def __init__(self, requests: int, answers: int) -> None:
        self._requests, self._answers = requests, answers
        self._workers: set[int] = set()
        # Only the server holds the end that nobody writes to: workers read on until it is gone.
        self._gone, self._here = os.pipe()
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._handlers = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
        # One that is ignored wakes nobody.
        self._handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake)

    def serve(self) -> None:
        """Forks workers until there can be no more requests."""
        rest = b""
        while True:
            ready = select.select([self._requests, self._woken], [], [])[0]
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._tell_of_ended()
            if self._requests in ready:
                content = os.read(self._requests, 2**16)
                if not content:
                    return
                *lines, rest = (rest + content).split(b"\n")
                for line in lines:
                    self._fork(json.loads(line))

    def _tell_of_ended(self) -> None:
        with suppress(ChildProcessError):  # there is none
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                process, status = ended
                if process in self._workers:  # and nothing that an import started
                    self._workers.remove(process)
                    with suppress(ProcessLookupError, PermissionError):
                        os.killpg(process, signal.SIGKILL)  # what it may have started goes with it
                    self._answer(f"ended {process} {os.waitstatus_to_exitcode(status)}")

    def _fork(self, request: Mapping[str, Any]) -> None:
        try:
            with warnings.catch_warnings(action="ignore"):  # of threads that it would lose: see above
                process = os.fork()
        except OSError:
            with Path(request["log"]).open("a") as log:
                traceback.print_exc(file=log)
            raise
        with suppress(OSError):  # both do it, or who comes first would not find it done
            os.setpgid(process, process)
        if process == 0:
            code = 1
            try:
                code = self._work(request)
            finally:
                # Without the libraries' own farewells: some wait for workers that have gone.
                os._exit(code)
        self._workers.add(process)
        self._answer(f"forked {process}")

    def _answer(self, text: str) -> None:
        os.write(self._answers, f"{text}\n".encode())

    def _work(self, request: Mapping[str, Any]) -> int:
        """Does a worker's work in the process that was forked for it; returns its exit code."""
        os.close(self._here)
        _redirect(request["log"])
        code = 0
        try:
            signal.set_wakeup_fd(-1)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            threading.Thread(target=self._end_with_server, daemon=True).start()
            os.environ.update(request["environment"])
            os.chdir(request["folder"])
            if not sys.flags.safe_path:
                sys.path[0] = request["folder"]  # as `python -m` has it
            work(*from_values(request))
        except BaseException as error:
            traceback.print_exc()
            code = getattr(error, "exit_code", 1)
        sys.stdout.flush()
        sys.stderr.flush()
        return code

    def _end_with_server(self) -> None:
        os.read(self._gone, 1)
        os.killpg(0, signal.SIGKILL)


def preload(engine: Any) -> None:
    """Imports what every worker needs, and starts nothing."""
    use_backend(engine)
    importlib.import_module("distkeras.training.session")


def _redirect(output: str) -> None:
    """Lets nothing be read from stdin, and appends stdout and stderr to a file."""
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for descriptors, path, flags in (((0,), os.devnull, os.O_RDONLY), ((1, 2), output, append)):
        file = os.open(path, flags, 0o644)
        for descriptor in descriptors:
            os.dup2(file, descriptor)
        os.close(file)


def main(engine: str, answers: int) -> None:
    """Imports an engine and forks workers."""
    os.set_inheritable(answers, False)  # passed to this program, and to none that a worker starts
    requests = os.dup(sys.stdin.fileno())
    server = Server(requests, answers)
    with suppress(Exception):  # the worker meets it again, and says it where it is heard
        preload(engine)
    gc.freeze()  # else its first collection in each worker would copy all of this
    # The folder and the log of the first group may go before the server does.
    os.chdir("/")
    sys.stdout.flush()
    sys.stderr.flush()
    _redirect(os.devnull)
    server.serve()


if __name__ == "__main__":
    exit_code = 1
    try:
        main(sys.argv[1], int(sys.argv[2]))
        exit_code = 0
    except BaseException:
        traceback.print_exc()
    # At once, and with it goes what the workers hold on to.
    os._exit(exit_code)
