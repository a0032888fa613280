"""C6 and C9: a peer's workers that fail, and the parts of the time in which a lost worker is replaced."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import c06_two_workers as c06
import c09_lost_worker as c09


def test_a_peer_that_fails_ends_the_benchmark_with_its_words() -> None:
    with pytest.raises(SystemExit, match="invalid literal for int") as raised:
        c06.peer_step("--torch-worker", "many")
    assert "The workers of --torch-worker many ended with [" in str(raised.value)


def test_the_worker_that_waits_for_one_that_failed_is_ended() -> None:
    codes = ("import time; time.sleep(600)", "raise SystemExit(3)")
    workers = [subprocess.Popen([sys.executable, "-c", code], text=True) for code in codes]
    c06.wait_for_all_or_a_failure(workers)
    assert [worker.returncode for worker in workers] == [-9, 3]


def test_a_log_that_nobody_writes_is_said_to_be_so(tmp_path: Path) -> None:
    log = tmp_path / "rank-1.log"
    log.touch()
    with pytest.raises(SystemExit, match="No process writes "):
        c09._writer_of(log)
    with log.open("w") as stream:
        command = [sys.executable, "-c", "input()"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=stream) as writer:
            assert c09._writer_of(log) == writer.pid


def test_a_part_ends_with_its_sign_and_begins_with_the_one_before() -> None:
    said = [
        (8.0, "epoch=1 step=900"),
        (10.5, "epoch=1 step=950"),  # the old group's, told late
        (11.0, "The worker of rank 1 was lost (SIGKILL). Starting again from step 500 (1 of 3)"),
        (13.0, "opening the arrays data"),
        (13.5, "2 workers x 1 replica"),
        (14.0, "resuming from step 500"),
        (16.0, "epoch=1 step=501"),
    ]
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        parts = c09._split(10.0, lambda: said, c09.OURS, process)
    assert parts == {
        "detect_seconds": 1.0,
        "respawn_seconds": 2.0,
        "open_seconds": 1.0,
        "restore_and_trace_seconds": 2.0,
    }
