"""One process of a trial: it trains a config for a while as a run would, measures, and keeps nothing but the numbers.

It is `session.train` that trains. Its engine is handed a clock of the bench, which no epoch, validation or commit
pauses, and which ends training by the vote that else ends it after a signal: all workers leave after the same step.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from distkeras.config import Config, config_from_mapping
from distkeras.config.sections import InputSection
from distkeras.measurement.clock import Clock, Order, TimeIsUp
from distkeras.observability.atomic_files import write_json
from distkeras.observability.console import owned_console
from distkeras.observability.logs import rank_log
from distkeras.observability.progress import Progress
from distkeras.observability.run_directory import RunDirectory
from distkeras.observability.writers import JsonLinesWriter, MetricWriter, TensorBoardWriter, Writers
from distkeras.runners.attempt import use_backend
from distkeras.runners.workers import WorkerTask
from distkeras.topology import Worker

if TYPE_CHECKING:
    import keras

    from distkeras.training.feeding import TrainingData
    from distkeras.training.placement import Engine, FitPlan, Placement

# Steps whose batches input without cost repeats.
NUM_REPEATED = 4
# An epoch without an end would need a table of ids without one.
MAX_IDS = 2**21
MAX_STEPS = 2000


def work(task: WorkerTask, worker: Worker) -> None:
    """Trains and measures one process of a trial, and writes what it measured."""
    order = Order(**task.payload["order"])
    config = config_from_mapping(task.payload["config"], origin="bench", base_folder=Path.cwd())
    _take_place(order)
    shared = RunDirectory(Path(task.directory))
    log = shared.log_path(worker.rank)
    with (
        rank_log(log, worker.rank),
        owned_console(log) as console,
        Progress(console.stderr, quiet=True) as progress,
    ):
        use_backend(config.engine)
        clock = Clock(order, shared.path, worker.rank)
        _train(config, order, clock, shared, worker, progress)
        write_json(result_path(shared.path, worker.rank), {"rank": worker.rank, **clock.result()})


def result_path(directory: Path, rank: int) -> Path:
    """Returns the file in which a process of a trial says what it measured."""
    return directory / f"result-{rank}.json"


def _take_place(order: Order) -> None:
    """Leaves cores to others who are not there, or takes the GPUs that a worker alone would not see."""
    if order.num_processes < order.num_shares and sys.platform == "linux":
        usable = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, usable[: max(1, len(usable) // order.num_shares)])
    if order.sees_all_gpus and os.environ.get("CUDA_VISIBLE_DEVICES") != "-1":
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        if order.visible_gpus is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = order.visible_gpus


def _train(
    config: Config, order: Order, clock: Clock, shared: RunDirectory, worker: Worker, progress: Progress
) -> None:
    from distkeras.training.experiment import Surroundings, open_experiment
    from distkeras.training.session import place, train

    run = shared if order.talks else RunDirectory(shared.path / f"run-{worker.rank}")
    run.create()
    placement = place(config, worker if order.talks else None)
    around = Surroundings(exchange=placement.exchange, topology=placement.topology)
    experiment = open_experiment(config, around)
    data = experiment.data
    if order.is_bare:
        data = _bare(data, config.training.global_batch_size)
    elif order.repeats_input:
        # Of the batches that are repeated all are full.
        data = replace(data, input=_always_full(data.input))
    num_repeated = NUM_REPEATED if order.repeats_input else None
    with (
        _writers(config, run, is_needed=placement.is_rank_zero and not order.is_bare) as writer,
        placement.explained(data, config),
        suppress(TimeIsUp),
    ):
        train(
            config,
            experiment.build_model,
            data,
            placement=cast("Placement", _Clocked(placement, clock, num_repeated)),
            run=run,
            saved=None,
            progress=progress,
            writer=writer,
            resume_command="",
        )
    placement.leave()


def _bare(data: TrainingData, batch_size: int) -> TrainingData:
    """Returns the examples in their order, again and again, as one long epoch that nothing interrupts."""
    from distkeras.data.sources.base import Subset

    if data.train.is_stream:
        return replace(data, validation=None)
    num_examples = data.train.num_examples
    num_steps = max(1, min(MAX_STEPS, MAX_IDS // batch_size))
    ids = np.resize(np.arange(num_examples), num_steps * batch_size)
    section = data.input.model_copy(update={"shuffle": False, "balance": "none", "remainder": "drop"})
    return replace(data, train=Subset(data.train, ids), validation=None, input=section)


def _always_full(section: InputSection) -> InputSection:
    return section.model_copy(update={"remainder": "wrap"}) if section.remainder == "partial" else section


@contextmanager
def _writers(config: Config, run: RunDirectory, *, is_needed: bool) -> Generator[Writers]:
    """Writes what a run writes, where a run of this config would."""
    writers: list[MetricWriter] = [JsonLinesWriter(run.metrics_path)] if is_needed else []
    if is_needed and config.logging.tensorboard and find_spec("tensorboard") is not None:
        writers.append(TensorBoardWriter(run.events))
    together = Writers(writers)
    try:
        yield together
    finally:
        together.close()


@dataclass(frozen=True)
class _Clocked:
    """A placement whose engine trains by the bench's clock; everything else is the placement's own."""

    placement: Placement
    clock: Clock
    num_repeated: int | None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.placement, name)

    def engine(self, model: keras.Model) -> Engine:
        self.clock.describe(_model_facts(model, self.placement))
        return cast("Engine", _ClockedEngine(self.placement.engine(model), self.clock, self.num_repeated))


@dataclass(frozen=True)
class _ClockedEngine:
    inner: Engine
    clock: Clock
    num_repeated: int | None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def fit(self, plan: FitPlan, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        from distkeras.measurement.turns import with_turns

        clock = self.clock

        def after_chunk(stop: int) -> None:
            clock.turn_to("commits")
            plan.after_chunk(0)
            clock.turn_to("steps")
            clock.after_chunk(plan.cursor, stop)

        changed = replace(
            plan,
            timer=clock.timer,
            asked_to_stop=clock.asked_to_stop,
            after_chunk=after_chunk,
            num_repeated=self.num_repeated,
        )
        clock.timer.start()
        validates = plan.data.validation is not None
        self.inner.fit(changed, with_turns(callbacks, clock, plan.cursor, validates=validates))
        clock.end()


def _model_facts(model: keras.Model, placement: Placement) -> dict[str, Any]:
    """Returns how large the model is, and where it lives."""
    import keras

    trained = model.trainable_variables
    sizes = [int(np.prod(variable.shape)) for variable in trained]
    widths = [np.dtype(str(variable.dtype)).itemsize for variable in trained]
    gradient_bytes = bucket_bytes = sum(size * width for size, width in zip(sizes, widths, strict=True))
    if keras.config.backend() == "tensorflow":
        from distkeras.distribution.strategy import BUCKET_BYTES

        bucket_bytes = BUCKET_BYTES
    return {
        "num_trainable_parameters": sum(sizes),
        "gradient_bytes": gradient_bytes,
        "bucket_bytes": bucket_bytes,
        "device": "gpu" if placement.on_gpu else "cpu",
    }
