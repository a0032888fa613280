"""Level 2 of the Python interface: a model builder and data in, a run out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import keras
import numpy as np

from distkeras.config.sections import InputSection
from distkeras.config.settings import settings_from_mapping
from distkeras.data.preparation import mixes_labels, prepare, with_mixable_labels
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.sources.base import Source
from distkeras.errors import ConfigError
from distkeras.observability.run import Run
from distkeras.observability.run_directory import RunDirectory
from distkeras.runners.local import current_console, local_run
from distkeras.training.feeding import TrainingData
from distkeras.training.session import Trained

_DECIDED_BY_COMPILE = (
    "training.optimizer",
    "training.loss",
    "training.metrics",
    "training.gradient_accumulation_steps",
)

Data = Source | tuple[Any, Any] | tuple[Any, Any, Any]


class Trainer:
    """Trains a Keras model on the devices of this machine: same numbers on any number of them, exact resume.

    Running the same script again resumes the run where it was last committed. A run is its settings and its
    training data; the builder's code cannot be compared, so give a changed model another name.

    Args:
        name: The run's name; its directory is `<output_dir>/<name>`.
        epochs: Passes over the training data.
        global_batch_size: Examples of one step over all replicas.
        replicas: Copies of the model, one a device; `auto`: every GPU, or one on the CPU.
        seed: Seed of initial weights, order of examples, augmentation and dropout.
        output_dir: Where run directories are made.
        settings: Any other key of a config file's sections training, topology, checkpoint and logging, and of
            the data section's shuffle, remainder and image, by dotted name: `{"training.precision":
            "mixed_bfloat16", "data.remainder": "partial"}`.

    Raises:
        ConfigError: If a setting is wrong; the message lists all that are.
    """

    def __init__(
        self,
        name: str,
        *,
        epochs: int = 1,
        global_batch_size: int = 64,
        replicas: int | Literal["auto"] = "auto",
        seed: int = 0,
        output_dir: str | Path = "runs",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        arguments = {
            "name": name,
            "seed": seed,
            "output_dir": str(output_dir),
            "training.epochs": epochs,
            "training.global_batch_size": global_batch_size,
            "topology.replicas": replicas,
        }
        _refuse_compiled(settings or {})
        self.settings, self.input = settings_from_mapping(arguments | dict(settings or {}))
        self.trained: Trained | None = None

    def fit(
        self,
        build_model: Callable[[], keras.Model],
        train: Data,
        *,
        validation: Data | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> Run:
        """Trains the model and returns the run; the model itself is `trained.model` afterwards.

        Args:
            build_model: Returns a compiled model. It is called under the run's strategy and precision.
            train: A `Source`, or `(features, labels)` or `(features, labels, sample_weights)`; features are an
                array of shape (num_examples, ...), or a mapping or tuple of arrays.
            validation: The same, evaluated after each epoch.
            callbacks: Any Keras callbacks.

        Raises:
            DistkerasError: What went wrong, by kind.
        """
        with local_run(self.settings, self._digest(), console=current_console()) as local:
            placement = local.place()  # before the data: its first tensor would fix the devices
            data = _prepared(
                _source(train, "train"), _optional_source(validation), self.input, local.directory
            )
            self.trained = local.train(_checked(build_model), data, placement, callbacks)
            placement.give_back(self.trained.model)
            return Run(local.directory)

    def _digest(self) -> str:
        settings = self.settings.model_dump(
            mode="json", include={"engine": True, "seed": True, "deterministic": True, "training": True}
        )
        for free in ("epochs", "steps_per_execution"):
            settings["training"].pop(free)
        facts = [settings, self.input.model_dump(mode="json")]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _refuse_compiled(settings: Mapping[str, Any]) -> None:
    compiled = [key for key in settings if key.startswith(_DECIDED_BY_COMPILE)]
    if compiled:
        raise ConfigError(
            "The model's builder decides this, where it calls model.compile.",
            place=compiled[0],
            received=settings[compiled[0]],
            remedy="leave the setting out, and give it to model.compile or to the optimizer",
        )


def _prepared(
    train: Source, validation: Source | None, input: InputSection, directory: RunDirectory
) -> TrainingData:
    """Returns the data as the model sees it; what it is learnt from the training part is kept with the run."""
    preparation = prepare(input, train, directory.read_preprocessing())
    directory.write_preprocessing(preparation.state())
    num_classes = int(train.labels().max()) + 1 if mixes_labels(input.image) else None

    def finished(source: Source) -> Source:
        return source if num_classes is None else with_mixable_labels(source, input.image, num_classes)

    return TrainingData(
        finished(preparation.apply_to_training(train)),
        validation and finished(preparation.apply(validation)),
        input,
        preparation.changes(num_classes),
    )


def _optional_source(data: Data | None) -> Source | None:
    return None if data is None else _source(data, "validation")


def _source(data: Any, name: str) -> Source:
    if isinstance(data, Source):
        return data
    if not isinstance(data, tuple) or len(data) not in (2, 3):
        raise ConfigError(
            "Data is a Source, or a tuple (features, labels) or (features, labels, sample_weights).",
            place=name,
            received=type(data).__name__,
            remedy="for a tf.data pipeline of your own use distkeras.scale() and model.fit",
        )
    features, *others = cast("tuple[Any, ...]", data)
    return ArraySource(_as_arrays(features), *map(np.asarray, others), name=name)


def _as_arrays(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: np.asarray(array) for name, array in value.items()}
    if isinstance(value, tuple):
        return tuple(np.asarray(array) for array in value)
    return np.asarray(value)


def _checked(build_model: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        model = build_model()
        if not getattr(model, "compiled", False):
            raise ConfigError(
                "The model builder returned a model that is not compiled.",
                received=type(model).__name__,
                remedy="call model.compile(optimizer=..., loss=...) before returning it",
            )
        return model

    return build
