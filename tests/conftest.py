"""What every test gets: no environment variables, threads or TensorFlow noise left behind by the one before."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _environment_is_left_as_it_was() -> Iterator[None]:
    before = dict(os.environ)
    yield
    changed = {name for name in {*before, *os.environ} if before.get(name) != os.environ.get(name)}
    # pytest itself says in this variable which test runs.
    assert changed <= {"PYTEST_CURRENT_TEST"}, f"environment variables left changed: {sorted(changed)}"


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python code, or `-m distkeras ...`, in a process of its own, in an empty working directory."""

    def run(*arguments: str, timeout: float = 120, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=tmp_path,
            **options,
        )

    return run


class Forked(NamedTuple):
    """The process ids of what runs below a command: its fork servers, and their workers by rank."""

    servers: list[int]
    workers: list[int]


@pytest.fixture
def forked() -> Callable[[subprocess.Popen[str]], Forked]:
    """Finds the fork servers of a command, and the worker processes that they have forked so far."""

    def forked(command: subprocess.Popen[str]) -> Forked:
        servers: list[int] = []
        workers: list[int] = []
        for child in psutil.Process(command.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # of one that ends meanwhile
                if "worker_process" in " ".join(child.cmdline()):
                    servers.append(child.pid)
                    workers += [worker.pid for worker in child.children()]
        return Forked(servers, workers)

    return forked
