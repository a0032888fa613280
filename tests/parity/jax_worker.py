"""Trains the cases of test_jax.py: `jax_worker.py ENGINE FOLDER RANK ADDRESSES CASE...`, addresses separated by commas.

ENGINE is `tensorflow` or `jax`; without addresses the process is alone. Each case leaves FOLDER/<case>.npz, written by
rank zero, or FOLDER/<case>.error with what went wrong on any rank.
"""

from __future__ import annotations

import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = sys.argv[1]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
from keras import layers

from distkeras.config.settings import settings_from_mapping
from distkeras.data.sources.arrays import ArraySource
from distkeras.evaluation.predicting import compute_metrics, predict
from distkeras.observability.progress import Progress
from distkeras.observability.run_directory import RunDirectory
from distkeras.observability.writers import JsonLinesWriter
from distkeras.topology import Worker
from distkeras.training import session
from distkeras.training.feeding import TrainingData

ENGINE = sys.argv[1]
NUM_EXAMPLES, BATCH, EPOCHS = 229, 24, 5  # ten steps, the last with 13 examples
CROSSENTROPY = "sparse_categorical_crossentropy"


def momentum() -> Any:
    return keras.optimizers.SGD(0.05, momentum=0.9)


def mlp(optimizer: Any, **arguments: Any) -> keras.Model:
    stack = [keras.Input((12,)), layers.Dense(16, activation="tanh"), layers.Dense(3, activation="softmax")]
    model = keras.Sequential(stack)
    model.compile(optimizer, CROSSENTROPY, metrics=["accuracy"], **arguments)
    return model


def clipped() -> keras.Model:
    return mlp(keras.optimizers.Adam(0.01, global_clipnorm=0.3))


def weighted() -> keras.Model:
    return mlp(keras.optimizers.Adam(0.01), weighted_metrics=["accuracy"])


def accumulated() -> keras.Model:
    ema = {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 7}
    return mlp(keras.optimizers.SGD(0.1, gradient_accumulation_steps=3, **ema))


def batch_norm() -> keras.Model:
    stack = [
        keras.Input((8, 8, 3)),
        layers.Conv2D(6, 3, use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        layers.ReLU(),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3, activation="softmax"),
    ]
    model = keras.Sequential(stack)
    model.compile(momentum(), CROSSENTROPY, metrics=["accuracy"])
    return model


def masked() -> keras.Model:
    stack = [
        keras.Input((7,), dtype="int32"),
        layers.Embedding(20, 6, mask_zero=True),
        layers.LSTM(6, return_sequences=True),
        layers.Dense(3, activation="softmax"),
    ]
    model = keras.Sequential(stack)
    model.compile(momentum(), CROSSENTROPY, weighted_metrics=["accuracy"])
    return model


def two_outputs() -> keras.Model:
    ids, table = keras.Input((7,), dtype="int32", name="ids"), keras.Input((12,), name="table")
    summed = layers.GlobalAveragePooling1D()(layers.Embedding(20, 6)(ids))
    hidden = layers.Dense(8, activation="tanh")(layers.Concatenate()([summed, table]))
    outputs = {
        "kind": layers.Dense(3, activation="softmax", name="kind")(hidden),
        "amount": layers.Dense(1, name="amount")(hidden),
    }
    model = keras.Model({"ids": ids, "table": table}, outputs)
    losses = {"kind": CROSSENTROPY, "amount": "mse"}
    model.compile(
        momentum(), losses, loss_weights={"kind": 1.0, "amount": 0.3}, metrics={"kind": ["accuracy"]}
    )
    return model


def transformer() -> keras.Model:
    ids = keras.Input((7,), dtype="int32")
    hidden = layers.Embedding(20, 8, name="embedding")(ids)
    attended = layers.MultiHeadAttention(2, 4, name="attention")(hidden, hidden)
    hidden = layers.LayerNormalization(name="norm")(hidden + attended)
    wide = layers.Dense(32, activation="relu", name="ffn_up")(hidden)
    hidden = layers.GlobalAveragePooling1D()(hidden + layers.Dense(8, name="ffn_down")(wide))
    model = keras.Model(ids, layers.Dense(3, activation="softmax", name="head")(hidden))
    model.compile(momentum(), CROSSENTROPY, metrics=["accuracy"])
    return model


LAYOUT = {
    "embedding/embeddings": [None, "model"],
    "attention/(query|key|value)/kernel": [None, "model", None],
    "attention/attention_output/kernel": ["model", None, None],
    "ffn_up/kernel": [None, "model"],
    "ffn_up/bias": ["model"],
    "ffn_down/kernel": ["model", None],
}
# Four steps a call on JAX, where a logging interval of seven and the last batch's other length cut them short.
FOUR_STEPS = {"training.steps_per_execution": 4, "logging.every_steps": 7}
CASES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "clipped": (clipped, "table", {}),
    "batch_norm": (batch_norm, "images", {"training.class_weight": {"0": 2.0, "2": 0.5}}),
    "masked": (masked, "sequences", {}),
    "weighted": (weighted, "weighted", {"data.remainder": "wrap"}),
    # On uneven batches Keras's backends count the losses of single outputs differently.
    "two_outputs": (two_outputs, "structures", {"data.remainder": "drop"}),
    "accumulated": (accumulated, "table", FOUR_STEPS),
    "transformer": (transformer, "ids", {}),
    "split": (transformer, "ids", {"topology.model_parallel": 2, "topology.layout": LAYOUT}),
}

# Each prediction is two programs more to compile.
PREDICTED = ("clipped", "two_outputs", "transformer", "split")


