"""What the loop is fed with: the data of a run, its plan, and its batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import tensorflow as tf

from distkeras.config.sections import InputSection, RunSettings
from distkeras.data.batches import BatchPlan
from distkeras.data.pipeline import evaluation_dataset, training_dataset
from distkeras.data.sources.base import Source
from distkeras.errors import DataError
from distkeras.topology import Topology
from distkeras.training.loop import Validation


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


def validation_batches(settings: RunSettings, data: TrainingData, topology: Topology) -> Validation | None:
    """Returns the validation batches of a run, or None."""
    if data.validation is None:
        return None
    return evaluation_batches(data.validation, settings.training.global_batch_size, data.input, topology)


def evaluation_batches(
    source: Source, global_batch_size: int, input: InputSection, topology: Topology
) -> Validation:
    """Returns a source's batches for `evaluate` and `predict`: in order, each example exactly once a pass."""
    batches = evaluation_dataset(source, topology, global_batch_size=global_batch_size, image=input.image)
    num_steps = int(batches.cardinality()) // topology.num_local_replicas
    return Validation(batches.repeat(), num_steps)


def require_same_kind(data: TrainingData) -> None:
    """Validation examples of another shape would be found out after a whole epoch."""
    if data.validation is None:
        return
    train, validation = _kind(data.train, data.input), _kind(data.validation, data.input)
    if train != validation:
        raise DataError(
            "The validation examples are of another shape or type than the training examples.",
            place=data.validation.name,
            received=validation,
            remedy=f"make them as those of {data.train.name}: {train}",
        )


def _kind(source: Source, input: InputSection) -> Any:
    spec: Any = evaluation_dataset(source, Topology(), global_batch_size=1, image=input.image).element_spec
    return tf.nest.map_structure(lambda leaf: (leaf.dtype.name, *leaf.shape[1:]), spec[:2])
