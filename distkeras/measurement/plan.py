"""What `distkeras bench` runs: which settings, which of them is taken apart, how, and in which order. Nothing is run.

The setting that is taken apart is trained in several ways, each of which lacks one thing that a real step pays for
(`Ablation`). What a thing costs is the difference between the two ways that differ in it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, get_args

from distkeras.config import Config, config_from_mapping, to_mapping
from distkeras.config.section import Section
from distkeras.config.sections import CheckpointSection, LoggingSection, TopologySection, TrainingSection
from distkeras.errors import ConfigError
from distkeras.topology import Topology

Ablation = Literal["real", "one_batch", "bare", "apart", "large", "alone"]
"""`real`: as the config says. `one_batch`: the same, but the input is a few batches again and again. `bare`: and
nothing is committed, validated or logged. `apart`: and the workers never talk, each in a run of its own at the same
time. `large`: `bare` of one worker, `apart` of several, on a batch `LARGE` times as large. `alone`: one worker as the
config says, with the batch and the cores that it would have among the others."""

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16", "float64"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Engine = Literal["tensorflow", "jax"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
JitCompile = bool | Literal["auto"]
# A batch so much larger tells what a step costs whatever its batch from what each example costs. With twice the batch,
# what the two measurements are wrong by would weigh three times as much.
LARGE = 4
# Longer than any trial: only the clock ends it.
MANY_EPOCHS = 1_000_000
# A stream's epochs are parts of its steps, so both grow alike.
STREAM_FACTOR = 1000

_OF_ONE_WORKER: tuple[Ablation, ...] = ("real", "one_batch", "bare", "large")
_OF_WORKERS: tuple[Ablation, ...] = ("real", "one_batch", "bare", "apart", "large", "alone")


@dataclass(frozen=True)
class Setting:
    """What of a config a bench varies.

    Attributes:
        num_workers: Worker processes; 1: a run in one process.
        global_batch_size: Examples of a step over all workers.
        precision: The Keras dtype policy.
        engine: What computes.
        jit_compile: Whether XLA compiles the step.
    """

    num_workers: int
    global_batch_size: int
    precision: Precision
    engine: Engine = "tensorflow"
    jit_compile: JitCompile = "auto"

    @property
    def name(self) -> str:
        """How it is called on the console and in reports: what is as usual is left out."""
        workers = "1 worker" if self.num_workers == 1 else f"{self.num_workers} workers"
        parts = [workers, f"batch {self.global_batch_size}", self.precision]
        if self.engine != "tensorflow":
            parts.append(self.engine)
        if self.jit_compile != "auto":
            parts.append("XLA" if self.jit_compile else "no XLA")
        return ", ".join(parts)


@dataclass(frozen=True)
class Trial:
    """One thing to measure.

    Attributes:
        setting: What of the config it has.
        ablation: What it lacks.
        index: The pass that it belongs to, counted from 0: what is compared is of one pass.
    """

    setting: Setting
    ablation: Ablation
    index: int

    @property
    def name(self) -> str:
        """How it is called on the console."""
        return f"{self.ablation}: {self.setting.name}"

    @property
    def talks(self) -> bool:
        """Whether its processes are workers of one run."""
        return self.setting.num_workers > 1 and not self.trains_apart

    @property
    def trains_apart(self) -> bool:
        """Whether each of its processes is a run of its own, on one worker's part of the batch."""
        return self.setting.num_workers > 1 and self.ablation in ("apart", "large", "alone")

    @property
    def num_processes(self) -> int:
        """Processes that train at the same time."""
        return 1 if self.ablation == "alone" else self.setting.num_workers

    @property
    def is_bare(self) -> bool:
        """Whether it does nothing but steps."""
        return self.ablation in ("bare", "apart", "large")

    @property
    def repeats_input(self) -> bool:
        """Whether its input is a few batches again and again."""
        return self.ablation not in ("real", "alone")

    @property
    def batch_size(self) -> int:
        """Examples of a step of each run: of all workers together where they talk."""
        size = self.setting.global_batch_size
        if self.trains_apart:
            size //= self.setting.num_workers
        return LARGE * size if self.ablation == "large" else size


