"""C1: what does a training step cost beside its arithmetic, on models so small that little else matters?

    python benchmarks/c01_step_overhead.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]

Microseconds a step at batch 64 with Adam, from examples in memory, in fresh processes, interleaved: Keras's `fit` as
users call it, `fit` with 50 steps per execution, `distkeras.Trainer`, and the bound: a loop written by hand inside one
graph. The first epoch is warm-up. Situations:

- an MLP (64-64-64-10) with accuracy and one callback;
- 0_metrics and 5_metrics: the same with no metric and with five;
- no_callbacks: the same as the first without the callback;
- lenet: LeNet-5 on images of 28x28, with accuracy and one callback. Its arithmetic takes most of a step.

The bound has no callbacks and no logs. It computes the five metrics, which take arithmetic of their own, and no other.
Prints one JSON object; trust the ratios, a shared machine's seconds come and go.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import harness
from harness import Benchmark, Mode
from ratios import Figures, Ratio

NUM_EXAMPLES = 64_000
BATCH = 64
EPOCHS = 5
NUM_CLASSES = 10
WAYS = ("fit", "distkeras", "bound")


@dataclass(frozen=True)
class Situation:
    """What is trained, and what is asked for beside.

    Attributes:
        model: "mlp" or "lenet".
        num_metrics: Metrics, up to five.
        has_callback: Whether a callback of the user's is there.
        num_examples: Examples of an epoch.
        fit_epochs: Epochs of `fit`, which takes a multiple of the time of the others.
    """

    model: str = "mlp"
    num_metrics: int = 1
    has_callback: bool = True
    num_examples: int = NUM_EXAMPLES
    fit_epochs: int = 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an example."""
        return (64,) if self.model == "mlp" else (28, 28, 1)

    @property
    def num_steps(self) -> int:
        """Steps of an epoch."""
        return self.num_examples // BATCH


FIRST = Situation(fit_epochs=EPOCHS)
# By what the names of its modes and ratios end in.
SITUATIONS = {
    "": FIRST,
    "_0_metrics": Situation(num_metrics=0),
    "_5_metrics": Situation(num_metrics=5),
    "_no_callbacks": Situation(has_callback=False),
    "_lenet": Situation("lenet", num_examples=12_800),
}


@dataclass(frozen=True)
class Spent:
    """What so many steps took; the CPU-seconds are None where nobody was there to read them."""

    num_steps: int
    seconds: float
    cpu_seconds: float | None

    @property
    def figures(self) -> dict[str, float | None]:
        """Costs of a step."""
        cpu = None if self.cpu_seconds is None else 1e6 * self.cpu_seconds / self.num_steps
        return {
            "microseconds_per_step": 1e6 * self.seconds / self.num_steps,
            "cpu_microseconds_per_step": cpu,
        }


def measure(way: str, situation: Situation, steps_per_execution: int = 1) -> Figures:
    """Trains in this process and returns the cost of a step after the first epoch."""
    import numpy as np

    rng = np.random.default_rng(0)
    features = rng.normal(size=(situation.num_examples, *situation.shape)).astype("float32")
    labels = rng.integers(0, NUM_CLASSES, situation.num_examples)
    build = partial(build_model, situation, steps_per_execution)
    train = {"fit": train_by_fit, "distkeras": train_by_distkeras, "bound": train_by_hand}[way]
    return train(situation, build, features, labels).figures


