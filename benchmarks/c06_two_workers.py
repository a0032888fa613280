"""C6: how fast are two worker processes, against the peer and against the doubling that they could be?

    pip install tf_keras
    python benchmarks/c06_two_workers.py [--pairs 5] [--out benchmarks/results]

Fresh processes, interleaved, one thread a worker. Step: a small MLP (64-64-64-10, global batch 64, accuracy, Adam) on
two workers, against the step that Ray's TensorflowTrainer gives: legacy Keras under MultiWorkerMirroredStrategy (Ray
itself takes no part in a step). Efficiency: the CNN of configs/digits.yaml at batch 64 a worker, two workers against
one; the bound is 1. Prints one JSON object; trust the ratios, a shared machine's seconds come and go.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from distkeras.distribution.ports import free_ports

NUM_STEPS = 400
MLP = """\
task: {kind: tabular_classification}
data: {source: {kind: synthetic, num_examples: 64000, shape: [64]}, split: {validation: 0, test: 0}}
model: {builder: mlp, arguments: {hidden_units: [64, 64]}}
training: {epochs: 1, global_batch_size: 64}
logging: {every_steps: 50, tensorboard: false}
"""
CNN = """\
task: {kind: image_classification}
data: {source: {kind: synthetic, num_examples: 12800, shape: [8, 8, 1]}, split: {validation: 0, test: 0}}
model: {builder: cnn, arguments: {filters: [32, 64], batch_norm: true}}
training: {epochs: 1, global_batch_size: 64}
logging: {every_steps: 20, tensorboard: false}
"""
MODES = ("mlp", "legacy", "cnn_1", "cnn_2")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5, help="measurements of each mode")
    parser.add_argument("--out", type=Path, help="folder that gets the result as a file")
    parser.add_argument("--legacy-worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.legacy_worker:
        train_legacy()
        return
    result = compare(arguments.pairs)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out:
        name = f"c06_two_workers_{platform.machine()}-{os.cpu_count()}cpu_{result['date'].replace('-', '')}"
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / f"{name}.json").write_text(text + "\n")


def compare(pairs: int) -> dict[str, Any]:
    """Runs every mode `pairs` times, forward and backward in turn, and returns medians and ratios."""
    runs: dict[str, list[float]] = {mode: [] for mode in MODES}
    for index in range(pairs):
        for mode in MODES if index % 2 == 0 else reversed(MODES):
            runs[mode].append(measure(mode))
    against_peer = ratio(runs["legacy"], runs["mlp"])
    # Twice the examples in the same time would be 1.
    efficiency = ratio(runs["cnn_1"], runs["cnn_2"])
    return {
        "id": "C6",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "hardware": f"{platform.machine()}, {os.cpu_count()} CPUs, no GPU",
        "load_average": os.getloadavg()[0],
        "unit": "milliseconds a step, median",
        "measured": statistics.median(runs["mlp"]),
        "peer": "tf_keras under MultiWorkerMirroredStrategy, as Ray's TensorflowTrainer runs it",
        "peer_measured": statistics.median(runs["legacy"]),
        "ratio": against_peer["median"],
        "ratio_interval": against_peer["range"],
        "efficiency": efficiency,
        "bound": 1.0,
        "target": {"ratio": 4.0, "efficiency": 0.95},
        "reached": {"ratio": against_peer["median"] >= 4.0, "efficiency": efficiency["median"] >= 0.95},
        "runs": runs,
    }


def ratio(above: list[float], below: list[float]) -> dict[str, Any]:
    """Returns the median of the pairwise ratios and their range."""
    values = [a / b for a, b in zip(above, below, strict=True)]
    return {"median": statistics.median(values), "range": [min(values), max(values)]}


def measure(mode: str) -> float:
    """Returns the median milliseconds of a step after the warm-up."""
    if mode == "legacy":
        return legacy_step()
    if mode == "mlp":
        return step(MLP, "kind: processes, workers: 2")
    if mode == "cnn_1":
        return step(CNN, "kind: processes, workers: 1", cores="0")
    return step(CNN.replace("batch_size: 64", "batch_size: 128"), "kind: processes, workers: 2")


def step(config: str, topology: str, cores: str | None = None) -> float:
    """Trains a config with `distkeras train`; `cores` is what it may run on, as taskset writes it."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "run.yaml").write_text(f"{config}topology: {{{topology}, devices: cpu}}\n")
        command = [sys.executable, "-m", "distkeras", "train", "--config", "run.yaml", "--quiet"]
        pinned = ["taskset", "-c", cores, *command] if cores else command
        subprocess.run(pinned, cwd=folder, check=True, capture_output=True, timeout=300)
        rows = map(json.loads, Path(folder, "runs/run/metrics.jsonl").read_text().splitlines())
        times = [row["step_milliseconds"] for row in rows if row["kind"] == "train"]
    # Chunks of steps grow while the first intervals run.
    return statistics.median(times[len(times) // 3 :])


def legacy_step() -> float:
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2, "127.0.0.1")]
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, "--legacy-worker"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={
                **os.environ,
                "TF_USE_LEGACY_KERAS": "1",
                "TF_CONFIG": json.dumps(
                    {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
                ),
            },
        )
        for rank in range(2)
    ]
    outputs = [worker.communicate(timeout=300)[0] for worker in workers]
    return float(outputs[0].splitlines()[-1])


def train_legacy() -> None:
    """One worker of the peer: prints the milliseconds of a step after the first epoch."""
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    rng = np.random.default_rng(0)
    features = rng.normal(size=(NUM_STEPS * 64, 64)).astype("float32")
    labels = rng.integers(0, 10, NUM_STEPS * 64)
    batches = tf.data.Dataset.from_tensor_slices((features, labels)).batch(64).repeat().prefetch(8)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    with strategy.scope():
        layers = tf.keras.layers
        model = tf.keras.Sequential(
            [*(layers.Dense(64, activation="relu") for _ in range(2)), layers.Dense(10)]
        )
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, metrics=["accuracy"])
    marks: list[float] = []
    mark = tf.keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: marks.append(time.perf_counter())
    )
    model.fit(batches.with_options(options), epochs=3, steps_per_epoch=NUM_STEPS, verbose=0, callbacks=[mark])
    print(1000 * statistics.median(b - a for a, b in itertools.pairwise(marks)) / NUM_STEPS)


if __name__ == "__main__":
    main()
