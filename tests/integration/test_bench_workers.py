"""`distkeras bench` on several workers: what they wait for is named, a slow link or one slow worker.

What is asserted is shares and names, never how long something took.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from distkeras.observability.formats import percent_text

# Gradients of 0.3 MB for 8,192 examples: next to nothing beside computing, unless the link is slow.
BALANCED = """\
task: {kind: tabular_classification}
data:
  source: {kind: synthetic, num_examples: 200000, shape: [64], num_classes: 3}
  split: {validation: 0, test: 0}
model: {builder: mlp, arguments: {hidden_units: [256, 256]}}
training: {global_batch_size: 8192}
topology: {kind: processes, workers: 2, devices: cpu}
checkpoint: {every_epochs: 1000}
"""
# In a network of its own everything on loopback is slow, and nothing else is. Loopback's own packets of 64 KiB, with
# their headers, would not fit into the burst.
THROTTLED = (
    *("unshare", "--map-root-user", "--net", "sh", "-c"),
    'ip link set lo mtu 1500 up && tc qdisc add dev lo root tbf rate 10mbit burst 64kb latency 500ms && exec "$@"',
    "sh",
)
# The same function of the input on every worker; on some cores it has to wait, as for a device that is held back. How
# long does not depend on who else computes there.
UNEVEN = """\
import os
import time

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable()
class Detour(keras.layers.Layer):
    def __init__(self, slow_cores, **options):
        super().__init__(**options)
        self.is_slow = bool(os.sched_getaffinity(0) & set(slow_cores))

    def call(self, inputs):
        nothing = tf.ensure_shape(tf.numpy_function(self.work, [], tf.float32), [])
        return inputs + tf.stop_gradient(nothing)

    def work(self):
        if self.is_slow:
            time.sleep(0.1)
        return np.float32(0)


def build(input_shape, num_outputs, slow_cores):
    inputs = keras.Input(input_shape)
    hidden = keras.layers.Dense(256, activation="relu")(Detour(slow_cores)(inputs))
    hidden = keras.layers.Dense(256, activation="relu")(hidden)
    return keras.Model(inputs, keras.layers.Dense(num_outputs, activation="softmax")(hidden))
"""


def test_workers_that_share_a_link_fast_enough_are_not_bound_by_it(bench_once, tmp_path: Path) -> None:
    (tmp_path / "balanced.yaml").write_text(BALANCED)
    result = bench_once(tmp_path / "balanced.yaml", "large", "alone")
    assert result["bound"] != "communication", result["verdict"]


def test_a_slow_link_is_named_and_that_one_worker_alone_is_faster(bench_once, tmp_path: Path) -> None:
    tools = [tool for tool in ("unshare", "ip", "tc") if shutil.which(tool) is None]
    if tools:
        pytest.skip(f"slows a link down with {', '.join(tools)}, which this machine lacks")
    tried = subprocess.run([*THROTTLED, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"this machine permits no network of its own: {tried.stderr.strip()}")
    (tmp_path / "balanced.yaml").write_text(BALANCED)
    result = bench_once(tmp_path / "balanced.yaml", "large", within=THROTTLED)
    assert result["bound"] == "communication", result["verdict"]
    assert result["shares"]["communication"] > 0.6
    assert "use fewer workers: one alone trains faster than the 2 together" in result["verdict"]


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="workers have cores of their own only where there is one for each",
)
def test_a_worker_that_all_wait_for_is_named(bench_once, tmp_path: Path) -> None:
    cores = sorted(os.sched_getaffinity(0))
    slow = cores[len(cores) // 2 :]  # rank 1's
    (tmp_path / "uneven.py").write_text(UNEVEN)
    (tmp_path / "uneven.yaml").write_text(
        BALANCED.replace("8192", "2048").replace(
            "{builder: mlp, arguments: {hidden_units: [256, 256]}}",
            f"{{builder: 'uneven:build', arguments: {{slow_cores: {slow}}}}}",
        )
    )
    result = bench_once(tmp_path / "uneven.yaml", "large", "alone")
    assert result["slowest_rank"] == 1
    assert result["bound"] == "communication", result["verdict"]
    waiting = percent_text(result["shares"]["waiting"])
    assert f"(at least {waiting} waits for the slowest worker)" in result["verdict"]
    assert "most of it is waiting for rank 1" in result["verdict"]