def build_model(situation: Situation = FIRST, steps_per_execution: int = 1) -> Any:
    import keras

    body = mlp() if situation.model == "mlp" else lenet()
    model = keras.Sequential([keras.Input(situation.shape), *body, keras.layers.Dense(NUM_CLASSES)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    chosen = metrics(situation.num_metrics)
    model.compile("adam", loss, metrics=chosen, steps_per_execution=steps_per_execution)
    return model


def mlp() -> list[Any]:
    from keras import layers

    return [layers.Dense(64, activation="relu") for _ in range(2)]


def lenet() -> list[Any]:
    from keras import layers

    return [
        layers.Conv2D(6, 5, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(16, 5, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        *(layers.Dense(units, activation="relu") for units in (120, 84)),
    ]


def metrics(count: int) -> list[Any]:
    from keras import metrics

    found = [
        metrics.SparseCategoricalAccuracy(name="accuracy"),
        *(metrics.SparseTopKCategoricalAccuracy(k, name=f"top_{k}") for k in (2, 3, 5)),
        metrics.SparseCategoricalCrossentropy(from_logits=True, name="crossentropy"),
    ]
    return found[:count]


class Marks:
    """Seconds and CPU-seconds at the end of each epoch, from a callback."""

    def __init__(self) -> None:
        self._read: list[tuple[float, float]] = []

    def callback(self) -> Any:
        import keras

        return keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: self._read.append((time.perf_counter(), time.process_time()))
        )

    def spent(self, situation: Situation) -> Spent:
        """Returns what the epochs after the first took."""
        (wall, cpu), (last_wall, last_cpu) = self._read[0], self._read[-1]
        return Spent((len(self._read) - 1) * situation.num_steps, last_wall - wall, last_cpu - cpu)


def train_by_fit(situation: Situation, build: Callable[[], Any], features: Any, labels: Any) -> Spent:
    fit = partial(build().fit, features, labels, batch_size=BATCH, verbose=0)
    if situation.has_callback:
        marks = Marks()
        fit(epochs=situation.fit_epochs, callbacks=[marks.callback()])
        return marks.spent(situation)
    fit()
    return timed(situation.fit_epochs - 1, situation, lambda: fit(epochs=situation.fit_epochs - 1))


def train_by_distkeras(situation: Situation, build: Callable[[], Any], features: Any, labels: Any) -> Spent:
    import distkeras as dk

    marks = Marks()
    callbacks = [marks.callback()] if situation.has_callback else []
    with tempfile.TemporaryDirectory() as folder:
        trainer = dk.Trainer("c01", epochs=EPOCHS, global_batch_size=BATCH, output_dir=folder)
        run = trainer.fit(build, (features, labels), callbacks=callbacks)
        if situation.has_callback:
            return marks.spent(situation)
        ends = [row["time"] for row in run.directory.read_metrics() if row["kind"] == "epoch"]
    return Spent((EPOCHS - 1) * situation.num_steps, ends[-1] - ends[0], None)


def train_by_hand(situation: Situation, build: Callable[[], Any], features: Any, labels: Any) -> Spent:
    import tensorflow as tf

    model = build()
    optimizer, loss_of = model.optimizer, model.loss
    optimizer.build(model.trainable_variables)
    kept = metrics(situation.num_metrics) if situation.num_metrics > 1 else []
    batches = tf.data.Dataset.from_tensor_slices((features, labels)).batch(BATCH).repeat().prefetch(8)

    @tf.function
    def epoch(iterator: Any) -> None:
        for _ in tf.range(situation.num_steps):
            inputs, targets = next(iterator)
            with tf.GradientTape() as tape:
                outputs = model(inputs, training=True)
                loss = loss_of(targets, outputs)
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            for metric in kept:
                metric.update_state(targets, outputs)

    iterator = iter(batches)
    epoch(iterator)
    return timed(EPOCHS - 1, situation, lambda: [epoch(iterator) for _ in range(EPOCHS - 1)])


def timed(epochs: int, situation: Situation, train: Callable[[], object]) -> Spent:
    """Returns what training so many epochs takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    train()
    return Spent(epochs * situation.num_steps, time.perf_counter() - wall, time.process_time() - cpu)


def modes() -> dict[str, Mode]:
    """Returns the modes, those of one situation together."""
    found = {
        f"{way}{name}": Mode(partial(measure, way, situation))
        for name, situation in SITUATIONS.items()
        for way in WAYS
    }
    return {"fit_50_steps": Mode(partial(measure, "fit", FIRST, 50)), **found}


def ratios(name: str, situation: Situation) -> dict[str, Ratio]:
    """Returns the ratios of a situation; where a step is long, `fit` need not be slower."""
    target = 3.0 if situation.model == "mlp" else None
    return {
        f"ratio{name}": Ratio(f"fit{name}", f"distkeras{name}", target=target),
        f"bound_ratio{name}": Ratio(f"distkeras{name}", f"bound{name}", target=1.1, better="less"),
    }


BENCHMARK = Benchmark(
    id="C1",
    script=__file__,
    figure="microseconds_per_step",
    unit="microseconds a step",
    modes=modes(),
    subject="distkeras",
    peer="fit",
    bound="bound",
    ratios={
        "ratio_to_fit_50_steps": Ratio("fit_50_steps", "distkeras"),
        **{key: ratio for name in SITUATIONS for key, ratio in ratios(name, SITUATIONS[name]).items()},
    },
    settings={
        "global_batch_size": BATCH,
        "epochs": EPOCHS,
        "situations": {name.lstrip("_") or "mlp": asdict(one) for name, one in SITUATIONS.items()},
    },
)

if __name__ == "__main__":
    harness.main(BENCHMARK, __doc__)
