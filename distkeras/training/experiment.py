"""Everything a config describes, opened: data, task, and the function that builds the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import Any

import keras
import numpy as np

from distkeras.config.sections import Config
from distkeras.data.bad_data import check_class_labels
from distkeras.data.cache import cached
from distkeras.data.pipeline import evaluation_dataset
from distkeras.data.preparation import Preparation, State, mixes_labels, prepare, with_mixable_labels
from distkeras.data.quarantine import Exchange, find_bad_records, without
from distkeras.data.sources.base import Source
from distkeras.data.splits import Splits, open_splits
from distkeras.errors import ConfigError
from distkeras.models.builders import build_network
from distkeras.tasks import Task, make_task
from distkeras.topology import Topology
from distkeras.training.compiling import compile_model
from distkeras.training.feeding import TrainingData

ADAPT_BATCH_SIZE = 1024
# Their names in the saved state.
_MOMENTS = "normalize"
_BAD_RECORDS = "bad_records"


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
        bad_records: What could not be read and is left out, as JSON values.
    """

    config: Config
    splits: Splits
    task: Task
    preparation: Preparation
    moments: tuple[np.ndarray, np.ndarray] | None
    bad_records: tuple[Mapping[str, Any], ...] = ()

    @property
    def data(self) -> TrainingData:
        """What the model is trained on."""
        num_classes = self.task.num_outputs if self.task.is_classification else None
        changes = self.preparation.changes(num_classes)
        return TrainingData(self.splits.train, self.splits.validation, self.config.data, changes)

    def state(self) -> dict[str, Any]:
        """Returns what was learnt of the training part, as JSON values: it is kept with the run."""
        state = self.preparation.state()
        if self.config.data.max_bad_records:
            state[_BAD_RECORDS] = list(self.bad_records)
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
        opened = {name: source for name, source in parts.items() if source is not None}
        counts = {name: source.num_examples for name, source in opened.items() if not source.is_stream}
        total = {} if self.splits.train.is_stream else {"num_examples": sum(counts.values())}
        names = list(self.task.class_names)
        return {
            "data": {
                "fingerprint": self.splits.train.fingerprint,
                **total,
                "class_names": names,
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


@dataclass(frozen=True)
class Surroundings:
    """What opening an experiment needs beside its config.

    Attributes:
        state: What an earlier attempt learnt of the data, `Experiment.state`; None: learn it now.
        say: Where a person is told what takes time.
        exchange: How workers tell each other JSON values; alone, a worker hears itself.
        topology: This worker's place among them.
    """

    state: State | None = None
    say: Callable[[str], None] = lambda text: None
    exchange: Exchange = lambda value: [value]
    topology: Topology = field(default_factory=Topology)


def open_experiment(config: Config, surroundings: Surroundings | None = None) -> Experiment:
    """Opens the data of a config and checks it against the task, before anything is built. Collective.

    Raises:
        DataError: If data is missing, unreadable or not what the task needs.
        ConfigError: If what happens to the data does not fit it.
        ResourceError: If what is to be kept of it does not fit into memory or on the disk.
    """
    around = surroundings or Surroundings()
    whole = open_splits(config.data)
    bad_records = _bad_records(config, whole, around)
    splits = without(whole, bad_records)
    task = make_task(config.task, splits.train.labels(), splits.train.class_names, splits.train.name)
    for source in (splits.train, splits.validation, splits.test):
        if source is not None and task.is_classification:
            check_class_labels(source, task.num_outputs)
    preparation = prepare(config.data, splits.train, around.state)
    if mixes_labels(config.data.image):
        task = replace(task, loss="categorical_crossentropy")

    def finished(source: Source) -> Source:
        kept = _kept(source, config, preparation, around)
        return with_mixable_labels(kept, config.data.image, task.num_outputs)

    prepared = Splits(
        finished(preparation.apply_to_training(splits.train)),
        splits.validation and finished(preparation.apply(splits.validation)),
        splits.test and finished(preparation.apply(splits.test)),
    )
    moments = _moments(prepared.train, around.state) if config.data.normalize == "standard" else None
    return Experiment(config, prepared, task, preparation, moments, bad_records)


def _bad_records(config: Config, splits: Splits, around: Surroundings) -> tuple[Mapping[str, Any], ...]:
    """What cannot be read, as JSON values; looked for only where there may be some, and once a run."""
    budget = config.data.max_bad_records
    if not budget:
        return ()
    if around.state is not None and _BAD_RECORDS in around.state:
        return tuple(around.state[_BAD_RECORDS])
    around.say("reading every example once, for data.max_bad_records")
    topology = around.topology
    records = find_bad_records(splits, budget, around.exchange, topology.rank, topology.world_size)
    for record in records:
        around.say(f"left out: {record.place}: {record.problem}")
    return tuple(asdict(record) for record in records)


def _kept(source: Source, config: Config, preparation: Preparation, around: Surroundings) -> Source:
    section = config.data.cache
    if section is None:
        return source
    size = config.data.image.size
    state = {"preprocessing": preparation.state(), "size": size and list(size)}
    return cached(source, section, config.output_dir / "cache", state, around.say)


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
