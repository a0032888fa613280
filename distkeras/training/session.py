"""One attempt at training a model: from a builder and data sources to trained weights.

The order of duties is `train`: build, resume, feed, fit, keep. What TensorFlow and JAX do differently is behind
`Placement` and its `Engine`; `place` chooses between them, and nothing else in the package does.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import keras

from distkeras.checkpoint.commit import commit
from distkeras.checkpoint.writer import BackgroundWriter
from distkeras.config.sections import OuterStepsSection, RunSettings
from distkeras.data.batches import BatchPlan
from distkeras.errors import CheckpointError, ConfigError
from distkeras.observability.progress import Progress
from distkeras.observability.progress_line import Extent
from distkeras.observability.run_directory import RunDirectory
from distkeras.observability.timers import OverallSummary, StepTimer
from distkeras.observability.writers import MetricWriter
from distkeras.topology import Worker
from distkeras.training.callback_state import RestoredCallbacks
from distkeras.training.callbacks import LogWriting
from distkeras.training.checkpoints import Saved, files, load_latest
from distkeras.training.committing import CommitPlan, Committer
from distkeras.training.feeding import TrainingData, batch_plan, require_same_kind
from distkeras.training.placement import FitPlan, Placement
from distkeras.training.schedule import Cursor, logging_interval
from distkeras.training.stopping import StopRequest


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
    """Seeds this process, chooses its devices and meets the other workers; call it before the engine's first operation.

    Args:
        settings: The run's settings.
        worker: This process's place among several; None: it is the only one.

    Raises:
        ResourceError: If the machine lacks the devices, or the workers do not meet.
        ConfigError: If the global batch does not divide by the replicas.
    """
    # Imported here: either engine works where the other one's library is missing.
    if settings.engine == "jax":
        from distkeras.training.jax import placement as engine
    else:
        from distkeras.training import tensorflow_placement as engine
    return engine.place(settings, worker)


def build(
    build_model: Callable[[], keras.Model], settings: RunSettings, data: TrainingData, placement: Placement
) -> keras.Model:
    """Builds the model where it was placed, with every variable that its first step needs. Collective."""
    return placement.build(build_model, settings, data)


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
    model = placement.build(build_model, settings, data)
    engine = placement.engine(model)
    require_same_kind(data, placement.kind_of)
    _require_known_monitor(settings, model, has_validation=data.validation is not None)
    callbacks = [*callbacks, *_early_stopping(settings)]
    stop = StopRequest(run.stop_path)
    cursor = _cursor(settings, plan, saved)
    timer = StepTimer()
    with ExitStack() as stack:
        background = (
            BackgroundWriter(run.checkpoints, keep=settings.checkpoint.keep)
            if placement.is_rank_zero
            else None
        )
        committer = Committer(
            CommitPlan(settings.checkpoint.every_epochs, resume_command, {"seed": settings.seed}),
            cursor=cursor,
            epochs=settings.training.epochs,
            capture=partial(engine.capture, cursor),
            callbacks=callbacks,
            writer=background and stack.enter_context(background),
            barrier=lambda: placement.require_same({"whether they are committed": True}),
        )
        duties = [LogWriting(cursor, timer, writer, progress), committer]
        if saved is not None:
            _announce_resume(saved, progress)
            engine.restore(saved.arrays, saved.metadata["optimizer_targets"])
            duties.insert(0, RestoredCallbacks(callbacks, saved.metadata["callbacks"], saved.arrays))
        stopped_early = saved is not None and saved.metadata["stopped_early"]
        fit_plan = FitPlan(
            settings,
            data,
            plan,
            cursor,
            epochs=cursor.epoch if stopped_early else settings.training.epochs,
            timer=timer,
            epoch_metrics=saved.arrays if saved and not cursor.at_epoch_end else None,
            asked_to_stop=stop.asked,
            after_chunk=committer.after_chunk,
        )
        progress.begin(_extent(settings, cursor, placement))
        # Also with no step left: the end of `fit` restores best weights and moving averages (EMA).
        stack.enter_context(stop.listening())
        engine.fit(fit_plan, [*callbacks, *duties])
    weights = engine.capture_weights()
    if placement.is_rank_zero:
        commit(run.weights, cursor.step, files(weights), {}, keep=1)
    return Trained(model, placement, cursor.step, timer.overall())


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
    model = placement.build(build_model, settings, data)
    placement.engine(model).restore_weights(saved.arrays)
    return Trained(model, placement, saved.step, None)


def _cursor(settings: RunSettings, plan: BatchPlan, saved: Saved | None) -> Cursor:
    reduction = settings.topology.reduction
    return Cursor(
        steps_per_epoch=plan.steps_per_epoch,
        interval=logging_interval(plan.steps_per_epoch, settings.logging.every_steps),
        commit_every=settings.checkpoint.every_steps,
        meet_every=reduction.every_steps if isinstance(reduction, OuterStepsSection) else None,
        step=saved.step if saved else 0,
    )


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
