"""C1: what does a training step cost beside its arithmetic, on a model so small that nothing else matters?

    python benchmarks/c01_step_overhead.py [--pairs 5] [--out benchmarks/results]

One MLP (64-64-64-10, batch 64, accuracy, Adam) on 64,000 examples in memory, in fresh processes, interleaved:
Keras's `fit` as users call it, `fit` with 50 steps per execution, `distkeras.Trainer`, and the bound: a loop written
by hand inside one graph, without metrics, callbacks or logs. The first epoch is warm-up. Prints one JSON object;
trust the ratios, a shared machine's seconds come and go.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NUM_EXAMPLES = 64_000
BATCH = 64
EPOCHS = 5
MODES = ("fit", "fit_50_steps", "distkeras", "bound")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5, help="measurements of each mode")
    parser.add_argument("--out", type=Path, help="folder that gets the result as a file")
    parser.add_argument("--mode", choices=MODES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.mode:
        print(json.dumps(measure(arguments.mode)))
        return
    result = compare(arguments.pairs)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out:
        name = f"c01_step_overhead_{platform.machine()}-{os.cpu_count()}cpu_{result['date'].replace('-', '')}"
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / f"{name}.json").write_text(text + "\n")


def compare(pairs: int) -> dict[str, Any]:
    """Runs every mode `pairs` times, forward and backward in turn, and returns medians and ratios."""
    runs: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for index in range(pairs):
        for mode in MODES if index % 2 == 0 else reversed(MODES):
            command = [sys.executable, __file__, "--mode", mode]
            output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
            runs[mode].append(json.loads(output.splitlines()[-1]))
    micros = {mode: [run["microseconds_per_step"] for run in runs[mode]] for mode in MODES}
    ratios = {mode: ratio(micros[mode], micros["distkeras"]) for mode in ("fit", "fit_50_steps")}
    bound = ratio(micros["distkeras"], micros["bound"])
    return {
        "id": "C1",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "hardware": f"{platform.machine()}, {os.cpu_count()} CPUs, no GPU",
        "load_average": os.getloadavg()[0],
        "unit": "microseconds a step, median",
        "measured": statistics.median(micros["distkeras"]),
        "bound": statistics.median(micros["bound"]),
        "bound_ratio": bound,
        "peers": {
            mode: {"measured": statistics.median(micros[mode]), "ratio": ratios[mode]} for mode in ratios
        },
        "cpu_microseconds_per_step": {
            mode: statistics.median(run["cpu_microseconds_per_step"] for run in runs[mode]) for mode in MODES
        },
        "target": {"bound_ratio": 1.1, "ratio_to_fit": 3.0},
        "reached": {"bound_ratio": bound["median"] <= 1.1, "ratio_to_fit": ratios["fit"]["median"] >= 3.0},
        "resident_mebibytes": {
            mode: statistics.median(run["memory"] for run in runs[mode]) for mode in MODES
        },
        "runs": micros,
    }


def ratio(above: list[float], below: list[float]) -> dict[str, Any]:
    """Returns the median of the pairwise ratios and their range."""
    values = [a / b for a, b in zip(above, below, strict=True)]
    return {"median": statistics.median(values), "range": [min(values), max(values)]}


def measure(mode: str) -> dict[str, float]:
    """Trains in this process and returns the cost of a step after the first epoch."""
    import numpy as np

    rng = np.random.default_rng(0)
    features = rng.normal(size=(NUM_EXAMPLES, 64)).astype("float32")
    labels = rng.integers(0, 10, NUM_EXAMPLES)
    wall, cpu = train_bound(features, labels) if mode == "bound" else train_keras(mode, features, labels)
    num_steps = (EPOCHS - 1) * (NUM_EXAMPLES // BATCH)
    return {
        "microseconds_per_step": 1e6 * wall / num_steps,
        "cpu_microseconds_per_step": 1e6 * cpu / num_steps,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def build_model(steps_per_execution: int = 1) -> Any:
    import keras

    layers = [keras.Input((64,)), *(keras.layers.Dense(64, activation="relu") for _ in range(2))]
    model = keras.Sequential([*layers, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], steps_per_execution=steps_per_execution)
    return model


def train_keras(mode: str, features: Any, labels: Any) -> tuple[float, float]:
    import keras

    marks: list[tuple[float, float]] = []
    mark = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: marks.append((time.perf_counter(), time.process_time()))
    )
    if mode == "distkeras":
        import distkeras as dk

        with tempfile.TemporaryDirectory() as folder:
            trainer = dk.Trainer("c01", epochs=EPOCHS, global_batch_size=BATCH, output_dir=folder)
            trainer.fit(build_model, (features, labels), callbacks=[mark])
    else:
        model = build_model(50 if mode == "fit_50_steps" else 1)
        model.fit(features, labels, batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=[mark])
    return marks[-1][0] - marks[0][0], marks[-1][1] - marks[0][1]


def train_bound(features: Any, labels: Any) -> tuple[float, float]:
    import tensorflow as tf

    model = build_model()
    optimizer, loss_of = model.optimizer, model.loss
    optimizer.build(model.trainable_variables)
    batches = tf.data.Dataset.from_tensor_slices((features, labels)).batch(BATCH).repeat().prefetch(8)

    @tf.function
    def epoch(iterator: Any) -> None:
        for _ in tf.range(NUM_EXAMPLES // BATCH):
            inputs, targets = next(iterator)
            with tf.GradientTape() as tape:
                loss = loss_of(targets, model(inputs, training=True))
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    iterator = iter(batches)
    epoch(iterator)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(EPOCHS - 1):
        epoch(iterator)
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main()
