"""Everything a config describes, opened: data, task, and the function that builds the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import keras
import numpy as np

from distkeras.config.sections import Config
from distkeras.data.bad_data import check_class_labels
from distkeras.data.pipeline import evaluation_dataset
from distkeras.data.preparation import Preparation, State, mixes_labels, prepare, with_mixable_labels
from distkeras.data.sources.base import Source
from distkeras.data.splits import Splits, open_splits
from distkeras.errors import ConfigError
from distkeras.models.builders import build_network
from distkeras.tasks import Task, make_task
from distkeras.topology import Topology
from distkeras.training.compiling import compile_model
from distkeras.training.feeding import TrainingData

ADAPT_BATCH_SIZE = 1024
# Its name in the saved state.
_MOMENTS = "normalize"


@dataclass(frozen=True)
class Experiment:
    """The parts of a run, as the config names them.

    Attributes:
        config: The config.
        splits: Training, validation and test data, as the model sees them.
        task: What the model is for.
        preparation: What makes new data like them.
        moments: Mean and variance of each training feature, shape (num_features,); None unless data.normalize
            is `standard`.
    """

    config: Config
    splits: Splits
    task: Task
    preparation: Preparation
    moments: tuple[np.ndarray, np.ndarray] | None

    @property
    def data(self) -> TrainingData:
        """What the model is trained on."""
        changes = self.preparation.changes()
        return TrainingData(self.splits.train, self.splits.validation, self.config.data, changes)

    def state(self) -> dict[str, Any]:
        """Returns what was learnt of the training part, as JSON values: it is kept with the run."""
        state = self.preparation.state()
        if self.moments is not None:
            mean, variance = self.moments
            state[_MOMENTS] = {"mean": mean.tolist(), "variance": variance.tolist()}
        return state

    def build_model(self) -> keras.Model:
        """Returns a new compiled model; call it under the strategy and the precision it is trained with."""
        config = self.config
        shape: Any = self.splits.train.feature_shape
        if self.task.needs_images and len(shape) != 3:
            raise ConfigError(
                "This task needs images of shape (height, width, channels).",
                place="task.kind",
                received=shape,
                remedy="use task.kind: tabular_classification, or store the images with their channels",
            )
        inputs = keras.Input(shape, dtype=self.splits.train.feature_dtype, name="features")
        model = build_network(
            config.model,
            inputs=inputs,
            preprocessed=self._normalized(inputs),
            num_outputs=self.task.num_outputs,
            activation=self.task.activation,
        )
        if tuple(model.output_shape) != (None, self.task.num_outputs):
            raise ConfigError(
                "The model's output does not fit the task.",
                place="model.builder",
                received=f"{config.model.builder}: output shape {model.output_shape}",
                remedy=f"end it in Dense({self.task.num_outputs}): one output for each class, or one number",
            )
        compile_model(
            model,
            config.training,
            loss=self.task.loss,
            metrics=self.task.metrics,
            jit_compile=config.training.jit_compile is True or config.engine == "jax",
        )
        return model

    def facts(self) -> dict[str, Any]:
        """Returns what the run's manifest says of the data."""
        parts = {"train": self.splits.train, "validation": self.splits.validation, "test": self.splits.test}
        counts = {name: source.num_examples for name, source in parts.items() if source is not None}
        return {
            "data": {
                "fingerprint": self.splits.train.fingerprint,
                "num_examples": sum(counts.values()),
                "class_names": list(self.task.class_names),
                **counts,
            }
        }

    def _normalized(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        match self.config.data.normalize:
            case "unit":
                return keras.layers.Rescaling(1 / 255)(inputs)
            case "signed":
                return keras.layers.Rescaling(2 / 255, offset=-1.0)(inputs)
            case "standard" if self.moments is not None:
                mean, variance = self.moments
                return keras.layers.Normalization(mean=mean, variance=variance)(inputs)
            case _:
                # Token ids stay whole numbers: an embedding looks them up.
                is_left = self.preparation.makes_tokens or ":" in self.config.model.builder
                is_float = keras.backend.is_float_dtype(inputs.dtype)
                return inputs if is_float or is_left else keras.ops.cast(inputs, "float32")


def open_experiment(config: Config, state: State | None = None) -> Experiment:
    """Opens the data of a config and checks it against the task, before anything is built.

    Args:
        config: The config.
        state: What an earlier attempt learnt of the data, `Experiment.state`; None: learn it now.

    Raises:
        DataError: If data is missing, unreadable or not what the task needs.
        ConfigError: If what happens to the data does not fit it.
    """
    splits = open_splits(config.data)
    task = make_task(config.task, splits.train.labels(), splits.train.class_names, splits.train.name)
    for source in (splits.train, splits.validation, splits.test):
        if source is not None and task.is_classification:
            check_class_labels(source, task.num_outputs)
    preparation = prepare(config.data, splits.train, state)
    image, num_outputs = config.data.image, task.num_outputs
    if mixes_labels(image):
        task = replace(task, loss="categorical_crossentropy")

    def finished(source: Source | None) -> Source | None:
        return source and with_mixable_labels(preparation.apply(source), image, num_outputs)

    train = with_mixable_labels(preparation.apply_to_training(splits.train), image, num_outputs)
    prepared = Splits(train, finished(splits.validation), finished(splits.test))
    moments = _moments(train, state) if config.data.normalize == "standard" else None
    return Experiment(config, prepared, task, preparation, moments)


def _moments(source: Source, state: State | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and variance over everything but the last axis, float32, shape (num_features,).

    Sums are shifted by the first batch's mean: without it the variance of large, close numbers is rounding error.
    """
    if state is not None and _MOMENTS in state:
        mean, variance = (np.array(state[_MOMENTS][name], np.float32) for name in ("mean", "variance"))
        return mean, variance
    rows = _rows(source)
    first = next(rows)
    shift = first.mean(axis=0)
    count, total, squares = 0, np.zeros_like(shift), np.zeros_like(shift)
    for block in chain([first], rows):
        count += len(block)
        total += (block - shift).sum(axis=0)
        squares += ((block - shift) ** 2).sum(axis=0)
    mean = total / count
    return (mean + shift).astype(np.float32), np.maximum(squares / count - mean**2, 0).astype(np.float32)


def _rows(source: Source) -> Iterator[np.ndarray]:
    for features in _features(source):
        yield features.reshape(-1, features.shape[-1]).astype(np.float64)


def _features(source: Source) -> Iterator[np.ndarray]:
    if source.needs_tensorflow:
        batches = evaluation_dataset(source, Topology(), global_batch_size=ADAPT_BATCH_SIZE)
        yield from (features for features, *_ in batches.as_numpy_iterator())
        return
    for start in range(0, source.num_examples, ADAPT_BATCH_SIZE):
        yield source.read_arrays(np.arange(start, min(start + ADAPT_BATCH_SIZE, source.num_examples)))[0]
