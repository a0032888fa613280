"""Nothing is lost beyond the last commit: a run that is killed and started again ends as if nothing had happened."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("training_script.py")
STEPS_PER_EPOCH = 10


def start(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(directory), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def weights_digest(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().splitlines()[-1]


def rows(directory: Path) -> list[dict]:
    lines = (directory / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict]]:
    directory = tmp_path_factory.mktemp("undisturbed")
    return weights_digest(start(directory)), rows(directory)


@pytest.mark.parametrize(
    ("kill_at", "commits", "where"),
    [
        (2, 0, "before the first commit"),
        (7, 1, "in the middle of a commit interval"),
        (9, 0, "perhaps while a commit is written"),
        (10, 2, "at the end of an epoch, before its validation"),
        (30, 2, "at the last step"),
    ],
)
def test_a_killed_run_ends_with_the_same_bits(
    kill_at: int, commits: int, where: str, undisturbed: tuple[str, list[dict]], tmp_path: Path
) -> None:
    assert start(tmp_path, f"kill_at={kill_at}", f"commits={commits}").returncode == -signal.SIGKILL, where
    resumed = start(tmp_path)
    assert ("resuming from step" in resumed.stderr) or not commits
    assert weights_digest(resumed) == undisturbed[0], where
    # The callback that kills is not part of the second start; what it left behind must not change the log.
    expected = [(row["step"], row["kind"], row["metrics"]) for row in undisturbed[1]]
    assert [(row["step"], row["kind"], row["metrics"]) for row in rows(tmp_path)] == expected


def test_a_run_killed_again_and_again_from_outside_ends_with_the_same_bits(
    undisturbed: tuple[str, list[dict]], tmp_path: Path
) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path)]
    for num_commits in (1, 2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(list((tmp_path / "run" / "checkpoints").glob("step-*"))) < num_commits:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.kill()
        process.wait(timeout=10)
    assert weights_digest(start(tmp_path)) == undisturbed[0]


@pytest.mark.parametrize("replicas", [1, 2])
def test_every_example_is_used_exactly_once_an_epoch(replicas: int, tmp_path: Path) -> None:
    for kill_at, commits in ((3, 0), (9, 1), (14, 2)):
        options = (f"kill_at={kill_at}", f"commits={commits}", f"replicas={replicas}")
        killed = start(tmp_path, "model=counting", "epochs=2", *options)
        assert killed.returncode == -signal.SIGKILL
    weights_digest(start(tmp_path, "model=counting", "epochs=2", f"replicas={replicas}"))
    assert np.load(tmp_path / "weights.npy").tolist() == [2.0] * 150


def test_the_number_of_replicas_may_change_on_resume(tmp_path: Path) -> None:
    for kill_at, replicas in ((5, 1), (13, 2)):
        options = (f"kill_at={kill_at}", "commits=1", f"replicas={replicas}")
        killed = start(tmp_path, "model=counting", "epochs=2", *options)
        assert killed.returncode == -signal.SIGKILL
    weights_digest(start(tmp_path, "model=counting", "epochs=2", "replicas=1"))
    assert np.load(tmp_path / "weights.npy").tolist() == [2.0] * 150


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = weights_digest(start(tmp_path, "epochs=1"))
    again = start(tmp_path, "epochs=1")
    assert weights_digest(again) == first
    assert "is complete; its weights are loaded" in again.stderr


def test_a_finished_run_goes_on_to_more_epochs(undisturbed: tuple[str, list[dict]], tmp_path: Path) -> None:
    start(tmp_path, "epochs=2", "model=counting")
    weights_digest(start(tmp_path, "epochs=3", "model=counting"))
    assert np.load(tmp_path / "weights.npy").tolist() == [3.0] * 150


def test_a_torn_newest_commit_is_named_and_the_one_before_is_used(
    undisturbed: tuple[str, list[dict]], tmp_path: Path
) -> None:
    assert start(tmp_path, "kill_at=15", "commits=2").returncode == -signal.SIGKILL
    newest = max((tmp_path / "run" / "checkpoints").glob("step-*"))
    state = newest / "state.npz"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    resumed = start(tmp_path)
    assert str(state) in resumed.stderr
    assert weights_digest(resumed) == undisturbed[0]


def test_two_drivers_on_one_run_are_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path), "epochs=1000000", "model=counting"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run" / "manifest.json").is_file():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        second = start(tmp_path, "epochs=1000000", "model=counting")
        assert second.returncode != 0
        assert f"in use by process {first.pid}" in second.stderr
    finally:
        first.kill()
        first.wait(timeout=10)
