"""Where a model is trained and what trains it there: what `session.py` asks of an engine, TensorFlow's or JAX's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from distkeras.config.sections import RunSettings
from distkeras.data.batches import BatchPlan
from distkeras.data.sources.base import Source
from distkeras.observability.timers import StepTimer
from distkeras.topology import Topology
from distkeras.training.feeding import TrainingData
from distkeras.training.schedule import Cursor
from distkeras.training.state import Arrays


@dataclass(frozen=True)
class FitPlan:
    """What a loop is given.

    Attributes:
        settings: The run's settings.
        data: What the model is trained on.
        batches: How an epoch is cut into steps.
        cursor: Where training stands; moved by the loop.
        epochs: Epochs of the whole run.
        timer: What measures the steps.
        epoch_metrics: State of the running metrics where training resumes inside an epoch; else None.
        asked_to_stop: The number of the signal that asked this worker to stop, or 0.
        after_chunk: Called whenever steps are complete and the model is consistent, with the signal that asked any of
            the workers to stop, the same on all of them, or 0.
        num_repeated: Steps whose batches are all that is read, again and again: input that costs nothing, to measure
            the rest by. None: every step has its own.
    """

    settings: RunSettings
    data: TrainingData
    batches: BatchPlan
    cursor: Cursor
    epochs: int
    timer: StepTimer
    epoch_metrics: Mapping[str, np.ndarray] | None
    asked_to_stop: Callable[[], int]
    after_chunk: Callable[[int], None]
    num_repeated: int | None = None


class Engine(ABC):
    """What trains one model where it was placed."""

    @abstractmethod
    def restore(self, arrays: Mapping[str, np.ndarray], targets: Sequence[Sequence[int]]) -> None:
        """Gives the model everything that `capture` copied, apart from its metrics.

        Args:
            arrays: What `capture` returned.
            targets: What `state.optimizer_targets` returned when it was captured.

        Raises:
            CheckpointError: If the arrays belong to another model.
        """

    @abstractmethod
    def restore_weights(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Gives the model the weights alone.

        Raises:
            CheckpointError: If the arrays belong to another model.
        """

    @abstractmethod
    def capture(self, cursor: Cursor) -> Arrays:
        """Brings the state of all workers together and copies it to rank zero's host. Collective.

        Returns:
            On rank zero everything that a resumed run begins with, until the next copy is made, perhaps in the same
            memory; what others get is not to be used.
        """

    @abstractmethod
    def capture_weights(self) -> Arrays:
        """Copies the weights to rank zero's host. Collective; what others get is not to be used."""

    @abstractmethod
    def fit(self, plan: FitPlan, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Trains to the last epoch, or until a callback sets `model.stop_training`. Collective."""


@dataclass(frozen=True)
class Placement(ABC):
    """Where a model is trained.

    Attributes:
        topology: How the global batch is dealt out to the replicas, and which of them are this worker's.
        on_gpu: Whether the replicas are on GPUs.
    """

    topology: Topology
    on_gpu: bool

    @property
    def is_rank_zero(self) -> bool:
        """Whether this worker writes what only one may write."""
        return self.topology.is_rank_zero

    def facts(self) -> dict[str, Any]:
        """Returns what the run's manifest says of the topology."""
        numbers = {"num_replicas": self.topology.num_replicas, "world_size": self.topology.world_size}
        return {"device": "gpu" if self.on_gpu else "cpu", **numbers}

    @abstractmethod
    def exchange(self, value: Any) -> list[Any]:
        """Returns the values of all workers, by rank; any JSON value. Collective."""

    @abstractmethod
    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Refuses to train where the workers differ in a fact, such as a version. Collective.

        Args:
            facts: What must be the same on every worker, by the name that a person knows it by; JSON values.

        Raises:
            ConfigError: On every worker, naming the first fact that differs, and where.
        """

    @abstractmethod
    def leave(self) -> None:
        """Waits until all workers are done with each other; the last thing before their processes end. Collective.

        The first to go would cut off what is still on its way to the others, on a slow network. That somebody has
        gone already is no error: it had what it waited for, and so had everybody before it.
        """

    @abstractmethod
    def explained(self, data: TrainingData, settings: RunSettings) -> AbstractContextManager[None]:
        """Says, around a block, what the engine's own errors mean for the run."""

    @abstractmethod
    def kind_of(self, source: Source) -> Any:
        """Returns type and shape of one example's features and label, in their structure."""

    @abstractmethod
    def build(
        self, build_model: Callable[[], keras.Model], settings: RunSettings, data: TrainingData
    ) -> keras.Model:
        """Builds the model on its devices and in its precision, with every variable of its first step. Collective."""

    @abstractmethod
    def engine(self, model: keras.Model) -> Engine:
        """Returns what trains a model that `build` returned."""

    @abstractmethod
    def give_back(self, model: keras.Model) -> None:
        """Lets Keras's own `fit` and `evaluate` run a model that was trained here."""

    @abstractmethod
    def evaluate(self, model: keras.Model, source: Source, *, global_batch_size: int) -> Mapping[str, Any]:
        """Returns loss and metrics over every example exactly once. Collective."""

    @abstractmethod
    def predict(self, model: keras.Model, source: Source, *, global_batch_size: int) -> Any:
        """Returns the model's output for each example, in the source's order. Collective."""
