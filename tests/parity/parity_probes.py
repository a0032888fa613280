"""Experiments on what replicas do not share, and on what must not change a bit; run by parity_worker.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from parity_cases import BY_NAME, SEED

import distkeras as dk
from distkeras.data.batches import BatchPlan, step_ids
from distkeras.data.order import Shuffled
from distkeras.data.sources.arrays import ArraySource
from distkeras.observability.run_directory import RunDirectory

Arrays = dict[str, np.ndarray]

NUM_FEATURES = 256
MOMENTUM = 0.9


def train(
    name: str,
    replicas: int,
    folder: Path,
    build: Callable[[], keras.Model],
    examples: tuple[Any, ...],
    *,
    global_batch_size: int = 8,
    epochs: int = 1,
    **settings: Any,
) -> dk.Trainer:
    common = {"topology.devices": "cpu", "logging.tensorboard": False, "data.remainder": "partial"}
    trainer = dk.Trainer(
        name,
        epochs=epochs,
        global_batch_size=global_batch_size,
        replicas=replicas,
        seed=SEED,
        output_dir=folder / str(replicas),
        settings=common | {key.replace("__", "."): value for key, value in settings.items()},
    )
    trainer.fit(build, ArraySource(*examples))
    return trainer


def weights_of(trainer: dk.Trainer) -> np.ndarray:
    return np.concatenate([weight.ravel() for weight in trainer.trained.model.get_weights()])


def dropout_masks(replicas: int, folder: Path) -> Arrays:
    """Says how many replicas kept each feature in one step; twice, in runs of their own.

    Each replica has one example of ones, so the gradient of a kernel element is minus the mean of what is kept,
    which is 2 at a rate of one half.
    """

    def build() -> keras.Model:
        head = layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        model = keras.Sequential([keras.Input((NUM_FEATURES,)), layers.Dropout(0.5), head])
        model.compile(keras.optimizers.SGD(1.0), lambda labels, outputs: -outputs[:, 0])
        return model

    examples = np.ones((replicas, NUM_FEATURES), np.float32), np.zeros((replicas, 1), np.float32)

    def kept(name: str) -> np.ndarray:
        trainer = train(name, replicas, folder, build, examples, global_batch_size=replicas)
        return weights_of(trainer) * replicas / 2

    return {"first": kept("masks-1"), "second": kept("masks-2")}


def batch_norm_statistics(replicas: int, folder: Path) -> Arrays:
    """Returns the moving statistics after three epochs, and what NumPy says they are."""
    rng = np.random.default_rng(0)
    features = rng.normal(2, 3, (137, 5)).astype(np.float32)

    def build() -> keras.Model:
        norm = layers.BatchNormalization(momentum=MOMENTUM)
        model = keras.Sequential([keras.Input((5,)), norm, layers.Dense(1)])
        model.compile("sgd", "mse")
        return model

    source = ArraySource(features, features[:, 0])
    trainer = train("statistics", replicas, folder, build, (features, features[:, 0]), epochs=3)
    norm = trainer.trained.model.layers[0]
    expected = moving_statistics(features, source.fingerprint, replicas)
    return {
        "actual": np.stack([norm.moving_mean.numpy(), norm.moving_variance.numpy()]),
        "expected": expected,
    }


def moving_statistics(features: np.ndarray, fingerprint: str, replicas: int) -> np.ndarray:
    """Each replica's own statistics of its own examples, averaged over replicas at the end of each epoch."""
    plan, order = BatchPlan(len(features), 8, "partial"), Shuffled(len(features), fingerprint, SEED)
    state = np.tile(np.array([0.0, 1.0])[:, None], (replicas, 1, features.shape[1]))
    for step in range(3 * plan.steps_per_epoch):
        for replica in range(replicas):
            batch = features[step_ids(plan, order, step, replica, replicas)].astype(np.float64)
            if len(batch):
                now = np.stack([batch.mean(axis=0), batch.var(axis=0)])
                state[replica] = MOMENTUM * state[replica] + (1 - MOMENTUM) * now
        if (step + 1) % plan.steps_per_epoch == 0:
            state[:] = state.mean(axis=0)
    return state[0]


def random_layers() -> keras.Model:
    """A model in which everything can go another way: sparse gradients, dropout, a normalisation."""
    stack = [
        keras.Input((7,), dtype="int32"),
        layers.Embedding(20, 6),
        layers.Flatten(),
        layers.BatchNormalization(),
        layers.Dropout(0.3),
        layers.Dense(3, activation="softmax"),
    ]
    model = keras.Sequential(stack)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def final_state(name: str, replicas: int, folder: Path, **settings: Any) -> np.ndarray:
    """Returns weights and every epoch's metrics of one run, in one row."""
    examples = BY_NAME["embedding"].examples("train")
    trainer = train(name, replicas, folder, random_layers, examples, epochs=3, **settings)
    history = dk.Run(RunDirectory(folder / str(replicas) / name)).history
    return np.concatenate([weights_of(trainer), *[history[metric] for metric in sorted(history)]])


def steps_per_execution(replicas: int, folder: Path) -> Arrays:
    return {
        str(steps): final_state(f"k-{steps}", replicas, folder, training__steps_per_execution=steps)
        for steps in (1, 7, "auto")
    }


def deterministic(replicas: int, folder: Path) -> Arrays:
    return {
        name: final_state(f"deterministic-{name}", replicas, folder, deterministic=True)
        for name in ("first", "second")
    }


def predicted_order(replicas: int, folder: Path) -> Arrays:
    """Predicts 29 numbers with a model that returns them, on a data set that `dk.prepare` made batches of."""
    numbers = np.arange(29, dtype=np.float32)[:, None]
    with dk.scale(replicas, devices="cpu"):
        model = keras.Sequential([keras.Input((1,)), layers.Identity()])
        model.compile(loss="mse")
        dataset = tf.data.Dataset.from_tensor_slices((numbers, numbers + 1))
        dataset = dk.prepare(dataset, global_batch_size=8)
        outputs = dk.prepare(model).predict(dataset, verbose=0)
        loss = model.evaluate(dataset, verbose=0)
    return {"numbers": numbers, "outputs": outputs, "loss": np.array(loss)}


PROBES = {
    "predicted_order": predicted_order,
    "dropout_masks": dropout_masks,
    "batch_norm_statistics": batch_norm_statistics,
    "steps_per_execution": steps_per_execution,
    "deterministic": deterministic,
}
