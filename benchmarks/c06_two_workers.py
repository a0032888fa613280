"""C6: how fast are two worker processes, against the peer and against the doubling that they could be?

    pip install -e ".[bench]"
    python benchmarks/c06_two_workers.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]

Fresh processes, interleaved, one thread a worker. Step: a small MLP (64-64-64-10, global batch 64, accuracy, Adam) on
two workers, against the step that Ray's TensorflowTrainer gives: legacy Keras under MultiWorkerMirroredStrategy (Ray
itself takes no part in a step). Efficiency: the CNN of configs/digits.yaml at batch 64 a worker, two workers against
one, on its images of 8x8 and on some of 32x32, where computing takes most of a step; the bound is 1. Prints one JSON
object; trust the ratios, a shared machine's seconds come and go.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial

import harness
from harness import Benchmark, Mode
from ratios import Figures, Ratio
from train_command import train_rows

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
LARGE = CNN.replace("num_examples: 12800, shape: [8, 8, 1]", "num_examples: 3840, shape: [32, 32, 1]")
# Configs for one worker; two get twice the batch.
CNNS = {"cnn": CNN, "large": LARGE.replace("every_steps: 20", "every_steps: 6")}
MODES = ("mlp", "legacy", "cnn_1", "cnn_2", "large_1", "large_2")


def measure(mode: str) -> Figures:
    """Returns the median milliseconds of a step after the warm-up."""
    return {"milliseconds_per_step": milliseconds_per_step(mode)}


def milliseconds_per_step(mode: str) -> float:
    if mode == "legacy":
        return legacy_step()
    if mode == "mlp":
        return step(MLP, "kind: processes, workers: 2")
    name, workers = mode.split("_")
    if workers == "1":
        return step(CNNS[name], "kind: processes, workers: 1", cores="0")
    return step(CNNS[name].replace("batch_size: 64", "batch_size: 128"), "kind: processes, workers: 2")


def step(config: str, topology: str, cores: str | None = None) -> float:
    """Trains a config with `distkeras train`; `cores` is what it may run on, as taskset writes it."""
    rows = train_rows(f"{config}topology: {{{topology}, devices: cpu}}\n", cores=cores)
    times = [row["step_milliseconds"] for row in rows]
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


BENCHMARK = Benchmark(
    id="C6",
    script=__file__,
    figure="milliseconds_per_step",
    unit="milliseconds a step",
    modes={mode: Mode(partial(measure, mode), ("tf_keras",) if mode == "legacy" else ()) for mode in MODES},
    subject="mlp",
    # As Ray's TensorflowTrainer runs it.
    peer="legacy",
    bound=1.0,
    ratios={
        "ratio": Ratio("legacy", "mlp", target=4.0),
        # Twice the examples in the same time would be 1.
        "efficiency": Ratio("cnn_1", "cnn_2", target=0.95),
        "efficiency_of_large_images": Ratio("large_1", "large_2", target=0.95),
    },
    settings={"mlp": MLP, **CNNS},
    packages=("tf_keras",),
)

if __name__ == "__main__":
    if sys.argv[1:] == ["--legacy-worker"]:
        train_legacy()
    else:
        harness.main(BENCHMARK, __doc__)
