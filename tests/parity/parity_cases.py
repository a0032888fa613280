"""What the parity ladder compares: models, data and settings by name. No TensorFlow here: pytest collects this file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SEED = 7
NUM_VALIDATION = 29  # four steps, the last with 5 examples: an uneven part for each of 2 and 4 replicas

EVERYWHERE = ("replicas-1", "replicas-2", "replicas-4", "scale-2", "workers-2")
TRAINER = ("replicas-1", "replicas-2", "replicas-4", "workers-2")
ALONE_AND_TWO = ("replicas-1", "replicas-2", "workers-2")
ALONE = ("replicas-1",)
TWO = ("replicas-2", "workers-2")
WORKERS = ("workers-2",)
COMPILED = {"training.jit_compile": True, "data.remainder": "drop"}
MEET_EVERY_STEP = {
    "topology.reduction": {"every_steps": 1, "learning_rate": 1.0, "momentum": 0.0},
    "data.remainder": "drop",
}


@dataclass(frozen=True)
class Case:
    """One model trained on one set of examples.

    Attributes:
        name: What a failing test is called by.
        model: Name of the builder in parity_models.py.
        data: Name of the function below that makes the examples.
        rungs: Where it must give plain Keras's numbers.
        num_examples: Of an epoch. 141 leaves 5 for the last of 18 steps; 137 leaves 1, fewer than any replicas.
        epochs: Passes over the examples; 3 make 54 steps.
        settings: Keys of `dk.Trainer` beside the ladder's own.
        arguments: Of the builder.
        evaluated: Whether validation during fit, evaluate and predict are compared too.
        loss_tolerance: Relative, for losses and metrics.
        weight_tolerance: For the final weights and predictions, relative to the largest number in a tensor.
    """

    name: str
    model: str
    data: str = "table"
    rungs: tuple[str, ...] = TWO
    num_examples: int = 141
    epochs: int = 3
    global_batch_size: int = 8
    settings: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    evaluated: bool = True
    loss_tolerance: float = 1e-5
    weight_tolerance: float = 1e-4

    @property
    def remainder(self) -> str:
        return self.settings.get("data.remainder", "partial")

    @property
    def precision(self) -> str:
        return self.settings.get("training.precision", "float32")

    @property
    def class_weight(self) -> dict[int, float] | None:
        return self.settings.get("training.class_weight")

    def trainer_settings(self) -> dict[str, Any]:
        ours = {
            "topology.devices": "cpu",
            "data.remainder": "partial",
            "logging.every_steps": 1,
            "logging.tensorboard": False,
            "checkpoint.every_epochs": 100,
        }
        return ours | dict(self.settings)

    def examples(self, split: str) -> tuple[Any, ...]:
        """Returns (features, labels[, sample_weights]) of `train` or `validation`."""
        count = self.num_examples if split == "train" else NUM_VALIDATION
        rng = np.random.default_rng([len(split), *self.data.encode()])
        return globals()[self.data](rng, count)


def _classes(features: np.ndarray) -> np.ndarray:
    """Labels that can be learned: which third of the features is the largest."""
    flat = features.reshape(len(features), -1)
    return flat[:, : flat.shape[1] // 3 * 3].reshape(len(flat), 3, -1).sum(axis=2).argmax(axis=1)


def table(rng: np.random.Generator, count: int) -> tuple[Any, ...]:
    features = rng.normal(size=(count, 12)).astype(np.float32)
    return features, _classes(features)


def binary(rng: np.random.Generator, count: int) -> tuple[Any, ...]:
    features = rng.normal(size=(count, 12)).astype(np.float32)
    noisy = features[:, :6].sum(axis=1) + rng.normal(size=count)
    return features, (noisy > 0).astype(np.float32)[:, None]


def weighted(rng: np.random.Generator, count: int) -> tuple[Any, ...]:
    return *table(rng, count), rng.uniform(0, 3, count).astype(np.float32)


def tokens(rng: np.random.Generator, count: int) -> tuple[Any, ...]:
    """Sequences of 1 to 7 tokens, filled up with 0; a class for each sequence."""
    ids = rng.integers(1, 20, (count, 7))
    ids[np.arange(7) >= rng.integers(1, 8, (count, 1))] = 0
    return ids, ids.sum(axis=1) % 3


def tagged_tokens(rng: np.random.Generator, count: int) -> tuple[Any, ...]:
    """The same sequences with a class for each token."""
    ids, _ = tokens(rng, count)
    return ids, ids % 3


def weighted_tokens(rng: np.random.Generator, count: int) -> tuple[Any, ...]:
    """A weight for each token."""
    return *tagged_tokens(rng, count), rng.uniform(0, 3, (count, 7)).astype(np.float32)


def pictures(rng: np.random.Generator, count: int) -> tuple[Any, ...]:
    images = rng.integers(0, 256, (count, 6, 6, 1)).astype(np.uint8)
    return images, _classes(images)


def two_inputs(rng: np.random.Generator, count: int) -> tuple[Any, ...]:
    ids, _ = tokens(rng, count)
    features, label = table(rng, count)
    return {"ids": ids, "table": features}, label


def two_labels(rng: np.random.Generator, count: int) -> tuple[Any, ...]:
    features, label = two_inputs(rng, count)
    amount = features["table"].sum(axis=1, keepdims=True) + features["ids"].mean(axis=1, keepdims=True) / 10
    return features, {"kind": label, "amount": amount.astype(np.float32)}


def _optimizer(name: str, **arguments: Any) -> dict[str, Any]:
    return {"optimizer": name, **arguments}


SGD = _optimizer("SGD", learning_rate=0.05, momentum=0.9)
PLAIN_SGD = _optimizer("SGD", learning_rate=0.05)
AVERAGED_SGD = SGD | {"use_ema": True, "ema_momentum": 0.8}
EVERYTHING = _optimizer(
    "AdamW",
    learning_rate=0.02,
    weight_decay=0.05,
    global_clipnorm=0.1,
    gradient_accumulation_steps=3,
    use_ema=True,
    ema_momentum=0.8,
    ema_overwrite_frequency=6,
)

SYNCHRONIZED = {"topology.sync_batch_norm": True}
CLASS_WEIGHT = {"training.class_weight": {0: 3.0, 2: 0.5}}
BFLOAT16 = {"training.precision": "mixed_bfloat16"}
FLOAT16 = {"training.precision": "mixed_float16"}

# How an epoch ends.
ENDS = [
    Case("uneven_last_batch", "mlp", rungs=EVERYWHERE, arguments=SGD),
    Case("one_left_in_last_batch", "mlp", rungs=EVERYWHERE, num_examples=137, arguments=SGD),
    Case(
        "remainder_drop",
        "mlp",
        rungs=ALONE_AND_TWO,
        settings={"data.remainder": "drop"},
        arguments=SGD,
        evaluated=False,
    ),
    Case(
        "remainder_wrap",
        "mlp",
        rungs=ALONE_AND_TWO,
        settings={"data.remainder": "wrap"},
        arguments=SGD,
        evaluated=False,
    ),
]

LAYERS = [
    Case("batch_norm", "batch_norm", rungs=ALONE),
    Case("sync_batch_norm", "batch_norm", rungs=TRAINER, settings=SYNCHRONIZED),
    Case("sync_batch_norm_one_left", "batch_norm", num_examples=137, settings=SYNCHRONIZED, evaluated=False),
    Case("dropout", "dropout", rungs=ALONE),
    Case("embedding", "embedding", "tokens", TRAINER, arguments=SGD),
    Case(
        "embedding_one_left",
        "embedding",
        "tokens",
        num_examples=137,
        arguments=_optimizer("Adam"),
        evaluated=False,
    ),
    Case("masked_tokens", "tagger", "tagged_tokens", EVERYWHERE),
    Case("masked_tokens_one_left", "tagger", "tagged_tokens", num_examples=137, evaluated=False),
    Case("masked_tokens_weighted", "tagger", "weighted_tokens", evaluated=False),
    Case("masked_sequence_class", "sequence_classifier", "tokens", evaluated=False),
    Case("gru_and_simple_rnn", "recurrent", "tokens", evaluated=False),
    Case("convolution_uint8", "convolution", "pictures", ALONE_AND_TWO, evaluated=False),
    Case("dict_inputs", "dict_inputs", "two_inputs", evaluated=False),
    Case("dict_outputs_loss_weights", "dict_outputs", "two_labels", EVERYWHERE),
    Case("lazy_subclass", "lazy_subclass", rungs=("replicas-1", "replicas-2", "scale-2")),
    Case("frozen_layers", "frozen_layers", evaluated=False),
]

LOSSES_AND_METRICS = [
    Case("sample_weights", "mlp", "weighted", EVERYWHERE, arguments=SGD),
    Case("class_weights", "mlp", rungs=ALONE_AND_TWO, settings=CLASS_WEIGHT, arguments=SGD, evaluated=False),
    Case("loss_sum", "reduced_loss", arguments={"reduction": "sum"}),
    Case("loss_sum_weighted", "reduced_loss", "weighted", arguments={"reduction": "sum"}, evaluated=False),
    Case(
        "loss_mean_with_sample_weight",
        "reduced_loss",
        "weighted",
        arguments={"reduction": "mean_with_sample_weight"},
        evaluated=False,
    ),
    Case("masked_loss_sum", "tagger", "tagged_tokens", arguments={"reduction": "sum"}, evaluated=False),
    Case(
        "masked_loss_mean_with_sample_weight",
        "tagger",
        "weighted_tokens",
        arguments={"reduction": "mean_with_sample_weight"},
        evaluated=False,
    ),
    Case("binary_metrics", "binary_metrics", "binary", ALONE_AND_TWO, 137),
    Case("regression_metrics", "regression_metrics", "binary"),
    Case("scalar_metric_function", "scalar_metric"),
    Case("regularizers", "regularizers", evaluated=False),
    Case("add_loss", "add_loss", num_examples=137),
]

OPTIMIZERS = [
    Case("clipnorm", "mlp", arguments=SGD | {"clipnorm": 0.05}, evaluated=False),
    Case("global_clipnorm", "mlp", rungs=TRAINER, arguments=SGD | {"global_clipnorm": 0.1}, evaluated=False),
    Case("clipvalue", "mlp", arguments=SGD | {"clipvalue": 0.01}, evaluated=False),
    # 55 steps: the last window of 2 or 3 is incomplete.
    Case(
        "accumulation_2",
        "mlp",
        rungs=EVERYWHERE,
        num_examples=85,
        epochs=5,
        arguments=SGD | {"gradient_accumulation_steps": 2},
        evaluated=False,
    ),
    Case(
        "accumulation_3",
        "mlp",
        num_examples=85,
        epochs=5,
        arguments=_optimizer("Adam", learning_rate=0.02, gradient_accumulation_steps=3),
        evaluated=False,
    ),
    Case(
        "accumulated_embedding",
        "embedding",
        "tokens",
        num_examples=85,
        epochs=5,
        arguments=SGD | {"gradient_accumulation_steps": 2},
        evaluated=False,
    ),
    Case(
        "moving_average",
        "mlp",
        arguments=AVERAGED_SGD | {"ema_overwrite_frequency": 10},
        evaluated=False,
    ),
    Case("moving_average_at_end", "mlp", arguments=AVERAGED_SGD),
    Case(
        "adamw", "mlp", arguments=_optimizer("AdamW", learning_rate=0.01, weight_decay=0.1), evaluated=False
    ),
    Case("lion", "mlp", arguments=_optimizer("Lion", learning_rate=0.003, weight_decay=0.1), evaluated=False),
    Case("nesterov", "mlp", arguments=SGD | {"nesterov": True}, evaluated=False),
    Case("cosine_decay", "cosine_decay", evaluated=False),
    Case("all_at_once", "mlp", rungs=TRAINER, num_examples=137, arguments=EVERYTHING, evaluated=False),
]

KERAS_ITSELF = [
    Case("callbacks", "mlp_with_callbacks", rungs=("replicas-1", "replicas-2", "scale-2"), epochs=8),
    Case("gan", "gan", rungs=EVERYWHERE),
    Case("vae", "vae", rungs=ALONE_AND_TWO, num_examples=137, evaluated=False),
    Case(
        "bfloat16_reduction",
        "mlp",
        rungs=WORKERS,
        settings={"topology.reduction": "bfloat16"},
        arguments=SGD,
        loss_tolerance=2e-3,
        weight_tolerance=4e-2,
    ),
    # Workers that meet after every step, and take over the mean of their weights, train the global batch.
    Case("outer_steps_every_step", "mlp", rungs=WORKERS, settings=MEET_EVERY_STEP, arguments=SGD),
    Case("compiled", "mlp", rungs=WORKERS, settings=COMPILED, arguments=SGD | {"global_clipnorm": 0.1}),
    Case(
        "compiled_uneven", "convolution", "pictures", rungs=WORKERS, settings={"training.jit_compile": True}
    ),
    Case("run_eagerly", "eager", num_examples=29, epochs=2),
]

# float16 keeps 11 bits of a number, a step of 2^-11 = 0.05%, and bfloat16 8 bits, a step of 2^-8 = 0.4%. Sums over
# a batch are taken in another order on other numbers of replicas, so single activations and gradients differ by
# such a step. Over 54 steps it becomes a few steps in the weights, and less in a loss, which is a mean of many.
PRECISIONS = [
    Case(
        "bfloat16",
        "mlp",
        rungs=ALONE_AND_TWO,
        settings=BFLOAT16,
        arguments=SGD,
        evaluated=False,
        loss_tolerance=1e-2,
        weight_tolerance=3e-2,
    ),
    Case(
        "float16",
        "mlp",
        rungs=TRAINER,
        settings=FLOAT16,
        arguments=PLAIN_SGD,
        evaluated=False,
        loss_tolerance=2e-3,
        weight_tolerance=5e-3,
    ),
    Case(
        "float16_accumulation",
        "mlp",
        num_examples=85,
        epochs=5,
        settings=FLOAT16,
        arguments=PLAIN_SGD | {"global_clipnorm": 0.1, "gradient_accumulation_steps": 2},
        evaluated=False,
        loss_tolerance=2e-3,
        weight_tolerance=5e-3,
    ),
]

CASES = ENDS + LAYERS + LOSSES_AND_METRICS + OPTIMIZERS + KERAS_ITSELF + PRECISIONS
BY_NAME = {case.name: case for case in CASES}
