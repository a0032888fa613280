"""The starting side of a bench: runs its trials, one after the other in processes of their own, and gathers numbers."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distkeras.config import Config
from distkeras.config.canonical import to_mapping
from distkeras.config.sections import TopologySection
from distkeras.errors import DistkerasError
from distkeras.measurement.clock import Order, Part
from distkeras.measurement.plan import LARGE, Plan, Setting, Trial, config_of
from distkeras.measurement.trial import result_path
from distkeras.observability.atomic_files import read_json
from distkeras.observability.formats import duration_text, percent_text, rate_text
from distkeras.observability.progress import Progress
from distkeras.observability.run_directory import RunDirectory
from distkeras.runners.failures import GroupError
from distkeras.runners.processes import run_processes
from distkeras.runners.workers import WorkerTask

Values = Mapping[str, Any]
# Rough, for the estimate that is said first: imports, once; of each trial data, building and tracing.
IMPORT_SECONDS, START_SECONDS = 6.0, 2.0


@dataclass(frozen=True)
class Measurement:
    """What one trial measured.

    Attributes:
        trial: The trial.
        ranks: What each of its processes measured, by rank; see `trial.Clock.result`.
    """

    trial: Trial
    ranks: Sequence[Values]

    @property
    def step_seconds(self) -> float:
        """Seconds of a full step: of the group where its processes are one run, else the mean of theirs."""
        return statistics.fmean(self.seconds_by_rank)

    @property
    def seconds_by_rank(self) -> list[float]:
        """Seconds of a full step of each process."""
        return [self.trial.batch_size / rank["examples_per_second"] for rank in self.ranks]

    @property
    def median_step_seconds(self) -> float:
        """Seconds of a median step, the mean over its processes: what a busy machine changes least."""
        return statistics.fmean(rank["step_milliseconds"]["p50"] for rank in self.ranks) / 1000

    @property
    def deviations(self) -> list[float]:
        """Deviation of the time of a step on each process, in seconds. Of steps that ran in one call only their mean
        is known, so that it is rather too small."""
        return [rank["deviation_milliseconds"] / 1000 for rank in self.ranks]

    @property
    def examples_per_second(self) -> float:
        """Examples used a second by all processes together."""
        rates = [rank["examples_per_second"] for rank in self.ranks]
        return sum(rates) if self.trial.trains_apart else statistics.fmean(rates)

    @property
    def input_wait_ratio(self) -> float:
        """Share of a step spent waiting for input, on the process that waits longest."""
        return max(rank["input_wait_ratio"] for rank in self.ranks)

    def part_seconds(self, part: Part) -> float:
        """Returns the seconds of a full step that go into a part of it, the mean over its processes."""
        return statistics.fmean(rank["part_milliseconds"][part] for rank in self.ranks) / 1000

    @property
    def summary(self) -> str:
        """What it measured, in a few words."""
        return (
            f"{rate_text(self.examples_per_second)} examples/s, {1000 * self.step_seconds:.3g} ms a step, "
            f"{percent_text(self.input_wait_ratio)} of it waiting for input"
        )

    def as_mapping(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        cpu = sum(rank["cpu_seconds"] for rank in self.ranks)
        # Workers of one run each count the examples of all of them.
        counts = [rank["num_examples"] for rank in self.ranks]
        num_examples = sum(counts) if self.trial.trains_apart else max(counts)
        joules = self.ranks[0]["joules"]
        return {
            "ablation": self.trial.ablation,
            "pass": self.trial.index,
            "setting": self.trial.setting.name,
            **vars(self.trial.setting),
            "examples_per_second": self.examples_per_second,
            "step_seconds": self.step_seconds,
            "input_wait_ratio": self.input_wait_ratio,
            "peak_memory_bytes": max(rank["peak_memory_bytes"] for rank in self.ranks),
            "cpu_seconds_per_1000_examples": 1000 * cpu / num_examples,
            "joules_per_1000_examples": joules and 1000 * joules / num_examples,
            "ranks": list(self.ranks),
        }


def measure(config: Config, plan: Plan, progress: Progress) -> Iterator[Measurement]:
    """Yields each trial once it was measured.

    Nothing is kept but what `data.cache` puts on the disk: runs lie in a temporary folder beside the
    config's own, so that commits go to the disk that they would go to. However it ends, no process is left.

    Raises:
        DistkerasError: If a trial cannot be trained. Without the large batch it goes on: that may not fit into memory.
    """
    trials = plan.trials()
    seconds = IMPORT_SECONDS + len(trials) * (START_SECONDS + 1.2 * plan.seconds)
    progress.announce(f"{len(trials)} trials, about {duration_text(seconds)}")
    failed: set[Setting] = set()
    with trial_folder(config) as folder:
        for number, trial in enumerate(trials, start=1):
            if trial.ablation == "large" and trial.setting in failed:
                continue
            progress.announce(f"trial {number} of {len(trials)}, {trial.name}")
            try:
                measurement = run_trial(config, trial, plan.seconds, folder / str(number), progress)
            except DistkerasError as error:
                if trial.ablation != "large":
                    raise
                failed.add(trial.setting)
                progress.announce(f"{LARGE} times the batch cannot be trained: {error.problem}")
                continue
            progress.announce(f"  {measurement.summary}")
            yield measurement


@contextmanager
def trial_folder(config: Config) -> Generator[Path]:
    """Gives trials a temporary folder beside the config's own runs; nothing of it is left."""
    is_new = not config.output_dir.exists()
    config.output_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".bench-", dir=config.output_dir.absolute()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # something else may be in it by now
                config.output_dir.rmdir()


