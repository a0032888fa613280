"""Ctrl-C and SIGTERM at every stage of `distkeras train`, and the same command again."""

import json
import signal
import subprocess
import sys

import pytest

CONFIG = """\
task: {kind: tabular_classification}
data:
  source: {kind: synthetic, num_examples: 4000, shape: [8], num_classes: 3}
model: {builder: mlp}
training: {epochs: 400, global_batch_size: 20}
"""
COMMAND = [sys.executable, "-m", "distkeras", "train", "--config", "long.yaml", "--json"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "long.yaml").write_text(CONFIG)
    return tmp_path


def stopped(folder, line, number):
    """Sends a signal as soon as a line of stderr begins so; returns code, stdout and the rest of stderr."""
    process = subprocess.Popen(COMMAND, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for text in process.stderr:
        if text.startswith(line):
            process.send_signal(number)
            break
    out, err = process.communicate(timeout=100)
    return process.returncode, out, err


def status(folder):
    return json.loads((folder / "runs/long/manifest.json").read_text())["status"]


@pytest.mark.parametrize(
    ("number", "code", "name", "expected"),
    [(signal.SIGINT, 130, "Ctrl-C", "interrupted"), (signal.SIGTERM, 75, "SIGTERM", "preempted")],
)
def test_a_stop_during_imports_is_one_sentence_and_leaves_the_run_usable(
    folder, number, code, name, expected
):
    returned, out, err = stopped(folder, "importing", number)
    assert returned == code
    assert json.loads(out)["status"] == expected
    assert err.splitlines() == [
        f"stopped: {name} came outside of training; what was committed is kept.",
        "  fix: resume with: python -m distkeras train --config long.yaml --json",
    ]
    assert status(folder) == expected


def test_a_run_that_was_stopped_twice_completes_with_the_same_command(folder):
    code, out, err = stopped(folder, "epoch=", signal.SIGINT)
    assert code == 130
    assert json.loads(out)["status"] == "interrupted"
    assert "stopped: The run was stopped by SIGINT and is committed." in err
    assert "  fix: resume with: python -m distkeras train --config long.yaml --json" in err.splitlines()
    code, _, err = stopped(folder, "epoch=", signal.SIGTERM)
    assert code == 75
    assert "stopped: The run was stopped by SIGTERM and is committed." in err
    assert status(folder) == "preempted"
    command = [*COMMAND, "--set", "training.epochs=20"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=200)
    assert result.returncode == 0, result.stderr
    assert "resuming from step" in result.stderr
    assert json.loads(result.stdout)["status"] == "completed"


def test_a_stop_that_was_meant_for_an_earlier_attempt_stops_no_later_one(folder):
    run = folder / "runs" / "long"
    run.mkdir(parents=True)
    (run / "stop").write_text("2")
    command = [*COMMAND, "--set", "training.epochs=2"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=200)
    assert result.returncode == 0, result.stderr
    assert not (run / "stop").exists()
