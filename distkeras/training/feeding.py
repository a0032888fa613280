"""What the loop is fed with: the data of a run, its plan, and its batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from distkeras.config.sections import InputSection, RunSettings
from distkeras.data.batches import BatchPlan
from distkeras.data.lazy_tensorflow import tf
from distkeras.data.pipeline import training_dataset
from distkeras.data.sources.base import Source
from distkeras.errors import DataError
from distkeras.topology import Topology


@dataclass(frozen=True)
class TrainingData:
    """What a model is trained on.

    Attributes:
        train: The training examples.
        validation: Examples that are evaluated after each epoch, or None.
        input: How examples become batches.
    """

    train: Source
    validation: Source | None = None
    input: InputSection = field(default_factory=InputSection)

    def facts(self) -> dict[str, Any]:
        """Returns what the run's manifest says of the data."""
        sources = {"train": self.train, "validation": self.validation}
        counts = {name: source.num_examples for name, source in sources.items() if source is not None}
        return {"fingerprint": self.train.fingerprint, "num_examples": sum(counts.values()), **counts}


def batch_plan(settings: RunSettings, data: TrainingData) -> BatchPlan:
    """Returns how an epoch of the training data is cut into steps."""
    return BatchPlan(data.train.num_examples, settings.training.global_batch_size, data.input.remainder)


def training_batches(
    settings: RunSettings, data: TrainingData, plan: BatchPlan, topology: Topology, start_step: int
) -> tf.data.Dataset:
    """Returns this worker's training batches from a step on, without end, with class weights as sample weights."""
    batches = training_dataset(
        data.train,
        plan,
        topology,
        seed=settings.seed,
        shuffle=data.input.shuffle,
        start_step=start_step,
        image=data.input.image,
    )
    weights = settings.training.class_weight
    return batches if weights is None else batches.map(partial(_with_class_weight, weights))


def _with_class_weight(weights: Mapping[int, float], features: Any, label: Any, *sample_weight: Any) -> Any:
    """Multiplies each example's weight by its class's; classes that are not named have weight 1, as in Keras."""
    table = tf.ones(max(weights) + 1)
    table = tf.tensor_scatter_nd_update(table, [[index] for index in weights], list(weights.values()))
    is_one_hot = label.shape.rank == 2 and label.shape[1] > 1
    index = tf.argmax(label, axis=1) if is_one_hot else tf.cast(tf.reshape(label, [-1]), tf.int64)
    weight = tf.where(index <= max(weights), tf.gather(table, tf.minimum(index, max(weights))), 1.0)
    return features, label, weight * sample_weight[0] if sample_weight else weight


def require_same_kind(data: TrainingData, kind_of: Callable[[Source, InputSection], Any]) -> None:
    """Validation examples of another shape would be found out after a whole epoch.

    Args:
        data: Training and validation examples.
        kind_of: Returns type and shape of one example's features and label.

    Raises:
        DataError: If they differ.
    """
    if data.validation is None:
        return
    train, validation = kind_of(data.train, data.input), kind_of(data.validation, data.input)
    if train != validation:
        raise DataError(
            "The validation examples are of another shape or type than the training examples.",
            place=data.validation.name,
            received=validation,
            remedy=f"make them as those of {data.train.name}: {train}",
        )
