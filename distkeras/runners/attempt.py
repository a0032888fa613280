"""One attempt at a run, in one process: what it speaks through, and its duties before and after training.

Nothing here imports Keras or an engine before the console is ours, because they print while they are imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from distkeras.config.sections import RunSettings
from distkeras.errors import ConfigError, MissingDependencyError
from distkeras.observability.console import OwnedConsole
from distkeras.observability.environment import package_versions
from distkeras.observability.progress import Progress
from distkeras.observability.run_directory import RunDirectory
from distkeras.observability.writers import JsonLinesWriter, TensorBoardWriter, Writers
from distkeras.runners import record
from distkeras.topology import Worker

if TYPE_CHECKING:
    import keras

    from distkeras.training.experiment import Surroundings
    from distkeras.training.feeding import TrainingData
    from distkeras.training.session import Placement, Trained


@dataclass(frozen=True)
class Attempt:
    """A run directory, and how this process speaks.

    Attributes:
        settings: The run's settings.
        directory: Its directory.
        unfinished: Whether there is anything left to train.
        console: Where results and errors go while libraries print into the log.
        progress: Where everything else goes.
        command: What the user types to go on after a stop.
        worker: This process's place among the workers; None: it is the only one.
    """

    settings: RunSettings
    directory: RunDirectory
    unfinished: bool
    console: OwnedConsole
    progress: Progress
    command: str
    worker: Worker | None = None

    @property
    def writes(self) -> bool:
        """Whether this process writes the run's files: of several workers, rank zero alone does."""
        return self.worker is None or self.worker.rank == 0

    def place(self) -> Placement:
        """Imports the engine, which takes seconds, seeds the process, chooses its devices and meets other workers.

        Raises:
            ResourceError: If the machine lacks the devices, or the workers do not meet.
            ConfigError: If the global batch does not divide by the replicas, or the engine cannot be imported.
        """
        engine = self.settings.engine
        if "keras" not in sys.modules:
            self.progress.announce(import_text(engine))
        use_backend(engine)
        from distkeras.training.session import place

        return place(self.settings, self.worker)

    def surroundings(self, placement: Placement) -> Surroundings:
        """Returns what the run's data is opened with: what an earlier attempt learnt of it, and the other workers."""
        from distkeras.training.experiment import Surroundings

        state = self.directory.read_preprocessing()
        # An attempt reads it before any other of its workers may write it.
        placement.require_same({"what an earlier attempt learnt of the data": state})
        return Surroundings(state, self.progress.announce, placement.exchange, placement.topology)

    def train(
        self,
        build_model: Callable[[], keras.Model],
        data: TrainingData,
        placement: Placement,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> Trained:
        """Trains to the end, from the last commit where there is one; a finished run's weights are loaded. Collective.

        Raises:
            DistkerasError: What went wrong, by kind.
        """
        from distkeras.training import session
        from distkeras.training.checkpoints import load_latest
        from distkeras.training.state import count_parameters

        record.require_same_data(self.directory, data.train.fingerprint, data.train.name)
        if not self.unfinished:
            self.progress.announce(f"{self.directory.path} is complete; its weights are loaded")
            return session.load(self.settings, build_model, data, placement=placement, run=self.directory)
        saved = load_latest(self.directory.checkpoints)
        step = saved.step if saved else 0
        facts = {
            "the versions of their packages": package_versions(),
            "their settings": self.settings.model_dump(mode="json"),
            "their data": data.train.fingerprint,
            "the commit they found, so their storage is not shared": step,
        }
        placement.require_same(facts)
        if self.writes:
            self._begin_record(data, placement)
            self.directory.truncate_metrics(step)
        with self._writers(step) as writers, placement.explained(data, self.settings):
            trained = session.train(
                self.settings,
                build_model,
                data,
                placement=placement,
                run=self.directory,
                saved=saved,
                progress=self.progress,
                writer=writers,
                resume_command=self.command,
                callbacks=callbacks,
            )
        if self.writes:
            record.complete(self.directory, step=trained.step, num_parameters=count_parameters(trained.model))
        return trained

    def _begin_record(self, data: TrainingData, placement: Placement) -> None:
        from distkeras.training.feeding import batch_plan

        plan = batch_plan(self.settings, data)
        record.describe(
            self.directory,
            num_steps=plan.steps_per_epoch * self.settings.training.epochs,
            arithmetic=plan.describe(placement.topology),
            topology={"kind": self.settings.topology.kind, **placement.facts()},
            data=data.facts(),
        )

    @contextmanager
    def _writers(self, step: int) -> Generator[Writers]:
        writers: list[Any] = [JsonLinesWriter(self.directory.metrics_path)] if self.writes else []
        if self.writes and self.settings.logging.tensorboard and find_spec("tensorboard") is not None:
            writers.append(TensorBoardWriter(self.directory.events, start_step=step))
        together = Writers(writers)
        try:
            yield together
        finally:
            together.close()


def import_text(engine: Literal["tensorflow", "jax"]) -> str:
    """Returns what is announced before an engine is imported, which takes seconds: `importing TensorFlow 2.21.0`."""
    packages = ["jax"] if engine == "jax" else ["tensorflow", "tensorflow-cpu"]
    title = "JAX" if engine == "jax" else "TensorFlow"
    version = next(iter(package_versions(packages).values()), "")
    return f"importing {title} {version}".rstrip()


def require_engine(engine: Literal["tensorflow", "jax"]) -> None:
    """Raises MissingDependencyError if JAX is asked for and not installed; imports nothing."""
    if engine == "jax" and find_spec("jax") is None:
        raise MissingDependencyError("jax", "jax")


def use_backend(engine: Literal["tensorflow", "jax"]) -> None:
    """Lets Keras compute with an engine. Keras chooses once, while it is imported.

    Raises:
        MissingDependencyError: If JAX is asked for and not installed.
        ConfigError: If Keras was imported before, for another engine.
    """
    require_engine(engine)
    if "keras" not in sys.modules and os.environ.get("KERAS_BACKEND", "tensorflow") != engine:
        os.environ["KERAS_BACKEND"] = engine
    import keras

    if keras.config.backend() != engine:
        raise ConfigError(
            f"Keras was imported before the run, and computes with {keras.config.backend()} in this process.",
            place=f"engine: {engine}",
            remedy=f"set KERAS_BACKEND={engine} in the environment, or import keras after the run was placed",
        )
