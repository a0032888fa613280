"""What the loop is fed with: the data of a run, its plan, and its batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from distkeras.config.sections import InputSection, RunSettings
from distkeras.data.batches import BatchPlan
from distkeras.data.changes import RandomChanges
from distkeras.data.lazy_tensorflow import tf
from distkeras.data.order import Order
from distkeras.data.pipeline import training_dataset
from distkeras.data.sources.base import Source
from distkeras.data.streaming import stream_order
from distkeras.data.training_order import training_order
from distkeras.errors import ConfigError, DataError
from distkeras.topology import Topology


@dataclass(frozen=True)
class TrainingData:
    """What a model is trained on.

    Attributes:
        train: The training examples, as the model sees them.
        validation: Examples that are evaluated after each epoch, or None; likewise.
        input: How examples become batches.
        changes: Random changes to the training examples.
    """

    train: Source
    validation: Source | None = None
    input: InputSection = field(default_factory=InputSection)
    changes: RandomChanges = field(default_factory=RandomChanges)

    def facts(self) -> dict[str, Any]:
        """Returns what the run's manifest says of the data."""
        if self.train.is_stream:
            return {"fingerprint": self.train.fingerprint}
        sources = {"train": self.train, "validation": self.validation}
        counts = {name: source.num_examples for name, source in sources.items() if source is not None}
        return {"fingerprint": self.train.fingerprint, "num_examples": sum(counts.values()), **counts}


def batch_plan(settings: RunSettings, data: TrainingData) -> BatchPlan:
    """Returns how an epoch of the training data is cut into steps."""
    order = order_of(settings, data)
    return BatchPlan(order.num_examples, settings.training.global_batch_size, data.input.remainder)


def order_of(settings: RunSettings, data: TrainingData) -> Order:
    """Returns which training example stands where in which epoch.

    Raises:
        ConfigError: If `training.num_steps` is missing for a stream, or given for examples that have a number.
    """
    if data.train.is_stream:
        return stream_order(settings.training)
    if settings.training.num_steps is not None:
        raise ConfigError(
            "Only a stream is trained on for a number of steps; an epoch of these examples is one pass over them.",
            place="training.num_steps",
            received=settings.training.num_steps,
            remedy="leave it out, and say with training.epochs how long to train",
        )
    return training_order(data.train, data.input, settings.seed)


def training_batches(
    settings: RunSettings, data: TrainingData, plan: BatchPlan, topology: Topology, start_step: int
) -> tf.data.Dataset:
    """Returns this worker's training batches from a step on, without end, with class weights as sample weights."""
    calls = data.input.num_parallel_calls
    batches = training_dataset(
        data.train,
        plan,
        order_of(settings, data),
        topology,
        seed=settings.seed,
        start_step=start_step,
        end_step=settings.training.num_steps,
        changes=data.changes,
        num_parallel_calls=None if calls == "auto" else calls,
        ram_budget_bytes=data.input.ram_budget_bytes,
    )
    weights = settings.training.class_weight
    return (
        batches
        if weights is None
        else batches.map(partial(_with_class_weight, weights, data.changes.on_device))
    )


def _with_class_weight(
    weights: Mapping[int, float], has_draws: bool, features: Any, label: Any, *rest: Any
) -> Any:
    """Multiplies each example's weight by its class's; classes that are not named have weight 1, as in Keras."""
    sample_weight, draws = (rest[:-1], rest[-1:]) if has_draws else (rest, ())
    is_one_hot = label.shape.rank == 2 and label.shape[1] > 1
    num_classes = label.shape[1] if is_one_hot else max(weights) + 1
    table = tf.constant([weights.get(index, 1.0) for index in range(num_classes)])
    if is_one_hot:  # or mixed: each class's weight by its share
        weight = tf.linalg.matvec(tf.cast(label, table.dtype), table)
    else:
        index = tf.cast(tf.reshape(label, [-1]), tf.int64)
        weight = tf.where(index < num_classes, tf.gather(table, tf.minimum(index, num_classes - 1)), 1.0)
    return features, label, weight * sample_weight[0] if sample_weight else weight, *draws


def require_same_kind(data: TrainingData, kind_of: Callable[[Source], Any]) -> None:
    """Validation examples of another shape would be found out after a whole epoch.

    Args:
        data: Training and validation examples.
        kind_of: Returns type and shape of one example's features and label.

    Raises:
        DataError: If they differ.
    """
    if data.validation is None:
        return
    train, validation = kind_of(data.train), kind_of(data.validation)
    if train != validation:
        raise DataError(
            "The validation examples are of another shape or type than the training examples.",
            place=data.validation.name,
            received=validation,
            remedy=f"make them as those of {data.train.name}: {train}",
        )
