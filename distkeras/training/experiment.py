"""Everything a config describes, opened: data, task, and the function that builds the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import keras
import numpy as np

from distkeras.config.sections import Config
from distkeras.data.bad_data import check_class_labels
from distkeras.data.pipeline import evaluation_dataset, input_shape, needs_tensorflow
from distkeras.data.sources.base import Source
from distkeras.data.splits import Splits, open_splits
from distkeras.errors import ConfigError
from distkeras.models.builders import build_network
from distkeras.tasks import Task, make_task
from distkeras.topology import Topology
from distkeras.training.compiling import compile_model
from distkeras.training.feeding import TrainingData

ADAPT_BATCH_SIZE = 1024


@dataclass(frozen=True)
class Experiment:
    """The parts of a run, as the config names them.

    Attributes:
        config: The config.
        splits: Training, validation and test data.
        task: What the model is for.
        moments: Mean and variance of each training feature, shape (num_features,); None unless data.normalize
            is `standard`.
    """

    config: Config
    splits: Splits
    task: Task
    moments: tuple[np.ndarray, np.ndarray] | None

    @property
    def data(self) -> TrainingData:
        """What the model is trained on."""
        return TrainingData(self.splits.train, self.splits.validation, self.config.data)

    def build_model(self) -> keras.Model:
        """Returns a new compiled model; call it under the strategy and the precision it is trained with."""
        config = self.config
        shape = input_shape(self.splits.train, config.data.image)
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
                is_float = keras.backend.is_float_dtype(inputs.dtype) or ":" in self.config.model.builder
                return inputs if is_float else keras.ops.cast(inputs, "float32")


def open_experiment(config: Config) -> Experiment:
    """Opens the data of a config and checks it against the task, before anything is built.

    Raises:
        DataError: If data is missing, unreadable or not what the task needs.
    """
    splits = open_splits(config.data)
    task = make_task(config.task, splits.train.labels(), splits.train.class_names, splits.train.name)
    for source in (splits.train, splits.validation, splits.test):
        if source is not None and task.is_classification:
            check_class_labels(source, task.num_outputs)
    moments = _moments(splits.train, config) if config.data.normalize == "standard" else None
    return Experiment(config, splits, task, moments)


def _moments(source: Source, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and variance over everything but the last axis, float32, shape (num_features,).

    Sums are shifted by the first batch's mean: without it the variance of large, close numbers is rounding error.
    """
    rows = _rows(source, config)
    first = next(rows)
    shift = first.mean(axis=0)
    count, total, squares = 0, np.zeros_like(shift), np.zeros_like(shift)
    for block in chain([first], rows):
        count += len(block)
        total += (block - shift).sum(axis=0)
        squares += ((block - shift) ** 2).sum(axis=0)
    mean = total / count
    return (mean + shift).astype(np.float32), np.maximum(squares / count - mean**2, 0).astype(np.float32)


def _rows(source: Source, config: Config) -> Iterator[np.ndarray]:
    for features in _features(source, config):
        yield features.reshape(-1, features.shape[-1]).astype(np.float64)


def _features(source: Source, config: Config) -> Iterator[np.ndarray]:
    if needs_tensorflow(source, config.data.image, training=False):
        batches = evaluation_dataset(
            source, Topology(), global_batch_size=ADAPT_BATCH_SIZE, image=config.data.image
        )
        yield from (features for features, *_ in batches.as_numpy_iterator())
        return
    for start in range(0, source.num_examples, ADAPT_BATCH_SIZE):
        yield source.read_arrays(np.arange(start, min(start + ADAPT_BATCH_SIZE, source.num_examples)))[0]
