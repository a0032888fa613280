"""One short pass of a bench in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("bench_once.py")


@pytest.fixture
def bench_once() -> Callable[..., dict[str, Any]]:
    """Returns the result of a config without some of the ablations, perhaps inside another command."""

    def run(path: Path, *left_out: str, within: tuple[str, ...] = ()) -> dict[str, Any]:
        command = [*within, sys.executable, str(PROGRAM), path.name, *left_out]
        done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
