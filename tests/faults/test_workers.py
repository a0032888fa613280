"""Worker processes that die, fail or stray: the run goes on from its last commit, or says why not. No hang."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

FOLDER = Path(__file__).parent
CONFIG = """\
task: {kind: tabular_classification}
data:
  source: {kind: synthetic, num_examples: 1500, shape: [8], num_classes: 3}
  remainder: partial
model: {builder: "worker_models:stack"}
training: {epochs: 4, global_batch_size: 16}
topology: {kind: processes, workers: 2, devices: cpu, timeout_seconds: 60}
checkpoint: {every_steps: 20}
logging: {every_steps: 5, tensorboard: false}
"""
COUNTING = """\
task: {kind: tabular_regression}
data:
  source: {kind: arrays, path: count.npz}
  remainder: partial
  split: {method: random, validation: 0, test: 0}
model:
  builder: worker_models:counting
  arguments: {num_examples: 1503}
training: {epochs: 2, global_batch_size: 10}
topology: {kind: processes, devices: cpu, timeout_seconds: 60}
checkpoint: {every_steps: 7}
logging: {every_steps: 5, tensorboard: false}
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    (tmp_path / "run.yaml").write_text(CONFIG)
    (tmp_path / "count.yaml").write_text(COUNTING)
    (tmp_path / "worker_models.py").write_text((FOLDER / "worker_models.py").read_text())

    def start(config: str, *settings: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "distkeras", "train", "--config", f"{config}.yaml"]
        command += [argument for setting in settings for argument in ("--set", setting)]
        return subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Returns the exit code and stderr."""
    try:
        _, err = process.communicate(timeout=150)
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


def final_weights(run: Path) -> dict[str, np.ndarray]:
    with np.load(next((run / "weights").glob("step-*")) / "state.npz") as arrays:
        return dict(arrays)


def assert_same_bits(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name, array in a.items():
        np.testing.assert_array_equal(array, b[name])


def rows(run: Path) -> list[tuple]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(row["step"], row["kind"], row["metrics"]) for row in lines]


@pytest.mark.parametrize("reduction", ["full", "{every_steps: 10}"])
def test_a_lost_worker_is_replaced_and_nothing_else_changes(forked, reduction, start, tmp_path) -> None:
    settings = f"topology.reduction={reduction}", "checkpoint.every_steps=20"
    assert end(start("run", "name=whole", *settings))[0] == 0
    process = start("run", "name=killed", *settings)
    wait_for_commits(tmp_path / "runs/killed", 2, process)
    os.kill(forked(process).workers[1], signal.SIGKILL)
    code, err = end(process)
    assert code == 0, err
    assert "The worker of rank 1 was lost (SIGKILL). Starting again from step" in err
    assert_same_bits(final_weights(tmp_path / "runs/killed"), final_weights(tmp_path / "runs/whole"))
    assert rows(tmp_path / "runs/killed") == rows(tmp_path / "runs/whole")
    assert json.loads((tmp_path / "runs/killed/manifest.json").read_text())["attempts"] == 2
    assert rows(tmp_path / "runs/whole")[-1][2]["val_accuracy"] > 0.9


def test_ctrl_c_commits_on_all_workers_and_the_same_command_goes_on(forked, start, tmp_path) -> None:
    process = start("run", "training.epochs=200")
    wait_for_commits(tmp_path / "runs/run", 1, process)
    os.kill(forked(process).servers[0], signal.SIGINT)  # as what stops all processes of a service does
    process.send_signal(signal.SIGINT)
    code, err = end(process)
    assert code == 130, err
    assert "SIGINT: committing; once more stops at once" in err
    assert "stopped: The run was stopped by SIGINT and is committed." in err
    code, err = end(start("run", "training.epochs=6"))
    assert code == 0, err
    assert "resuming from step" in err


def test_workers_end_with_the_process_that_started_them(forked, start, tmp_path) -> None:
    process = start("run", "training.epochs=200")
    wait_for_commits(tmp_path / "runs/run", 1, process)
    servers, workers = forked(process)
    assert (len(servers), len(workers)) == (1, 2)
    process.kill()
    end(process)
    deadline = time.monotonic() + 10
    while any(map(psutil.pid_exists, servers + workers)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_without_the_server_that_forked_them_workers_end_and_others_go_on(forked, start, tmp_path) -> None:
    process = start("run", "training.epochs=8")
    wait_for_commits(tmp_path / "runs/run", 1, process)
    servers, workers = forked(process)
    os.kill(servers[0], signal.SIGKILL)
    code, err = end(process)
    assert code == 0, err
    assert "The worker of rank 0 was lost (SIGKILL). Starting again from step" in err
    assert not any(map(psutil.pid_exists, workers))


def test_an_error_of_one_worker_is_tried_once_more_and_then_told(start, tmp_path) -> None:
    code, err = end(start("run", "model.builder=worker_models:fails_on_rank_one"))
    assert code == 5, err
    assert err.count("ZeroDivisionError: only here") == 2
    # Rank zero was ended. Left alone it finds out after HEARTBEAT_SECONDS, and says so.
    assert not (tmp_path / "runs/run/logs/rank-0.error.json").exists()
    assert "  where: rank 1" in err.splitlines()


def test_a_model_that_differs_by_rank_is_refused_before_the_first_step(start) -> None:
    code, err = end(start("run", "model.builder=worker_models:wider_on_rank_one"))
    assert code == 2, err
    assert "error: The workers differ in the shapes of the model's variables." in err
    assert "  where: ranks 0 and 1" in err.splitlines()
    assert "'rank 0': [8, 8, 'float32'], 'rank 1': [8, 9, 'float32']" in err


def test_weights_that_stray_on_one_rank_stop_the_run(start, tmp_path) -> None:
    code, err = end(start("run", "model.builder=worker_models:strays_on_rank_one"))
    assert code == 5, err
    assert "The weights of rank 1 are no longer those of rank 0" in err
    assert "dense_1/kernel" in err
    assert "  where: step 10" in err.splitlines()


def count_arrays(folder: Path) -> list[str]:
    ids = np.arange(1503, dtype=np.int32)[:, np.newaxis]
    np.savez(folder / "count.npz", x=ids, y=np.zeros(1503, np.float32))
    return []


def count_row_groups(folder: Path) -> list[str]:
    table = pa.table({"id": np.arange(1503, dtype=np.float32), "y": np.zeros(1503, np.float32)})
    pq.write_table(table, folder / "count.parquet", row_group_size=40)
    return ["data.source={kind: parquet, path: count.parquet, label: y, in_memory: false}"]


@pytest.mark.parametrize("write", [count_arrays, count_row_groups])
def test_every_example_is_used_exactly_once_while_workers_come_and_go(start, tmp_path, write) -> None:
    settings = write(tmp_path)
    for workers, commits in ((1, 2), (2, 2), (1, 2)):
        process = start("count", f"topology.workers={workers}", *settings)
        before = len(list((tmp_path / "runs/count/checkpoints").glob("step-*")))
        wait_for_commits(tmp_path / "runs/count", max(before, commits), process)
        process.kill()
        end(process)
    code, err = end(start("count", "topology.workers=2", *settings))
    assert code == 0, err
    uses = final_weights(tmp_path / "runs/count")["weights/00000"]
    np.testing.assert_array_equal(uses, np.full((1503, 1), 2.0))


def test_a_worker_that_lives_and_does_not_answer_is_given_up(start) -> None:
    settings = "topology.timeout_seconds=12", "topology.max_failures=0"
    code, err = end(start("run", "model.builder=worker_models:stuck_on_rank_one", *settings))
    assert code == 5, err
    assert "s for the other workers, which are alive and do not answer (topology.timeout_seconds)" in err


def test_a_long_run_keeps_its_threads(forked, start, tmp_path) -> None:
    process = start("run", "training.epochs=40", "logging.every_steps=66", "checkpoint.every_steps=null")
    most = 0
    while process.poll() is None:
        for worker in forked(process).workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                most = max(most, psutil.Process(worker).num_threads())
        time.sleep(0.1)
    code, err = end(process)
    assert code == 0, err
    assert 0 < most < 200
