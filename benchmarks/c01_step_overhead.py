"""C1: what does a training step cost beside its arithmetic, on a model so small that nothing else matters?

    python benchmarks/c01_step_overhead.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]

One MLP (64-64-64-10, batch 64, accuracy, Adam) on 64,000 examples in memory, in fresh processes, interleaved:
Keras's `fit` as users call it, `fit` with 50 steps per execution, `distkeras.Trainer`, and the bound: a loop written
by hand inside one graph, without metrics, callbacks or logs. The first epoch is warm-up. Prints one JSON object;
trust the ratios, a shared machine's seconds come and go.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from typing import Any

import harness
from harness import Benchmark, Mode
from ratios import Ratio

NUM_EXAMPLES = 64_000
BATCH = 64
EPOCHS = 5
MODES = ("fit", "fit_50_steps", "distkeras", "bound")


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


BENCHMARK = Benchmark(
    id="C1",
    script=__file__,
    figure="microseconds_per_step",
    unit="microseconds a step",
    modes={mode: Mode(partial(measure, mode)) for mode in MODES},
    subject="distkeras",
    peer="fit",
    bound="bound",
    ratios={
        "ratio": Ratio("fit", "distkeras", target=3.0),
        "ratio_to_fit_50_steps": Ratio("fit_50_steps", "distkeras"),
        "bound_ratio": Ratio("distkeras", "bound", target=1.1, better="less"),
    },
    settings={"num_examples": NUM_EXAMPLES, "global_batch_size": BATCH, "epochs": EPOCHS},
)

if __name__ == "__main__":
    harness.main(BENCHMARK, __doc__)