@dataclass(frozen=True)
class Plan:
    """A whole bench.

    Attributes:
        settings: All settings; each is measured as it is.
        subject: The one that is taken apart.
        ablations: How.
        num_passes: How often each trial is run.
        seconds: How long each measures, after its warm-up.
    """

    settings: Sequence[Setting]
    subject: Setting
    ablations: Sequence[Ablation]
    num_passes: int
    seconds: float

    def trials(self) -> list[Trial]:
        """Returns all trials in order. Passes alternate their direction, so that what slows the machine down for a
        while slows all alike."""
        return [trial for index in range(self.num_passes) for trial in self._pass(index)]

    def _pass(self, index: int) -> list[Trial]:
        trials = [Trial(self.subject, ablation, index) for ablation in self.ablations]
        trials += [Trial(setting, "real", index) for setting in self.settings if setting != self.subject]
        return trials if index % 2 == 0 else trials[::-1]


def make_plan(
    config: Config,
    *,
    workers: Sequence[int] = (),
    batch_sizes: Sequence[int] = (),
    precisions: Sequence[Precision] = (),
    engines: Sequence[Engine] = (),
    jit_compile: Sequence[JitCompile] = (),
    num_passes: int = 3,
    seconds: float = 10.0,
) -> Plan:
    """Returns the plan of a bench: every combination of what is given; what is not given is the config's own.

    The setting with the most workers is taken apart, with the first of everything else.

    Raises:
        ConfigError: If a batch does not divide by a number of workers, the model is split over workers, or the config
            cannot be trained by one of the engines.
    """
    usual = setting_of(config)
    workers = tuple(workers) or (usual.num_workers,)
    batch_sizes = tuple(batch_sizes) or (usual.global_batch_size,)
    if max(workers) > 1 and config.topology.model_parallel > 1:
        raise ConfigError(
            "A model that is split over workers cannot be trained by each of them apart.",
            place="topology.model_parallel",
            received=config.topology.model_parallel,
            remedy="measure it with --workers 1, or another config without a split",
        )
    for number in workers:
        for size in batch_sizes:
            Topology(world_size=number).per_replica_batch_size(size)
    combinations = product(
        workers,
        batch_sizes,
        precisions or (usual.precision,),
        engines or (usual.engine,),
        jit_compile or (usual.jit_compile,),
    )
    # Under JAX XLA always compiles: two settings that differ in it alone would be one.
    settings = list(
        dict.fromkeys(
            Setting(number, size, precision, engine, "auto" if engine == "jax" else jit)
            for number, size, precision, engine, jit in combinations
        )
    )
    for setting in settings:
        changed = to_mapping(config_of(config, Trial(setting, "real", 0)))
        config_from_mapping(changed, origin=setting.name, base_folder=Path.cwd())
    subject = next(setting for setting in settings if setting.num_workers == max(workers))
    ablations = _OF_ONE_WORKER if subject.num_workers == 1 else _OF_WORKERS
    return Plan(settings, subject, ablations, num_passes, seconds)


def setting_of(config: Config) -> Setting:
    """Returns what a config has of what a bench varies; of a range of workers the most."""
    training, workers = config.training, config.topology.workers
    return Setting(
        workers if isinstance(workers, int) else workers[1],
        training.global_batch_size,
        training.precision,
        config.engine,
        training.jit_compile,
    )


def config_of(config: Config, trial: Trial) -> Config:
    """Returns the config that the processes of a trial train: the user's, without an end, and without what it lacks."""
    setting = trial.setting
    training = _endless(config.training).model_copy(
        update={
            "global_batch_size": trial.batch_size,
            "precision": setting.precision,
            "jit_compile": setting.jit_compile,
        }
    )
    changes: dict[str, Section | str] = {
        "training": training,
        "topology": _topology(config.topology, trial),
        "engine": setting.engine,
    }
    if trial.is_bare:
        changes["checkpoint"] = CheckpointSection(every_epochs=training.epochs + 1)
        changes["logging"] = LoggingSection(every_steps=MANY_EPOCHS, tensorboard=False)
    return config.model_copy(update=changes)


def _endless(training: TrainingSection) -> TrainingSection:
    changes: dict[str, object] = {"early_stopping": None, "epochs": MANY_EPOCHS}
    if training.num_steps is not None:
        changes["epochs"] = training.epochs * STREAM_FACTOR
        changes["num_steps"] = training.num_steps * STREAM_FACTOR
    return training.model_copy(update=changes)


def _topology(section: TopologySection, trial: Trial) -> TopologySection:
    if trial.talks:
        kind = "ray" if section.kind == "ray" else "processes"
        return section.model_copy(
            update={"kind": kind, "workers": trial.setting.num_workers, "replicas": "auto"}
        )
    alone = {
        "kind": "local",
        "workers": 1,
        "reduction": "full",
        "resources_per_worker": {},
        "placement": "PACK",
    }
    replicas = 1 if trial.trains_apart else section.replicas
    return section.model_copy(update={**alone, "replicas": replicas})
