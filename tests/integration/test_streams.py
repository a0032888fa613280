"""`distkeras train` on a stream: the same numbers at any number of workers, and after a killed start."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

NEEDS_JAX = pytest.mark.skipif(find_spec("jax") is None, reason="the extra `jax` is not installed")
CONFIG = """\
task: {kind: tabular_classification}
data:
  source: {kind: generator, function: "my_stream:readings", shape: [4], num_classes: 3}
  validation: {kind: arrays, path: held_out.npz}
  split: {test: 0}
model: {builder: mlp, arguments: {hidden_units: [16]}}
training: {num_steps: 60, epochs: 3, global_batch_size: 16, optimizer: {learning_rate: 0.01}}
checkpoint: {every_steps: 5}
logging: {every_steps: 1, tensorboard: false}
deterministic: true
"""
# Example 500 belongs to step 31; `die` is there for one start only.
STREAM = """\
import os, signal, time
from itertools import count
from pathlib import Path
import numpy as np

def reading(number):
    chance = np.random.default_rng(number)
    label = int(chance.integers(3))
    return chance.normal(size=4) + label, label

def readings(start=0):
    for number in count(start):
        if number == 500 and Path("die").exists():
            while len(list(Path("runs").glob("*/checkpoints/step-*"))) < 2:
                time.sleep(0.01)
            Path("die").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        yield reading(number)

def from_the_start():
    yield from readings()

def short():
    yield from (reading(number) for number in range(100))

def odd():
    for number in count():
        features, label = reading(number)
        yield features, label if number != 100 else 3
"""


def train(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    arguments = [argument for override in overrides for argument in ("--set", override)]
    command = [sys.executable, "-m", "distkeras", "train", "--config", "stream.yaml", *arguments]
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False, timeout=250)


def write(folder: Path) -> None:
    (folder / "my_stream.py").write_text(STREAM)
    (folder / "stream.yaml").write_text(CONFIG)
    labels = np.arange(30) % 3
    np.savez(folder / "held_out.npz", x=np.ones((30, 4)) * labels[:, np.newaxis], y=labels)


def losses(folder: Path, name: str) -> list[float]:
    lines = (folder / "runs" / name / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(1, 61))
    return [row["metrics"]["loss"] for row in rows if row["kind"] == "train"]


def weights(folder: Path, name: str) -> dict[str, bytes]:
    (path,) = (folder / "runs" / name / "weights").glob("step-*/*.npz")
    with np.load(path) as arrays:
        return {key: np.asarray(arrays[key]).tobytes() for key in arrays.files}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    write(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(workplace: Path) -> str:
    result = train(workplace, "name=undisturbed")
    assert result.returncode == 0, result.stderr
    return "undisturbed"


def test_a_stream_is_learnt_and_its_steps_are_said_at_the_start(workplace: Path, undisturbed: str) -> None:
    manifest = json.loads((workplace / "runs/undisturbed/manifest.json").read_text())
    assert manifest["num_steps"] == manifest["step"] == 60
    assert "320 examples -> 20 steps an epoch" in manifest["arithmetic"]
    assert losses(workplace, undisturbed)[-1] < 0.6 * losses(workplace, undisturbed)[0]


def test_two_workers_share_the_stream_and_the_numbers_are_the_same(workplace: Path, undisturbed: str) -> None:
    assert train(workplace, "name=two", "topology={kind: processes, workers: 2}").returncode == 0
    np.testing.assert_allclose(losses(workplace, "two"), losses(workplace, undisturbed), rtol=1e-5)


@NEEDS_JAX
def test_so_it_is_with_jax(workplace: Path) -> None:
    assert train(workplace, "name=jax", "engine=jax").returncode == 0
    two = ("name=jax-2", "engine=jax", "topology={kind: processes, workers: 2}")
    assert train(workplace, *two).returncode == 0
    np.testing.assert_allclose(losses(workplace, "jax-2"), losses(workplace, "jax"), rtol=1e-5)


@pytest.mark.parametrize("function", ["readings", "from_the_start"])
def test_a_killed_run_ends_with_the_same_bits(
    workplace: Path, undisturbed: str, function: str, tmp_path: Path
) -> None:
    write(tmp_path)
    (tmp_path / "die").touch()
    changes = ("name=killed", f"data.source.function=my_stream:{function}")
    assert train(tmp_path, *changes).returncode == -signal.SIGKILL
    resumed = train(tmp_path, *changes)
    assert "resuming from step" in resumed.stderr
    assert losses(tmp_path, "killed") == losses(workplace, undisturbed)
    assert weights(tmp_path, "killed") == weights(workplace, undisturbed)


def test_a_stream_that_ends_early_ends_the_run_in_one_sentence(workplace: Path) -> None:
    result = train(workplace, "name=short", "data.source.function=my_stream:short")
    assert result.returncode == 3
    assert "error: The stream ended after 100 examples; the run needs 960." in result.stderr
    assert "fix: use fewer training.num_steps, or let the function go on" in result.stderr


@pytest.mark.parametrize("engine", ["tensorflow", pytest.param("jax", marks=NEEDS_JAX)])
def test_a_bad_example_is_named_by_its_number(workplace: Path, engine: str) -> None:
    changes = (f"name=odd-{engine}", f"engine={engine}", "data.source.function=my_stream:odd")
    result = train(workplace, *changes)
    assert result.returncode == 3
    assert "where: example 100 of my_stream:odd, counted from 0" in result.stderr
    assert "received: 3" in result.stderr
