"""launch/single_node.sh starts again after a preemption, and after nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "launch" / "single_node.sh"


def command(tmp_path: Path, body: str) -> dict[str, str]:
    """Puts a program in distkeras's place that counts its starts in the file `starts`."""
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/starts\n{body}\n')
    program.chmod(0o755)
    return {**os.environ, "DISTKERAS": str(program)}


def starts(tmp_path: Path) -> list[str]:
    return (tmp_path / "starts").read_text().splitlines()


@pytest.mark.parametrize("code", [0, 2, 5, 130])
def test_any_other_code_ends_it(code: int, tmp_path: Path) -> None:
    environment = command(tmp_path, f"exit {code}")
    result = subprocess.run([SCRIPT, "a.yaml", "--set", "seed=3"], env=environment, timeout=30, check=False)
    assert result.returncode == code
    assert starts(tmp_path) == ["train --config a.yaml --set seed=3"]


def test_a_preempted_run_is_started_again(tmp_path: Path) -> None:
    environment = command(tmp_path, f"[ $(wc -l < {tmp_path}/starts) -lt 3 ] && exit 75; exit 0")
    result = subprocess.run(
        [SCRIPT, "a.yaml"], env=environment, timeout=30, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    assert len(starts(tmp_path)) == 3
    assert "start 3 goes on from the last commit" in result.stderr


def test_starts_are_bounded(tmp_path: Path) -> None:
    environment = command(tmp_path, "exit 75") | {"ATTEMPTS": "2"}
    assert subprocess.run([SCRIPT, "a.yaml"], env=environment, timeout=30, check=False).returncode == 75
    assert len(starts(tmp_path)) == 2


def test_a_signal_is_passed_on_and_ends_it(tmp_path: Path) -> None:
    environment = command(tmp_path, "trap 'exit 75' TERM\nwhile :; do sleep 0.05; done")
    process = subprocess.Popen([SCRIPT, "a.yaml"], env=environment)
    deadline = time.monotonic() + 20
    while not (tmp_path / "starts").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)  # until the program listens
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 75
    assert len(starts(tmp_path)) == 1


def test_without_a_config_it_says_how_it_is_used(tmp_path: Path) -> None:
    result = subprocess.run([SCRIPT], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: ")