def run_trial(config: Config, trial: Trial, seconds: float, folder: Path, progress: Progress) -> Measurement:
    """Runs one trial, in processes of its own.

    Args:
        config: The user's config.
        trial: What of it to change.
        seconds: How long it measures, after its warm-up.
        folder: What is written while it runs goes there; gone afterwards.
        progress: Tells what its processes say.

    Raises:
        DistkerasError: If it cannot be trained.
    """
    directory = RunDirectory(folder)
    directory.create()
    order = Order(
        seconds=seconds,
        talks=trial.talks,
        is_bare=trial.is_bare,
        repeats_input=trial.repeats_input,
        num_processes=trial.num_processes,
        # On a cluster each worker has the resources that Ray gave it, whoever else trains.
        num_shares=trial.num_processes if _is_on_ray(config.topology, trial) else trial.setting.num_workers,
        counts_energy=not _is_on_ray(config.topology, trial),
        sees_all_gpus=trial.setting.num_workers == 1,
        visible_gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
    )
    payload = {"config": to_mapping(config_of(config, trial)), "order": vars(order)}
    task = WorkerTask(
        "distkeras.measurement.trial:work", payload, str(directory.path), "", True, config.engine
    )
    try:
        _starter(config.topology, trial)(task, progress)
    except GroupError as error:
        raise error.cause(0).error from error
    ranks = [read_json(result_path(directory.path, rank)) for rank in range(trial.num_processes)]
    shutil.rmtree(folder, ignore_errors=True)  # commits of a large model fill a disk
    return Measurement(trial, ranks)


def _starter(section: TopologySection, trial: Trial) -> Callable[[WorkerTask, Progress], None]:
    group = TopologySection(kind="processes", workers=trial.num_processes, devices=section.devices)
    if not _is_on_ray(section, trial):
        return lambda task, progress: run_processes(task, group, lambda: None)
    from distkeras.runners.ray_workers import run_on_ray

    on_ray = section.model_copy(update={"workers": trial.num_processes})
    return lambda task, progress: run_on_ray(task, on_ray, lambda: None, progress)


def _is_on_ray(section: TopologySection, trial: Trial) -> bool:
    return section.kind == "ray" and trial.setting.num_workers > 1
