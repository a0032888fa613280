"""`distkeras verify`: a config whose numbers are the same everywhere passes, one whose model sees its replica fails."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
CONFIG = """\
task: {kind: tabular_classification}
data:
  source: {kind: synthetic, num_examples: 300, shape: [8], num_classes: 3}
  remainder: partial
model: {builder: "local_model:build"}
training: {global_batch_size: 16}
"""
# What a replica subtracts is the mean of its own examples.
LOCAL_MODEL = """\
import keras

class MinusBatchMean(keras.layers.Layer):
    def call(self, x):
        return x - keras.ops.mean(x, axis=0, keepdims=True)

def build(input_shape, num_outputs):
    layers = [keras.layers.Dense(8, name="below"), MinusBatchMean(), keras.layers.Dense(num_outputs, "softmax")]
    return keras.Sequential([keras.Input(input_shape), *layers])
"""


def verify(run_python, *arguments: str):
    result = run_python("-m", "distkeras", "verify", "--json", *arguments, timeout=200)
    return result, json.loads(result.stdout)


def test_a_config_passes_every_rung(run_python) -> None:
    config = str(ROOT / "configs" / "breast_cancer.yaml")
    result, verdict = verify(run_python, "--config", config, "--steps", "12")
    assert result.returncode == 0, result.stderr
    assert verdict["passed"]
    assert [rung["name"] for rung in verdict["rungs"]] == ["1 replica", "2 replicas", "2 worker processes"]
    assert all(rung["max_weight_difference"] <= 1e-6 for rung in verdict["rungs"])
    assert all(rung["first_difference"] is None for rung in verdict["rungs"])


def test_a_model_that_sees_its_replica_fails_at_the_first_step_it_shows(run_python, tmp_path: Path) -> None:
    (tmp_path / "local_model.py").write_text(LOCAL_MODEL)
    (tmp_path / "local.yaml").write_text(CONFIG)
    result, verdict = verify(run_python, "--config", "local.yaml", "--steps", "4")
    assert result.returncode == 6, result.stderr
    assert not verdict["passed"]
    alone, replicas, workers = verdict["rungs"]
    assert alone["passed"]
    for rung in (replicas, workers):
        assert not rung["passed"]
        assert rung["first_difference"].startswith("step 1, ")
    assert "error: On 2 replicas the numbers are not those of plain Keras." in result.stderr


def test_workers_that_do_not_divide_the_batch_are_refused_at_once(run_python) -> None:
    config = str(ROOT / "configs" / "digits.yaml")
    result = run_python("-m", "distkeras", "verify", "--config", config, "--workers", "3")
    assert result.returncode == 2
    assert "The global batch size does not divide by the 3 workers." in result.stderr


@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")
def test_the_jax_engine_is_held_against_plain_keras_on_tensorflow(run_python) -> None:
    config = str(ROOT / "configs" / "breast_cancer.yaml")
    sgd = "training.optimizer={name: sgd, learning_rate: 0.05}"
    result, verdict = verify(run_python, "--config", config, "--engine", "jax", "--steps", "6", "--set", sgd)
    assert result.returncode == 0, result.stderr
    assert [rung["name"] for rung in verdict["rungs"]] == ["1 JAX process", "2 JAX processes"]
    assert all(rung["passed"] for rung in verdict["rungs"])
