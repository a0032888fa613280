"""The ladder: the same first steps of a config on one topology after the other, compared with plain Keras."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from distkeras.config import Config
from distkeras.config.canonical import to_mapping
from distkeras.config.sections import LoggingSection, TopologySection
from distkeras.observability.progress import Progress
from distkeras.observability.run_directory import RunDirectory
from distkeras.runners.failures import GroupError
from distkeras.runners.processes import run_processes
from distkeras.runners.workers import WorkerTask
from distkeras.topology import Topology
from distkeras.verification.trace import INITIAL, RungKind, Trace

# float32 is verified in float64: where a ReLU's input is 0 but for rounding, float32 takes one side or the other by
# chance, and after some steps the numbers are others (configs/digits.yaml: losses by 1e-3 after 20 steps).
TOLERANCE = 1e-6
# Keras's backends compute some things in float32 whatever the model's precision, and not the same things.
ENGINE_TOLERANCE = 1e-4
# Half precision rounds every product to 3 digits, and replicas add up in another order.
HALF_PRECISION_TOLERANCE = 5e-2
# A loss is a mean over examples: it agrees better than single weights do.
LOSS_SHARE = 0.1


Engine = Literal["tensorflow", "jax"]


@dataclass(frozen=True)
class Rung:
    """How one topology compares with plain Keras.

    Attributes:
        name: The topology.
        max_loss_difference: Largest relative difference of a step's loss.
        max_weight_difference: Largest difference of a weight after the last step, relative to its tensor's largest.
        passed: Whether both are within the tolerance.
        first_difference: The first step and tensor beyond it, or None.
    """

    name: str
    max_loss_difference: float
    max_weight_difference: float
    passed: bool
    first_difference: str | None


def climb(
    config: Config,
    *,
    workers: int,
    num_steps: int,
    tolerance: float | None,
    progress: Progress,
    engine: Engine = "tensorflow",
) -> Iterator[Rung]:
    """Yields each rung once it is trained and compared.

    Args:
        config: What to verify. Dropout is off and BatchNormalization synchronized while it is verified: both differ
            between replicas by design. What trains in float32 is verified in float64, in which rounding can neither
            feign a difference nor hide one.
        workers: Number of replicas and of workers on the higher rungs.
        num_steps: Steps to train.
        engine: What trains the higher rungs; the first is always plain Keras on TensorFlow.
        tolerance: Largest difference of weights that passes, a tenth of it of losses; None: by precision.

    Raises:
        ConfigError: If the global batch does not divide by the workers.
        DistkerasError: If a rung cannot be trained at all.
    """
    Topology(world_size=workers).per_replica_batch_size(config.training.global_batch_size)
    if config.training.precision == "float32":
        config = config.model_copy(
            update={"training": config.training.model_copy(update={"precision": "float64"})}
        )
    if tolerance is None:
        full = TOLERANCE if engine == "tensorflow" else ENGINE_TOLERANCE
        tolerance = full if config.training.precision == "float64" else HALF_PRECISION_TOLERANCE
    # Where the workers of a cluster see it too.
    config.output_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".verify-", dir=config.output_dir.absolute()))
    try:
        climber = _Climber(config, num_steps, folder, progress)
        plan = _tensorflow_rungs(config, workers) if engine == "tensorflow" else _jax_rungs(config, workers)
        reference = climber.trained("plain Keras", "keras", "tensorflow", TopologySection(devices="cpu"))
        for name, kind, topology in plan:
            yield compare(name, climber.trained(name, kind, engine, topology), reference, tolerance)
    finally:
        shutil.rmtree(folder)


def _tensorflow_rungs(config: Config, workers: int) -> list[tuple[str, RungKind, TopologySection]]:
    replicas = TopologySection(devices="cpu", sync_batch_norm=True, replicas=workers)
    processes = _processes(config, workers).model_copy(update={"sync_batch_norm": True})
    rungs: list[tuple[str, RungKind, TopologySection]] = [
        ("1 replica", "replicas", TopologySection(devices="cpu")),
        (f"{workers} replicas", "replicas", replicas),
        (f"{workers} worker processes", "workers", processes),
    ]
    if config.topology.kind == "ray":
        rungs.append((f"{workers} Ray workers", "workers", processes.model_copy(update={"kind": "ray"})))
    return rungs


def _jax_rungs(config: Config, workers: int) -> list[tuple[str, RungKind, TopologySection]]:
    # There a batch is one array over all devices, and BatchNormalization synchronized by nature.
    processes = _processes(config, workers).model_copy(update={"sync_batch_norm": False})
    return [
        ("1 JAX process", "replicas", TopologySection(devices="cpu")),
        (f"{workers} JAX processes", "workers", processes),
    ]


def _processes(config: Config, workers: int) -> TopologySection:
    return config.topology.model_copy(
        update={
            "kind": "processes",
            "workers": workers,
            "devices": "cpu",
            "replicas": "auto",
            "reduction": "full",
        }
    )


@dataclass(frozen=True)
class _Climber:
    config: Config
    num_steps: int
    folder: Path
    progress: Progress

    def trained(self, name: str, kind: RungKind, engine: Engine, topology: TopologySection) -> Trace:
        """Trains one rung and returns its trace."""
        self.progress.announce(f"training {self.num_steps} steps: {name}")
        changes = {"epochs": self.num_steps, "early_stopping": None}
        if self.config.training.num_steps is not None:  # a stream's epochs are equal parts of its steps
            changes["num_steps"] = self.num_steps
        training = self.config.training.model_copy(update=changes)
        config = self.config.model_copy(
            update={
                "engine": engine,
                "training": training,
                "topology": topology,
                "logging": LoggingSection(every_steps=1, tensorboard=False),
            }
        )
        directory = RunDirectory(self.folder / name.replace(" ", "-"))
        directory.create()
        payload = {
            "config": to_mapping(config),
            "kind": kind,
            "num_steps": self.num_steps,
            "initial": str(self.folder / INITIAL),
        }
        task = WorkerTask("distkeras.verification.trace:work", payload, str(directory.path), "", True, engine)
        try:
            _starter(topology)(task, self.progress)
        except GroupError as error:
            raise error.cause(0).error from error
        return Trace.read(directory.path)


def _starter(topology: TopologySection) -> Callable[[WorkerTask, Progress], None]:
    if topology.kind == "ray":
        from distkeras.runners.ray_workers import run_on_ray

        return lambda task, progress: run_on_ray(task, topology, lambda: None, progress)
    return lambda task, progress: run_processes(task, topology, lambda: None)


def compare(name: str, trace: Trace, reference: Trace, tolerance: float) -> Rung:
    """Returns how a trace differs from the reference's."""
    losses = _relative(trace.losses, reference.losses)
    weights = [
        float(np.abs(a - b).max(initial=0.0)) / _scale(b)
        for a, b in zip(trace.weights, reference.weights, strict=True)
    ]
    found = _first_difference(trace, reference, losses, weights, tolerance)
    return Rung(name, float(losses.max()), max(weights), found is None, found)


