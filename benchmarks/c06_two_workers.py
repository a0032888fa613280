"""C6: how fast are two worker processes, against the peer and against the doubling that they could be?

    pip install -e ".[bench]"          # and torch, for that peer: see c03_jpeg_input.py
    python benchmarks/c06_two_workers.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]

Fresh processes, interleaved, one thread a worker. Step: a small MLP (64-64-64-10, global batch 64, accuracy, Adam) on
two workers, against the step that Ray's TensorflowTrainer gives: legacy Keras under MultiWorkerMirroredStrategy (Ray
itself takes no part in a step), and against torch's DistributedDataParallel over gloo, also with 6 million weights
(64-2400-2400-10), whose gradients take 24 MB. Efficiency: two workers against one, at batch 64 a worker, of the CNN of
configs/digits.yaml on its images of 8x8, of the same on images of 32x32, where computing takes most of a step, and of
the 6 million weights; the bound is 1. What of a loss is the machine's own is measured, too: the same two workers with
no exchange for a thousand steps (apart). Prints one JSON object; trust the ratios, a shared machine's seconds come and
go.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial

import harness
from harness import Benchmark, Mode
from ratios import Figures, Ratio
from train_command import train_rows

from distkeras.distribution.ports import free_ports

NUM_STEPS = 400
# Of a peer's workers.
PEER_SECONDS, POLL_SECONDS, LINES_SHOWN = 300.0, 0.2, 30
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
WIDE = MLP.replace("[64, 64]", "[2400, 2400]").replace("64000", "12800").replace("50", "10")
LARGE = CNN.replace("num_examples: 12800, shape: [8, 8, 1]", "num_examples: 3840, shape: [32, 32, 1]")
# Configs for one worker; two get twice the batch.
CONFIGS = {"cnn": CNN, "large": LARGE.replace("every_steps: 20", "every_steps: 6"), "wide": WIDE}
TORCH_UNITS = {"torch_mlp": 64, "torch_wide": 2400}
PEERS = {"legacy": ("tf_keras",), "torch_mlp": ("torch",), "torch_wide": ("torch",)}
OURS = ("mlp", *(f"{name}_{how}" for name in CONFIGS for how in ("1", "2", "apart")))


def measure(mode: str) -> Figures:
    """Returns the median milliseconds of a step after the warm-up."""
    return {"milliseconds_per_step": milliseconds_per_step(mode)}


def milliseconds_per_step(mode: str) -> float:
    if mode == "legacy":
        return peer_step("--legacy-worker")
    if mode in TORCH_UNITS:
        return peer_step("--torch-worker", str(TORCH_UNITS[mode]))
    if mode == "mlp":
        return step(MLP, "kind: processes, workers: 2")
    name, how = mode.split("_")
    if how == "1":
        return step(CONFIGS[name], "kind: processes, workers: 1", cores="0")
    reduction = "{every_steps: 1000}" if how == "apart" else "full"
    config = CONFIGS[name].replace("batch_size: 64", "batch_size: 128")
    return step(config, f"kind: processes, workers: 2, reduction: {reduction}")


def step(config: str, topology: str, cores: str | None = None) -> float:
    """Trains a config with `distkeras train`; `cores` is what it may run on, as taskset writes it."""
    rows = train_rows(f"{config}topology: {{{topology}, devices: cpu}}\n", cores=cores)
    times = [row["step_milliseconds"] for row in rows]
    # Chunks of steps grow while the first intervals run.
    return statistics.median(times[len(times) // 3 :])


def peer_step(*arguments: str) -> float:
    """Returns the step of a peer's two workers.

    Raises:
        SystemExit: With the end of what they said, if one of them fails or they take too long.
    """
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2, "127.0.0.1")]
    with tempfile.TemporaryFile("w+") as errors:
        workers = [
            subprocess.Popen(
                [sys.executable, __file__, *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **peer_environment(addresses, rank)},
            )
            for rank in range(2)
        ]
        wait_for_all_or_a_failure(workers)
        outputs = [worker.communicate()[0] for worker in workers]
        codes = [worker.returncode for worker in workers]
        if any(codes):
            errors.seek(0)
            said = errors.readlines()[-LINES_SHOWN:]
            raise SystemExit(f"{''.join(said)}The workers of {' '.join(arguments)} ended with {codes}.")
    return float(outputs[0].splitlines()[-1])


def peer_environment(addresses: list[str], rank: int) -> dict[str, str]:
    """Returns how a worker of a peer finds the other one, and its one thread."""
    return {
        "TF_USE_LEGACY_KERAS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": addresses[0].rpartition(":")[2],
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "OMP_NUM_THREADS": "1",
        "TF_CONFIG": json.dumps(
            {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        ),
    }


def wait_for_all_or_a_failure(workers: list[subprocess.Popen[str]]) -> None:
    """Waits until all workers have ended; where one failed, or time is up, the others are killed."""
    deadline = time.monotonic() + PEER_SECONDS
    while None in (codes := [worker.poll() for worker in workers]):
        if any(codes) or time.monotonic() > deadline:
            for worker in workers:
                worker.kill()
        time.sleep(POLL_SECONDS)


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


def train_torch(units: int) -> None:
    """One worker of the peer: prints the milliseconds of a step after the first steps."""
    import torch

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    torch.manual_seed(0)
    size = (64, units, units, 10)
    layers = [
        layer for pair in itertools.pairwise(size) for layer in (torch.nn.Linear(*pair), torch.nn.ReLU())
    ]
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(*layers[:-1]))
    optimizer, loss = torch.optim.Adam(model.parameters()), torch.nn.CrossEntropyLoss()
    batch, num_steps = (32, NUM_STEPS) if units == 64 else (64, NUM_STEPS // 8)
    features, labels = torch.randn(num_steps * batch, 64), torch.randint(0, 10, (num_steps * batch,))
    marks: list[float] = []
    for index in range(num_steps):
        marks.append(time.perf_counter())
        rows = slice(index * batch, (index + 1) * batch)
        optimizer.zero_grad()
        predicted = model(features[rows])
        loss(predicted, labels[rows]).backward()
        optimizer.step()
        (predicted.argmax(1) == labels[rows]).float().mean()
    print(1000 * statistics.median(b - a for a, b in itertools.pairwise(marks[num_steps // 4 :])))


BENCHMARK = Benchmark(
    id="C6",
    script=__file__,
    figure="milliseconds_per_step",
    unit="milliseconds a step",
    modes={mode: Mode(partial(measure, mode), PEERS.get(mode, ())) for mode in (*OURS, *PEERS)},
    subject="mlp",
    # As Ray's TensorflowTrainer runs it.
    peer="legacy",
    # Twice the examples in the time of one worker that has the processor for itself.
    bound="cnn_1",
    bound_ratio="efficiency",
    ratios={
        "ratio": Ratio("legacy", "mlp", target=4.0),
        "ratio_to_torch": Ratio("torch_mlp", "mlp"),
        "ratio_to_torch_of_wide": Ratio("torch_wide", "wide_2"),
        "efficiency": Ratio("cnn_1", "cnn_2", target=0.95),
        "efficiency_of_large_images": Ratio("large_1", "large_2", target=0.95),
        "efficiency_of_wide": Ratio("wide_1", "wide_2"),
        # Without the exchange: what two lose that only share the machine's memory, cache and power. And what is left.
        **{f"{name}_apart": Ratio(f"{name}_1", f"{name}_apart") for name in CONFIGS},
        **{f"{name}_of_apart": Ratio(f"{name}_apart", f"{name}_2") for name in CONFIGS},
    },
    settings={"mlp": MLP, **CONFIGS},
    packages=("tf_keras", "torch"),
)

if __name__ == "__main__":
    if sys.argv[1:] == ["--legacy-worker"]:
        train_legacy()
    elif sys.argv[1:2] == ["--torch-worker"]:
        train_torch(int(sys.argv[2]))
    else:
        harness.main(BENCHMARK, __doc__)
