"""One attempt at training a model: from a builder and data sources to trained weights.

The order of duties is `train`: place, build, resume, feed, fit, keep.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from distkeras.checkpoint.commit import commit
from distkeras.checkpoint.writer import BackgroundWriter
from distkeras.config.sections import RunSettings
from distkeras.data.batches import BatchPlan
from distkeras.data.pipeline import evaluation_dataset
from distkeras.distribution.devices import select_devices
from distkeras.distribution.reduction import averaging, diverge_seeds
from distkeras.distribution.strategy import WorkerStrategy, make_strategy
from distkeras.errors import CheckpointError, ConfigError
from distkeras.observability.progress import Progress
from distkeras.observability.progress_line import Extent
from distkeras.observability.run_directory import RunDirectory
from distkeras.observability.timers import OverallSummary, StepTimer
from distkeras.observability.writers import MetricWriter
from distkeras.topology import Topology, Worker
from distkeras.training.agreement import DivergenceWatch, begin_equal
from distkeras.training.callback_state import RestoredCallbacks
from distkeras.training.callbacks import LogWriting
from distkeras.training.checkpoints import Saved, files, load_latest
from distkeras.training.committing import CommitPlan, Committer
from distkeras.training.feeding import (
    TrainingData,
    batch_plan,
    require_same_kind,
    training_batches,
    validation_batches,
)
from distkeras.training.loop import TrainingLoop
from distkeras.training.schedule import ChunkSize, Cursor, logging_interval
from distkeras.training.state import capture_weights, restore, restore_weights
from distkeras.training.step import trace_variables
from distkeras.training.stopping import StopRequest
from distkeras.training.totals import Totals, totals


@dataclass(frozen=True)
class Placement:
    """Where a model is trained.

    Attributes:
        strategy: What variables are created under.
        topology: This worker's place in the run.
        on_gpu: Whether the replicas are on GPUs.
    """

    strategy: tf.distribute.Strategy
    topology: Topology
    on_gpu: bool

    def facts(self) -> dict[str, Any]:
        """Returns what the run's manifest says of the topology."""
        numbers = {"num_replicas": self.topology.num_replicas, "world_size": self.topology.world_size}
        return {"device": "gpu" if self.on_gpu else "cpu", **numbers}


@dataclass(frozen=True)
class Trained:
    """What training leaves in memory.

    Attributes:
        model: The trained model.
        placement: Where it lives.
        step: Complete optimizer steps.
        speed: What the timer measured in this attempt; None where nothing was left to train.
    """

    model: keras.Model
    placement: Placement
    step: int
    speed: OverallSummary | None


def place(settings: RunSettings, worker: Worker | None = None) -> Placement:
    """Seeds this process, chooses its devices and meets the other workers; call it before TensorFlow's first operation.

    Args:
        settings: The run's settings.
        worker: This process's place among several; None: it is the only one.

    Raises:
        ResourceError: If the machine lacks the devices, or the workers do not meet.
        ConfigError: If the global batch does not divide by the replicas.
    """
    keras.utils.set_random_seed(settings.seed)
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    if worker is None:
        devices = select_devices(settings.topology)
        topology = Topology(num_local_replicas=len(devices))
        strategy = make_strategy(devices)
    else:
        tf.config.threading.set_intra_op_parallelism_threads(worker.num_threads)
        devices = select_devices(settings.topology.model_copy(update={"replicas": 1}))
        strategy = WorkerStrategy(
            worker,
            devices[0],
            timeout_seconds=settings.topology.timeout_seconds,
            reduction_dtype=None if settings.topology.reduction == "full" else tf.bfloat16,
        )
        topology = strategy.topology
    topology.per_replica_batch_size(settings.training.global_batch_size)
    return Placement(strategy, topology, on_gpu="GPU" in devices[0])


def build(
    build_model: Callable[[], keras.Model], settings: RunSettings, data: TrainingData, placement: Placement
) -> keras.Model:
    """Builds the model on its devices and in its precision, with every variable that its first step needs."""
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(settings.training.precision)
    try:
        with placement.strategy.scope():
            model = build_model()
            if settings.topology.sync_batch_norm:
                synchronize_batch_norm(model)
            make_variables(model, data, placement.topology.num_replicas)
    finally:
        keras.config.set_dtype_policy(previous)
    begin_equal(model, placement.strategy)
    diverge_seeds(model, placement.strategy)
    return model


