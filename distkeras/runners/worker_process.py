"""The program that worker processes are forked from: `python -m distkeras.runners.worker_process ENGINE`.

It imports the engine, which takes seconds, and then forks a worker for each request on its stdin. So the engine is
imported once, however many workers there are and however often one is replaced, and lies in memory once. Nothing of it
may run before the fork, which no thread but the calling one survives: those that importing starts are OpenBLAS's and
jemalloc's, which know of forks.

Requests are lines of JSON (`fork_server.py` writes them). Answers are lines on stdout: `forked PID` to each request,
`ended PID CODE` when that worker has ended; a code below zero is the signal that ended it, as for `subprocess`.

Its stdin stays open as long as the process that started it lives. When that is gone, so is the lock on the run's
directory: server and workers end at once, or they would go on to write where another run may have begun.
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
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from distkeras.runners.attempt import use_backend
from distkeras.runners.workers import from_values, work

_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND


def serve(engine: Any) -> None:
    """Imports an engine and forks workers until stdin ends."""
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what is printed while it imports is no answer
    with suppress(Exception):  # the worker meets it again, and says it where it is heard
        preload(engine)
    gc.freeze()  # else its first collection in each worker would copy all of this
    ended, end = os.pipe()
    for event in _events(sys.stdin.fileno()):
        if isinstance(event, bytes):
            _answer(answers, f"forked {_fork(json.loads(event), ended, end)}")
        else:
            _answer(answers, "ended {} {}".format(*event))


def preload(engine: Any) -> None:
    """Imports what every worker needs, and starts nothing."""
    use_backend(engine)
    importlib.import_module("distkeras.training.session")


def _answer(answers: int, text: str) -> None:
    os.write(answers, f"{text}\n".encode())


def _events(requests: int) -> Iterator[bytes | tuple[int, int]]:
    """Yields requests, and of each worker that has ended its process and its code, as they come."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)  # one that is ignored wakes nobody
    signal.set_wakeup_fd(wake)
    rest = b""
    while True:
        ready = select.select([requests, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
            yield from _ended_workers()
        if requests in ready:
            content = os.read(requests, 2**16)
            if not content:
                return
            *lines, rest = (rest + content).split(b"\n")
            yield from lines


def _ended_workers() -> Iterator[tuple[int, int]]:
    with suppress(ChildProcessError):  # there is none
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            process, status = ended
            with suppress(ProcessLookupError):
                # Its own process group: what it may have started goes with it.
                os.killpg(process, signal.SIGKILL)
            yield process, os.waitstatus_to_exitcode(status)


def _fork(request: Mapping[str, Any], ended: int, end: int) -> int:
    with warnings.catch_warnings(action="ignore"):  # of threads that it would lose: see above
        process = os.fork()
    with suppress(OSError):  # both do it, or who comes first would not find it done
        os.setpgid(process, process)
    if process == 0:
        code = 1
        try:
            os.close(end)
            code = _work(request, ended)
        finally:
            # Without the libraries' own farewells: some wait for workers that have gone.
            os._exit(code)
    return process


def _work(request: Mapping[str, Any], ended: int) -> int:
    """Does a worker's work in a process that was forked for it; returns its exit code."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    threading.Thread(target=_end_with_server, args=(ended,), daemon=True).start()
    for descriptors, flags, path in (((0,), os.O_RDONLY, os.devnull), ((1, 2), _APPEND, request["log"])):
        file = os.open(path, flags)
        for descriptor in descriptors:
            os.dup2(file, descriptor)
        os.close(file)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.path[0] = request["folder"]  # as `python -m` has it
    code = 0
    try:
        work(*from_values(request))
    except BaseException as error:
        traceback.print_exc()
        code = getattr(error, "exit_code", 1)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _end_with_server(ended: int) -> None:
    os.read(ended, 1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    serve(sys.argv[1])
