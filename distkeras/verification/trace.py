"""What one rung of the ladder leaves behind: its loss at every step, its weights in brief at each and whole at the end.

A rung is a process, or a group of them, that trains the first steps of a config. The first rung is plain Keras, which
uses nothing of this package but the batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from distkeras.config import Config, config_from_mapping
from distkeras.observability.console import owned_console
from distkeras.observability.logs import rank_log
from distkeras.observability.progress import Progress
from distkeras.observability.run_directory import RunDirectory
from distkeras.observability.writers import Writers
from distkeras.runners.attempt import use_backend
from distkeras.runners.workers import WorkerTask
from distkeras.topology import Worker

RungKind = Literal["keras", "replicas", "workers"]
INITIAL = "initial.npz"
TRACE = "trace.npz"


@dataclass(frozen=True)
class Trace:
    """How a rung trained.

    Attributes:
        losses: float64, shape (num_steps,): the running loss that Keras shows after each step.
        sketches: float64, shape (num_steps, num_tensors): each tensor's elements added up with fixed signs.
        names: The tensors' names.
        weights: The tensors after the last step.
    """

    losses: np.ndarray
    sketches: np.ndarray
    names: tuple[str, ...]
    weights: tuple[np.ndarray, ...]

    @classmethod
    def read(cls, directory: Path) -> Trace:
        """Reads what `write` wrote."""
        with np.load(directory / TRACE) as arrays:
            names = tuple(arrays["names"].tolist())
            weights = tuple(arrays[f"weight{index}"] for index in range(len(names)))
            return cls(arrays["losses"], arrays["sketches"], names, weights)

    def write(self, directory: Path) -> None:
        """Writes the trace into a rung's directory."""
        weights = {f"weight{index}": weight for index, weight in enumerate(self.weights)}
        np.savez(
            directory / TRACE,
            losses=self.losses,
            sketches=self.sketches,
            names=np.array(self.names),
            **weights,  # pyright: ignore[reportArgumentType]
        )


def work(task: WorkerTask, worker: Worker) -> None:
    """Trains one rung; called in a process of its own. Rank zero writes the trace."""
    config = config_from_mapping(task.payload["config"], origin="verify", base_folder=Path.cwd())
    directory = RunDirectory(Path(task.directory))
    log = directory.log_path(worker.rank)
    with (
        rank_log(log, worker.rank),
        owned_console(log) as console,
        Progress(console.stderr, quiet=True) as progress,
    ):
        rung = _Rung(config, task.payload["num_steps"], directory, Path(task.payload["initial"]), progress)
        use_backend(config.engine)
        _use_double_precision(config)
        kind: RungKind = task.payload["kind"]
        trace = (
            rung.trained_by_keras()
            if kind == "keras"
            else rung.trained(worker if kind == "workers" else None)
        )
        if worker.rank == 0:
            trace.write(directory.path)


def _use_double_precision(config: Config) -> None:
    """Lets losses and metrics be of the precision that the ladder chose for the model."""
    if config.training.precision == "float64":
        import keras

        keras.config.set_floatx("float64")
    if config.training.precision == "float64" and config.engine == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)


@dataclass(frozen=True)
class _Rung:
    config: Config
    num_steps: int
    directory: RunDirectory
    initial: Path
    progress: Progress

    def trained_by_keras(self) -> Trace:
        """Trains with Keras's own `fit`, in one process on one device; leaves the weights that all rungs begin with."""
        import keras

        from distkeras.topology import Topology
        from distkeras.training.experiment import open_experiment
        from distkeras.training.feeding import batch_plan, training_batches
        from distkeras.training.session import place

        place(self.config.model_copy(update={"topology": type(self.config.topology)(devices="cpu")}))
        keras.config.set_dtype_policy(self.config.training.precision)
        experiment = open_experiment(self.config)
        plan = batch_plan(self.config, experiment.data)
        model = self._same_everywhere(experiment.build_model())
        np.savez(self.initial, *[variable.numpy() for variable in model.weights])
        batches = training_batches(self.config, experiment.data, plan, Topology(), 0)
        recorder = _recorder(self.num_steps)
        model.fit(
            batches,
            epochs=self.config.training.epochs,
            steps_per_epoch=plan.steps_per_epoch,
            callbacks=[recorder],
            shuffle=False,
            verbose=0,
        )
        return recorder.trace()

    def trained(self, worker: Worker | None) -> Trace:
        """Trains with distkeras's own loop."""
        from distkeras.training.experiment import open_experiment
        from distkeras.training.session import place, train

        placement = place(self.config, worker)
        experiment = open_experiment(self.config)
        recorder = _recorder(self.num_steps)

        def build() -> Any:
            model = self._same_everywhere(experiment.build_model())
            with np.load(self.initial) as arrays:
                model.set_weights([arrays[name] for name in arrays.files])
            return model

        train(
            self.config,
            build,
            replace(experiment.data, validation=None),
            placement=placement,
            run=self.directory,
            saved=None,
            progress=self.progress,
            writer=Writers([]),
            resume_command="",
            callbacks=[recorder],
        )
        placement.leave()
        return recorder.trace()

    def _same_everywhere(self, model: Any) -> Any:
        """Takes out what differs between replicas by design: random masks."""
        for layer in model._flatten_layers():
            for name in ("rate", "dropout", "recurrent_dropout"):
                if isinstance(getattr(layer, name, None), float):
                    setattr(layer, name, 0.0)
        return model


def _recorder(num_steps: int) -> Any:
    """Returns a Keras callback that records a trace and ends training after `num_steps`."""
    import keras

    class Recorder(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self._losses: list[float] = []
            self._sketches: list[list[float]] = []

        def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
            self._losses.append(float((logs or {}).get("loss", float("nan"))))
            self._sketches.append([_sketch(weight) for weight in self.model.get_weights()])
            if len(self._losses) >= num_steps:
                self.model.stop_training = True

        def trace(self) -> Trace:
            names = tuple(variable.path for variable in self.model.weights)
            weights = tuple(map(np.asarray, self.model.get_weights()))
            return Trace(np.array(self._losses), np.array(self._sketches), names, weights)

    return Recorder()


def _sketch(weight: np.ndarray) -> float:
    """Adds up a tensor's elements with pseudo-random signs, so that changes do not cancel out."""
    signs = np.random.default_rng(weight.size).integers(0, 2, weight.size) * 2 - 1
    return float(np.dot(weight.ravel().astype(np.float64), signs))
