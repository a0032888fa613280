"""`distkeras train` with workers on Ray: the same numbers, lost workers replaced, errors in one sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

CLUSTER = """\
import sys, ray
print(ray.init(address="local", num_cpus=2, include_dashboard=False).address_info["gcs_address"], flush=True)
sys.stdin.read()
"""
CONFIG = """\
task: {kind: tabular_classification}
data:
  source: {kind: synthetic, num_examples: 1500, shape: [8], num_classes: 3}
  remainder: partial
model: {builder: models_of_mine:stack}
training: {epochs: 2, global_batch_size: 16}
topology: {kind: ray, workers: 2, devices: cpu, timeout_seconds: 60}
checkpoint: {every_steps: 20}
logging: {every_steps: 5, tensorboard: false}
"""
MODELS = """\
import keras
import tensorflow as tf

def stack(input_shape, num_outputs):
    return keras.Sequential([
        keras.Input(input_shape),
        keras.layers.Dense(8, "relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(num_outputs, "softmax"),
    ])

class Failing(keras.Model):
    def train_step(self, data):
        if tf.distribute.get_strategy().topology.rank == 1:
            raise ZeroDivisionError("only here")
        return super().train_step(data)

def fails_on_rank_one(input_shape, num_outputs):
    model = stack(input_shape, num_outputs)
    return Failing(model.inputs, model.outputs)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[subprocess.Popen[str]]:
    """A cluster of two CPUs, which ends with the process that holds it."""
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    environment.pop("RAY_ADDRESS", None)
    holder = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    holder.address = holder.stdout.readline().strip()
    yield holder
    holder.communicate(timeout=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ray")
    (folder / "run.yaml").write_text(CONFIG)
    (folder / "models_of_mine.py").write_text(MODELS)
    return folder


@pytest.fixture(scope="module")
def start(cluster, folder) -> Callable[..., subprocess.Popen[str]]:
    def start(name: str, *settings: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "distkeras", "train", "--config", "run.yaml"]
        command += [part for setting in (f"name={name}", *settings) for part in ("--set", setting)]
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": "disabled"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Returns the exit code and stderr."""
    try:
        _, err = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, err


def wait_for_commits(run: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 100
    while len(list((run / "checkpoints").glob("step-*"))) < count:
        assert process.poll() is None, end(process)
        assert time.monotonic() < deadline
        time.sleep(0.01)


def workers_below(pid: int) -> list[int]:
    """Returns the processes of Ray Train workers below a process."""
    below = psutil.Process(pid).children(recursive=True)
    return [one.pid for one in below if "ray::RayTrainWorker" in " ".join(one.cmdline())]


def rows(run: Path) -> list[tuple[int, str, dict[str, Any]]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(row["step"], row["kind"], row["metrics"]) for row in lines]


def assert_same_rows(run: Path, other: Path) -> None:
    for (step, kind, metrics), (other_step, other_kind, expected) in zip(rows(run), rows(other), strict=True):
        assert (step, kind, metrics.keys()) == (other_step, other_kind, expected.keys())
        np.testing.assert_allclose(list(metrics.values()), list(expected.values()), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def whole(start) -> str:
    """Trains the run that others are compared with, and returns its stderr."""
    code, err = end(start("ray"))
    assert code == 0, err
    return err


def test_two_workers_on_ray_train_as_two_plain_processes(start, whole, folder) -> None:
    code, err = end(start("plain", "topology.kind=processes"))
    assert code == 0, err
    assert_same_rows(folder / "runs/ray", folder / "runs/plain")
    manifest = json.loads((folder / "runs/ray/manifest.json").read_text())
    assert manifest["topology"] == manifest["topology"] | {"kind": "ray", "world_size": 2}
    assert not (folder / "runs/ray/ray").exists()


def test_the_console_has_no_foreign_line(whole) -> None:
    known = ("joining the Ray", "starting 2 workers", "importing", "opening", "global", "epoch=", "testing")
    assert [line for line in whole.splitlines() if not line.startswith(known)] == []


def test_a_killed_worker_is_replaced_and_nothing_else_changes(start, whole, folder, cluster) -> None:
    process = start("killed")
    wait_for_commits(folder / "runs/killed", 2, process)
    os.kill(workers_below(cluster.pid)[-1], signal.SIGKILL)
    code, err = end(process)
    assert code == 0, err
    assert "was lost. Starting again from step" in err
    assert json.loads((folder / "runs/killed/manifest.json").read_text())["attempts"] == 2
    assert_same_rows(folder / "runs/killed", folder / "runs/ray")


def test_ctrl_c_commits_on_all_workers(start, folder) -> None:
    process = start("stopped", "training.epochs=500")
    wait_for_commits(folder / "runs/stopped", 1, process)
    process.send_signal(signal.SIGINT)
    code, err = end(process)
    assert code == 130, err
    assert "The run was stopped by SIGINT and is committed." in err
    assert "resume with: " in err


def test_an_error_on_one_worker_arrives_as_a_sentence_with_its_rank(start, folder) -> None:
    code, err = end(
        start("failing", "model.builder=models_of_mine:fails_on_rank_one", "topology.max_failures=0")
    )
    assert code == 5, err
    assert "ZeroDivisionError: only here\n  where: rank 1\n" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("topology.workers=8", "The Ray cluster has room for 2 of 8 workers with 1 CPU each."),
        ("topology.devices=gpu", "The Ray cluster has room for 0 of 2 workers with 1 CPU, 1 GPU each."),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_before_anything_starts(start, setting, sentence) -> None:
    code, err = end(start("impossible", setting))
    assert code == 4, err
    assert sentence in err
    assert "starting" not in err