def synchronize_batch_norm(model: keras.Model) -> None:
    """Lets every BatchNormalization use the statistics of the global batch."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def make_variables(model: keras.Model, data: TrainingData, num_replicas: int) -> None:
    """Makes the variables of layers, metrics and optimizer, which Keras else makes while it traces the first step.

    By then it is too late to restore them, and on several replicas it fails. What a custom `train_step` makes by
    itself is traced, or left to it.

    Raises:
        ConfigError: If several replicas would have to make variables while they train.
    """
    batch = evaluation_dataset(
        data.train, Topology(), global_batch_size=1, image=data.input.image
    ).element_spec
    has_own_step = type(model).train_step is not keras.Model.train_step
    if not has_own_step or all(layer.built for layer in model._flatten_layers()):
        model._symbolic_build(data_batch=batch)
        return
    unbuilt = [layer.name for layer in model._flatten_layers(include_self=False) if not layer.built]
    if unbuilt and num_replicas > 1:
        raise ConfigError(
            "A model with a train_step of its own has layers without weights, and replicas need them all at once.",
            received=unbuilt[:3],
            remedy="build them in the model's builder: give each keras.Sequential a keras.Input, or call it once",
        )
    if unbuilt:
        trace_variables(model, batch)


def train(
    settings: RunSettings,
    build_model: Callable[[], keras.Model],
    data: TrainingData,
    *,
    placement: Placement,
    run: RunDirectory,
    saved: Saved | None,
    progress: Progress,
    writer: MetricWriter,
    resume_command: str,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Trained:
    """Trains a model from where the run was last committed to its end, and keeps the weights it ends with.

    Args:
        settings: Everything but data and model.
        build_model: Returns a compiled model; called once.
        data: What it is trained on.
        placement: Where.
        run: The run's directory, locked by the caller.
        saved: What it was last committed with, or None.
        progress: Where a person watches.
        writer: Where metrics go.
        resume_command: What the user types to go on after a stop.
        callbacks: Any Keras callbacks.

    Raises:
        DistkerasError: What went wrong, by kind.
    """
    plan = batch_plan(settings, data)
    progress.announce(plan.describe(placement.topology))
    model = build(build_model, settings, data, placement)
    require_same_kind(data)
    _require_known_monitor(settings, model, has_validation=data.validation is not None)
    callbacks = [*callbacks, *_early_stopping(settings)]
    stop = StopRequest(run.stop_path)
    cursor = _cursor(settings, plan, saved)
    timer = StepTimer()
    average = averaging(model, placement.strategy)  # traced once, for epochs and commits alike
    add_up = totals(model, placement.strategy)
    with ExitStack() as stack:
        is_rank_zero = placement.topology.is_rank_zero
        background = (
            BackgroundWriter(run.checkpoints, keep=settings.checkpoint.keep) if is_rank_zero else None
        )
        committer = Committer(
            CommitPlan(settings.checkpoint.every_epochs, resume_command, {"seed": settings.seed}),
            cursor=cursor,
            epochs=settings.training.epochs,
            consolidate=_consolidating(cursor, average, add_up),
            callbacks=callbacks,
            writer=background and stack.enter_context(background),
        )
        duties = [LogWriting(cursor, timer, writer, progress), committer]
        if saved is not None:
            _announce_resume(saved, progress)
            restore(model, saved.arrays, saved.metadata["optimizer_targets"], placement.strategy)
            duties.insert(0, RestoredCallbacks(callbacks, saved.metadata["callbacks"], saved.arrays))
        stopped_early = saved is not None and saved.metadata["stopped_early"]
        loop = TrainingLoop(
            model=model,
            strategy=placement.strategy,
            cursor=cursor,
            epochs=cursor.epoch if stopped_early else settings.training.epochs,
            dataset=training_batches(settings, data, plan, placement.topology, cursor.step),
            examples_in_step=plan.examples_in_step,
            validation=validation_batches(settings, data, placement.topology),
            totals=add_up,
            jit_compile=uses_xla(settings, placement),
            deterministic=settings.deterministic,
            chunk_size=_chunk_size(settings),
            timer=timer,
            epoch_metrics=saved.arrays if saved and is_rank_zero and not cursor.at_epoch_end else None,
            average=average,
            asked_to_stop=stop.asked,
            after_chunk=committer.after_chunk,
            at_logging_point=DivergenceWatch(model, placement.strategy).check,
        )
        progress.begin(_extent(settings, cursor, placement))
        # Also with no step left: the end of `fit` restores best weights and moving averages (EMA).
        stack.enter_context(stop.listening())
        loop.run([*callbacks, *duties])
    if is_rank_zero:
        commit(run.weights, cursor.step, files(capture_weights(model)), {}, keep=1)
    return Trained(model, placement, cursor.step, timer.overall())


def _consolidating(cursor: Cursor, average: Callable[[], None], add_up: Totals) -> Callable[[], None]:
    def consolidate() -> None:
        average()
        if not cursor.at_epoch_end:  # there a resumed run begins with metrics of its own
            add_up({}, False)

    return consolidate


def load(
    settings: RunSettings,
    build_model: Callable[[], keras.Model],
    data: TrainingData,
    *,
    placement: Placement,
    run: RunDirectory,
) -> Trained:
    """Builds the model of a run with the weights that it ended with, or, unfinished, with its last commit's.

    Raises:
        CheckpointError: If there are no weights yet, none that can be trusted, or they are another model's.
    """
    saved = load_latest(run.weights) or load_latest(run.checkpoints)
    if saved is None:
        raise CheckpointError(
            "This run has no weights yet.", place=str(run.path), remedy="train it to its first commit"
        )
    model = build(build_model, settings, data, placement)
    restore_weights(model, saved.arrays)
    return Trained(model, placement, saved.step, None)


def uses_xla(settings: RunSettings, placement: Placement) -> bool:
    """Whether XLA compiles the step; `auto` says yes on one GPU, where Keras itself does.

    On 2 CPU cores a step of configs/diabetes.yaml (MLP) took 1.4 times as long with it, one of configs/digits.yaml
    (CNN) 1.05 to 1.4 times (2026-11-20, two runs each). Over several replicas it cannot be: the reduction between
    them has no XLA kernel.
    """
    if settings.training.jit_compile != "auto":
        return settings.training.jit_compile
    return placement.on_gpu and placement.topology.num_replicas == 1


def _cursor(settings: RunSettings, plan: BatchPlan, saved: Saved | None) -> Cursor:
    return Cursor(
        steps_per_epoch=plan.steps_per_epoch,
        interval=logging_interval(plan.steps_per_epoch, settings.logging.every_steps),
        commit_every=settings.checkpoint.every_steps,
        step=saved.step if saved else 0,
    )


def _chunk_size(settings: RunSettings) -> ChunkSize:
    steps = settings.training.steps_per_execution
    return ChunkSize(None if steps == "auto" else steps)


def _extent(settings: RunSettings, cursor: Cursor, placement: Placement) -> Extent:
    epochs = settings.training.epochs
    return Extent(epochs, epochs * cursor.steps_per_epoch, placement.topology.num_replicas)


def _early_stopping(settings: RunSettings) -> list[keras.callbacks.Callback]:
    section = settings.training.early_stopping
    if section is None:
        return []
    return [
        keras.callbacks.EarlyStopping(
            monitor=section.monitor,
            mode=section.mode,
            patience=section.patience,
            min_delta=section.min_delta,
            restore_best_weights=section.restore_best_weights,
        )
    ]


def _require_known_monitor(settings: RunSettings, model: keras.Model, *, has_validation: bool) -> None:
    """Early stopping on a metric that does not exist would be found out after a whole epoch."""
    section = settings.training.early_stopping
    names = list(model.get_metrics_result()) if section is not None else []
    known = [*names, *(f"val_{name}" for name in names if has_validation)]
    if section is not None and names and section.monitor not in known:
        near = difflib.get_close_matches(section.monitor, known, n=1)
        raise ConfigError(
            "There is no metric of this name to watch.",
            place="training.early_stopping.monitor",
            received=section.monitor,
            remedy=(f"did you mean {near[0]!r}? " if near else "") + f"use one of {', '.join(known)}",
        )


def _announce_resume(saved: Saved, progress: Progress) -> None:
    for line in saved.rejected:
        progress.announce(f"warning: a commit is not used: {line}")
    progress.announce(f"resuming from step {saved.step}")
