"""`distkeras bench`: runs that were made slow on purpose are found to be slow for that reason.

What is asserted is shares and names, never how long something took.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from distkeras.config import load_config, to_mapping
from distkeras.measurement.result import FORMAT, machine_and_versions

TINY = """\
task: {kind: tabular_classification}
data:
  source: {kind: synthetic, num_examples: 200000, shape: [8], num_classes: 3}
  split: {validation: 0, test: 0}
model: {builder: mlp, arguments: {hidden_units: [8]}}
training: {global_batch_size: 4}
topology: {devices: cpu}
"""
COMMITS = """\
task: {kind: tabular_classification}
data:
  source: {kind: synthetic, num_examples: 20000, shape: [64], num_classes: 3}
  split: {validation: 0, test: 0}
model: {builder: mlp, arguments: {hidden_units: [256]}}
training: {global_batch_size: 64}
topology: {devices: cpu}
checkpoint: {every_steps: 1}
"""
PHOTOGRAPHS = """\
task: {kind: image_classification}
data:
  source: {kind: image_folder, path: photographs}
  image: {size: [16, 16]}
  normalize: unit
  split: {validation: 0, test: 0, method: random}
model: {builder: cnn, arguments: {filters: [4]}}
training: {global_batch_size: 8}
topology: {devices: cpu}
"""
# Gradients of 9 MB for four examples.
EXCHANGE = """\
task: {kind: tabular_classification}
data:
  source: {kind: synthetic, num_examples: 20000, shape: [64], num_classes: 3}
  split: {validation: 0, test: 0}