def _first_difference(
    trace: Trace, reference: Trace, losses: np.ndarray, weights: list[float], tolerance: float
) -> str | None:
    far_losses = np.flatnonzero(~(losses <= LOSS_SHARE * tolerance))
    far_weights = [index for index, difference in enumerate(weights) if not difference <= tolerance]
    if not len(far_losses) and not far_weights:
        return None
    # A sketch adds up as many rounding errors as a tensor has elements, of either sign.
    limits = [tolerance * _scale(weight) * np.sqrt(weight.size) for weight in reference.weights]
    far_sketches = np.argwhere(~(np.abs(trace.sketches - reference.sketches) <= limits))
    if len(far_sketches) and (not len(far_losses) or far_sketches[0][0] <= far_losses[0]):
        step, index = map(int, far_sketches[0])
        return f"step {step + 1}, {reference.names[index]}"
    if len(far_losses):
        step = int(far_losses[0])
        return f"step {step + 1}, loss: {trace.losses[step]:.8g} instead of {reference.losses[step]:.8g}"
    return f"step {len(trace.losses)}, {reference.names[far_weights[0]]}"


def _relative(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a - b) / np.maximum(np.abs(b), 1e-6)


def _scale(weight: np.ndarray) -> float:
    # A weight near 0 has no meaningful relative difference; next to the others of its tensor it has.
    return max(float(np.abs(weight).max(initial=0.0)), 1e-3)


def as_mapping(rungs: list[Rung]) -> dict[str, Any]:
    """Returns what `distkeras verify --json` prints."""
    return {"passed": all(rung.passed for rung in rungs), "rungs": [vars(rung) for rung in rungs]}