def examples(kind: str, num_examples: int, seed: int) -> tuple[Any, ...]:
    """Returns features, labels and, for one kind, sample weights."""
    numbers = np.random.default_rng(seed)
    table = numbers.normal(size=(num_examples, 12)).astype("float32")
    labels = table[:, :3].argmax(axis=1)
    ids = numbers.integers(1, 20, (num_examples, 7)).astype("int32")
    ids[np.arange(7) >= numbers.integers(2, 8, num_examples)[:, np.newaxis]] = 0
    match kind:
        case "images":
            return numbers.normal(size=(num_examples, 8, 8, 3)).astype("float32") + labels[
                :, None, None, None
            ], labels
        case "sequences":
            return ids, ids % 3
        case "ids":
            return ids, ids[:, 0] % 3
        case "weighted":
            return table, labels, numbers.random(num_examples).astype("float32")
        case "structures":
            return {"ids": ids, "table": table}, {"kind": labels, "amount": table[:, :1].copy()}
        case _:
            return table, labels


def source(kind: str, num_examples: int, seed: int) -> Any:
    parts = examples(kind, num_examples, seed)
    if kind != "structures":
        return ArraySource(*parts)
    sys.path.insert(0, str(Path(__file__).parent))
    from parity_sources import StructuredSource

    return StructuredSource(*parts)


def with_fixed_weights(model: keras.Model) -> keras.Model:
    """Gives a model weights that are the same on both engines, whose initialisers draw others from the same seed."""
    numbers = np.random.default_rng(3)
    for weight in model.weights:
        is_scale = any(name in weight.path for name in ("gamma", "variance"))
        values = numbers.normal(0, 0.3, weight.shape)
        weight.assign(np.ones(weight.shape, "float32") if is_scale else values.astype("float32"))
    return model


class Recorder(keras.callbacks.Callback):
    """Keeps the size of the weights that callbacks find in the model at the logging points."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.sizes.append(float(np.abs(np.asarray(self.model.trainable_variables[-1])).sum()))


def trained(name: str, folder: Path, placement: Any) -> dict[str, Any]:
    make, kind, changes = CASES[name]
    mapping = {"name": name, "engine": ENGINE, "training.epochs": EPOCHS, "training.global_batch_size": BATCH}
    mapping |= {"data.remainder": "partial", "logging.every_steps": 1, "topology.devices": "cpu"}
    settings, input_section = settings_from_mapping(mapping | changes)
    if settings.topology.model_parallel > 1:
        placement = split(placement, settings)
    directory = RunDirectory(folder / "runs" / str(sys.argv[3]) / name)
    directory.create()
    data = TrainingData(source(kind, NUM_EXAMPLES, 0), source(kind, 29, 1), input_section)
    recorder, writer = Recorder(), JsonLinesWriter(directory.metrics_path)
    with Progress(sys.stderr, quiet=True) as progress:
        result = session.train(
            settings,
            lambda: with_fixed_weights(make()),
            data,
            placement=placement,
            run=directory,
            saved=None,
            progress=progress,
            writer=writer,
            resume_command="",
            callbacks=[recorder],
        )
    writer.close()
    rows = directory.read_metrics()
    batch = {"global_batch_size": BATCH}
    evaluation = compute_metrics(result, data.validation, **batch)
    outputs = keras.tree.flatten(predict(result, data.validation, **batch)) if name in PREDICTED else []
    arrays = {f"output/{index}": np.asarray(output) for index, output in enumerate(outputs)}
    arrays |= {f"evaluate/{key}": np.array([value]) for key, value in evaluation.items()}
    for row_kind in ("train", "epoch"):
        chosen = [row["metrics"] for row in rows if row["kind"] == row_kind]
        arrays |= {f"{row_kind}/{key}": np.array([row[key] for row in chosen]) for key in chosen[0]}
    weights = placement.engine(result.model).capture_weights()
    return arrays | weights | {"callback/size": np.array(recorder.sizes)} | shards(result.model)


def shards(model: keras.Model) -> dict[str, Any]:
    """Returns how many of the weights, and of the optimizer's variables, lie on more than one device in parts."""
    if ENGINE == "tensorflow":
        return {}
    groups = {"weights": model.weights, "optimizer": model.optimizer.variables}
    return {
        f"split/{name}": np.array(sum(not v.value.is_fully_replicated for v in group))
        for name, group in groups.items()
    }


def split(placement: Any, settings: Any) -> Any:
    """Returns the same processes arranged around one model."""
    import jax

    from distkeras.training.jax.layout import deal_out, make_distribution

    section, group = settings.topology, placement.group
    return replace(
        placement,
        topology=deal_out(group.world_size, group.rank, 1, section.model_parallel),
        distribution=make_distribution(jax.devices(), section.model_parallel, section.layout),
        section=section,
    )


def main(folder: Path, rank: int, addresses: str, names: list[str]) -> None:
    worker = Worker(tuple(addresses.split(",")), rank, 1) if addresses else None
    base = {"name": "place", "engine": ENGINE, "training.global_batch_size": BATCH, "topology.devices": "cpu"}
    placement = session.place(settings_from_mapping(base | {"topology.timeout_seconds": 60.0})[0], worker)
    for name in names:
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        try:
            arrays = trained(name, folder, placement)
            if rank == 0:
                np.savez(folder / f"{name}.part.npz", **arrays)
                (folder / f"{name}.part.npz").rename(folder / f"{name}.npz")
        except BaseException:
            (folder / f"{name}.error").write_text(traceback.format_exc())
            raise


if __name__ == "__main__":
    main(Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:])
