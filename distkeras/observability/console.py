"""A console without foreign lines: what others print goes to the rank's log, what we say stays visible."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from distkeras.observability.atomic_files import explained


@dataclass(frozen=True)
class OwnedConsole:
    """The console as it was before the block; only our own lines go here.

    Attributes:
        stdout: For results: with `--json`, exactly one object.
        stderr: For progress and errors.
    """

    stdout: TextIO
    stderr: TextIO


@contextmanager
def owned_console(log_path: Path) -> Generator[OwnedConsole]:
    """Points the process's stdout and stderr at a log file while the block runs.

    TensorFlow's C++ code writes to file descriptor 2 by itself and no longer obeys TF_CPP_MIN_LOG_LEVEL
    (2.21), so the descriptors 1 and 2 are replaced, not only `sys.stdout` and `sys.stderr`. Child processes
    that inherit them write to the log too. The descriptors belong to the whole process: enter the block
    from one thread, before others start. Blocks may nest.

    Args:
        log_path: The file, appended to; its directory is made where it is missing.

    Raises:
        ResourceError: If the file cannot be written.
    """
    log = _open_log(log_path)
    with ExitStack() as stack:
        stack.callback(os.close, log)
        stdout = stack.enter_context(_diverted(1, "stdout", log))
        stderr = stack.enter_context(_diverted(2, "stderr", log))
        yield OwnedConsole(stdout, stderr)


@contextmanager
def _diverted(descriptor: int, name: str, log: int) -> Generator[TextIO]:
    stream: TextIO = getattr(sys, name)
    _flush(stream)
    with ExitStack() as stack:
        saved = os.dup(descriptor)
        stack.callback(os.close, saved)
        ours = stack.enter_context(_our_stream(stream, descriptor, name, saved, log))
        os.dup2(log, descriptor)
        try:
            yield ours
        finally:
            # In this order: text that others left in the buffer still belongs to the log.
            _flush(getattr(sys, name))
            _flush(ours)
            os.dup2(saved, descriptor)


@contextmanager
def _our_stream(stream: TextIO, descriptor: int, name: str, saved: int, log: int) -> Generator[TextIO]:
    """Yields a stream on the old console; where `sys` has a stream elsewhere (notebook, pytest), that one."""
    if _is_on(stream, descriptor):
        ours = os.fdopen(os.dup(saved), "w", encoding=stream.encoding, errors="replace", buffering=1)
        try:
            yield ours
        finally:
            # A reader that went away (`| head`) must not turn the end of the block into an error.
            with suppress(BrokenPipeError):
                ours.close()
        return
    redirect = redirect_stdout if name == "stdout" else redirect_stderr
    with os.fdopen(os.dup(log), "w", encoding="utf-8", buffering=1) as foreign, redirect(foreign):
        yield stream


def _is_on(stream: TextIO, descriptor: int) -> bool:
    try:
        return stream.fileno() == descriptor
    except (OSError, ValueError):
        return False


def _flush(stream: TextIO) -> None:
    with suppress(BrokenPipeError):
        stream.flush()


def _open_log(path: Path) -> int:
    with explained("open the log file", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