model: {builder: mlp, arguments: {hidden_units: [1500, 1500]}}
training: {global_batch_size: 4, optimizer: {name: sgd, learning_rate: 0.01}}
topology: {kind: processes, workers: 2, devices: cpu}
"""


def bench(run_python, *arguments: str, code: int = 0):
    """Runs one short pass of the command and returns its result and stderr."""
    command = ["-m", "distkeras", "bench", "--pairs", "1", "--seconds", "0.5", "--json", *arguments]
    result = run_python(*command, timeout=200)
    assert result.returncode == code, result.stderr
    return json.loads(result.stdout), result.stderr


def test_photographs_that_take_long_to_decode_are_named(bench_once, tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, (1600, 1600, 3), np.uint8)
    for name in ("cats", "dogs"):
        folder = tmp_path / "photographs" / name
        folder.mkdir(parents=True)
        for index in range(8):
            pillow.fromarray(np.roll(pixels, index)).save(folder / f"{index}.jpg")
    (tmp_path / "photographs.yaml").write_text(PHOTOGRAPHS)
    result = bench_once(tmp_path / "photographs.yaml", "large")
    assert result["bound"] == "input", result["verdict"]
    assert result["shares"]["input"] > 0.5
    assert "data.cache" in result["verdict"]
    assert result["scaling_efficiency"] is None
    assert result["input_wait_ratio"] > 0.3


def test_tiny_steps_are_named_and_a_slower_result_than_before_is_found(run_python, tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY)
    faster = {"examples_per_second": 1e9, "examples_per_second_interval": [1e9, 1e9]}
    old = {
        "kind": "bench",
        "format": FORMAT,
        "passes": 3,
        "name": "tiny",
        "date": "2026-11-21",
        "settings": [{"name": "1 worker, batch 4, float32", **faster}],
        "config": to_mapping(load_config(config)),
        **machine_and_versions([]),
    }
    (tmp_path / "old.json").write_text(json.dumps(old))
    result, said = bench(
        *(run_python, "--config", "tiny.yaml", "--pairs", "3", "--seconds", "0.2"),
        *("--compare", "old.json", "--out", "results"),
        code=1,
    )
    assert result["bound"] == "host", result["verdict"]
    assert "training.global_batch_size: 16 instead of 4" in result["verdict"]
    assert "slower than in old.json: 1 worker, batch 4, float32: " in said
    assert Path(tmp_path, result["report"]).stat().st_size < 1_000_000
    assert json.loads(Path(tmp_path, result["out"]).read_text()) == result
    assert not (tmp_path / "runs").exists()


def test_a_commit_every_step_is_named(bench_once, tmp_path: Path) -> None:
    (tmp_path / "commits.yaml").write_text(COMMITS)
    result = bench_once(tmp_path / "commits.yaml", "large")
    assert result["bound"] == "host", result["verdict"]
    assert result["shares"]["keeping"] > 0.5
    assert "checkpoint.every_steps: 10 instead of 1" in result["verdict"]


def test_workers_that_exchange_large_gradients_for_few_examples_are_named(bench_once, tmp_path: Path) -> None:
    (tmp_path / "exchange.yaml").write_text(EXCHANGE)
    result = bench_once(tmp_path / "exchange.yaml", "large", "alone")
    assert result["bound"] == "communication", result["verdict"]
    assert [len(trial["ranks"]) for trial in result["trials"]] == [2, 2, 2, 2]


def test_tuning_writes_a_faster_config_that_trains(run_python, tmp_path: Path) -> None:
    # Most of a step changes 6 million weights, for however many examples.
    text = EXCHANGE.replace("[1500, 1500]", "[2500, 2500]").replace("sgd, learning_rate: 0.01", "adam")
    (tmp_path / "wide.yaml").write_text(text.replace("kind: processes, workers: 2, ", ""))
    keep = ("--precision", "float32", "--xla", "auto")
    result, _ = bench(run_python, "--config", "wide.yaml", "--tune", "--batch-sizes", "64", *keep)
    assert result["chosen"]["training.global_batch_size"] == 64
    assert result["gain"] > 2
    tuned = load_config(tmp_path / result["out"])
    assert (tuned.name, tuned.training.global_batch_size) == ("wide-tuned", 64)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("number", "num_processes", "code", "last"),
    [
        (signal.SIGINT, 1, 130, "interrupted"),  # while the fork server imports
        (signal.SIGTERM, 2, 75, "  fix: run it again"),
    ],
)
@pytest.mark.parametrize("arguments", [[], ["--tune"]])
def test_a_stop_leaves_neither_processes_nor_files(
    tmp_path: Path, number: int, num_processes: int, code: int, last: str, arguments: list[str]
) -> None:
    (tmp_path / "exchange.yaml").write_text(EXCHANGE)
    command = [sys.executable, "-m", "distkeras", "bench", "--config", "exchange.yaml", *arguments]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        while len(below := psutil.Process(process.pid).children(recursive=True)) < num_processes:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    assert said.splitlines()[-1] == last
    assert psutil.wait_procs(below, timeout=10)[1] == []
    assert [path.name for path in tmp_path.iterdir()] == ["exchange.yaml"]


def test_what_cannot_be_measured_is_refused_at_once(run_python, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)

    def refused(*arguments: str) -> str:
        result = run_python("-m", "distkeras", "bench", *arguments)
        assert result.returncode == 2
        assert result.stdout == ""
        return result.stderr

    assert "There is nothing to measure." in refused()
    assert "not whole numbers above zero" in refused("--config", "tiny.yaml", "--batch-sizes", "32,x")
    assert "no such choice" in refused("--config", "tiny.yaml", "--precision", "float8")
    assert "use on, off, auto" in refused("--config", "tiny.yaml", "--xla", "yes")
    assert "where: --workers" in refused("--config", "tiny.yaml", "--tune", "--workers", "2")
    assert "A tuned config is a YAML file." in refused("--config", "tiny.yaml", "--tune", "--out", "x.json")
    assert "not whole numbers above zero" in refused("--config", "tiny.yaml", "--batch-sizes", "32,")
    assert "only read to simulate from it" in refused("--from", "old.json")
    assert "where: --xla" in refused("--simulate", "--from", "old.json", "--xla", "on")
    (tmp_path / "half.json").write_text('{"kind": "bench", "settings": []}')
    assert "received: 'no format'" in refused("--simulate", "--from", "half.json")
    assert "where: --simulate" in refused("--config", "tiny.yaml", "--tune", "--simulate")
    (tmp_path / "tiny-tuned.yaml").write_text("mine")
    assert "There is a file already" in refused("--config", "tiny.yaml", "--tune")
    assert "There is no such result" in refused("--simulate", "--from", "old.json")
    assert "does not divide by the 3 workers" in refused("--config", "tiny.yaml", "--workers", "3")
    assert "This is not a bandwidth." in refused("--config", "tiny.yaml", "--simulate", "--bandwidth", "fast")
