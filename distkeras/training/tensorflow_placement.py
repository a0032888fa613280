"""The TensorFlow engine as `session.py` uses it: devices, the model on them, and the loop that trains it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from distkeras.config.sections import OuterStepsSection, RunSettings
from distkeras.data.bad_data import find_unreadable_example
from distkeras.data.pipeline import evaluation_dataset
from distkeras.data.sources.base import Source
from distkeras.distribution.devices import select_devices
from distkeras.distribution.outer_steps import OuterSteps, add_outer_optimizer
from distkeras.distribution.reduction import averaging, diverge_seeds
from distkeras.distribution.strategy import WorkerStrategy, make_strategy
from distkeras.errors import ConfigError, DataError, ResourceError
from distkeras.topology import Topology, Worker
from distkeras.training import state, tensorflow_evaluation
from distkeras.training.agreement import DivergenceWatch, begin_equal, require_same
from distkeras.training.feeding import TrainingData, training_batches
from distkeras.training.host_memory import HostMemory
from distkeras.training.keras_fit import give_to_keras
from distkeras.training.loop import TrainingLoop
from distkeras.training.placement import Engine, FitPlan, Placement
from distkeras.training.schedule import ChunkSize, Cursor
from distkeras.training.step import trace_variables
from distkeras.training.tensorflow_evaluation import evaluation_batches
from distkeras.training.totals import totals


@dataclass(frozen=True)
class TensorFlowPlacement(Placement):
    """Where a model is trained by TensorFlow.

    Attributes:
        strategy: What variables are created under.
    """

    strategy: tf.distribute.Strategy

    def exchange(self, value: Any) -> list[Any]:
        workers = isinstance(self.strategy, WorkerStrategy)
        return self.strategy.collectives.exchange(value) if workers else [value]

    def require_same(self, facts: Mapping[str, Any]) -> None:
        require_same(self.strategy, facts)

    def leave(self) -> None:
        with suppress(tf.errors.OpError):
            self.exchange(None)

    @contextmanager
    def explained(self, data: TrainingData, settings: RunSettings) -> Generator[None]:
        try:
            yield
        except tf.errors.ResourceExhaustedError as error:
            raise _exhausted(error, settings) from error
        except tf.errors.OpError as error:
            # Not where another worker has gone or does not answer: a look at all examples takes as long as an epoch.
            found = None if "Collective ops is aborted" in str(error.message) else _unreadable(data)
            if found is None:
                raise
            raise found from error

    def kind_of(self, source: Source) -> Any:
        spec: Any = _element_spec(source)
        return tf.nest.map_structure(lambda leaf: (leaf.dtype.name, *leaf.shape[1:]), spec[:2])

    def build(
        self, build_model: Callable[[], keras.Model], settings: RunSettings, data: TrainingData
    ) -> keras.Model:
        # Once more: what opened the data may have drawn numbers, and weights begin with the seed alone.
        keras.utils.set_random_seed(settings.seed)
        previous = keras.config.dtype_policy()
        keras.config.set_dtype_policy(settings.training.precision)
        try:
            with self.strategy.scope():
                model = build_model()
                if settings.topology.sync_batch_norm:
                    synchronize_batch_norm(model)
                make_variables(model, data, self.topology.num_replicas)
                if isinstance(settings.topology.reduction, OuterStepsSection):
                    add_outer_optimizer(model, settings.topology.reduction)
        finally:
            keras.config.set_dtype_policy(previous)
        begin_equal(model, self.strategy)
        diverge_seeds(model, self.strategy)
        return model

    def engine(self, model: keras.Model) -> Engine:
        return TensorFlowEngine(model, self)

    def give_back(self, model: keras.Model) -> None:
        model.steps_per_execution = 1
        give_to_keras(model, self.strategy)

    def evaluate(self, model: keras.Model, source: Source, *, global_batch_size: int) -> Mapping[str, Any]:
        batches = evaluation_batches(source, global_batch_size, self.topology)
        return tensorflow_evaluation.evaluate(model, self.strategy, batches)

    def predict(self, model: keras.Model, source: Source, *, global_batch_size: int) -> Any:
        batches = evaluation_batches(source, global_batch_size, self.topology)
        return tensorflow_evaluation.predict(model, self.strategy, source, batches, global_batch_size)


class TensorFlowEngine(Engine):
    """Trains a model under a strategy.

    Args:
        model: What `TensorFlowPlacement.build` returned.
        placement: Where it lives.
    """

    def __init__(self, model: keras.Model, placement: TensorFlowPlacement) -> None:
        self._model, self._placement, self._strategy = model, placement, placement.strategy
        self._memory = HostMemory()
        # Traced once, for epochs and commits alike.
        self._average = averaging(model, placement.strategy)
        self._totals = totals(model, placement.strategy)

    def restore(self, arrays: Mapping[str, np.ndarray], targets: Sequence[Sequence[int]]) -> None:
        with self._strategy.scope():
            state.build_optimizers(self._model, targets)
        state.restore(self._model, arrays)
        diverge_seeds(self._model, self._strategy)

    def restore_weights(self, arrays: Mapping[str, np.ndarray]) -> None:
        state.restore_weights(self._model, arrays)

    def capture(self, cursor: Cursor) -> state.Arrays:
        self._average()
        if not cursor.at_epoch_end:  # there a resumed run begins with metrics of its own
            self._totals({}, False)
        return state.capture(self._model, self._memory.copied) if self._placement.is_rank_zero else {}

    def capture_weights(self) -> state.Arrays:
        return state.capture_weights(self._model, self._memory.copied) if self._placement.is_rank_zero else {}

    def fit(self, plan: FitPlan, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        settings, data, topology = plan.settings, plan.data, self._placement.topology
        steps, size = settings.training.steps_per_execution, settings.training.global_batch_size
        validation = data.validation and evaluation_batches(data.validation, size, topology)
        batches = training_batches(settings, data, plan.batches, topology, plan.cursor.step)
        if plan.num_repeated is not None:
            batches = batches.take(plan.num_repeated * topology.num_local_replicas).cache().repeat()
        loop = TrainingLoop(
            model=self._model,
            strategy=self._strategy,
            cursor=plan.cursor,
            epochs=plan.epochs,
            dataset=batches,
            examples_in_step=plan.batches.examples_in_step,
            validation=validation,
            totals=self._totals,
            jit_compile=uses_xla(settings, self._placement),
            deterministic=settings.deterministic,
            change=data.changes.change if data.changes.on_device else None,
            chunk_size=ChunkSize(None if steps == "auto" else steps),
            timer=plan.timer,
            # Of several workers rank zero alone goes on with what all had counted.
            epoch_metrics=plan.epoch_metrics if topology.is_rank_zero else None,
            average=self._average,
            meet=_meeting(self._model, self._strategy),
            asked_to_stop=plan.asked_to_stop,
            after_chunk=plan.after_chunk,
            at_logging_point=DivergenceWatch(self._model, self._strategy).check,
        )
        loop.run(callbacks)


def place(settings: RunSettings, worker: Worker | None = None) -> TensorFlowPlacement:
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
            reduces_steps=not isinstance(settings.topology.reduction, OuterStepsSection),
            reduction_dtype=tf.bfloat16 if settings.topology.reduction == "bfloat16" else None,
        )
        topology = strategy.topology
    if not isinstance(
        settings.topology.workers, tuple
    ):  # where their number may change, parts may be unequal
        topology.per_replica_batch_size(settings.training.global_batch_size)
    return TensorFlowPlacement(topology, "GPU" in devices[0], strategy)


def _meeting(model: keras.Model, strategy: tf.distribute.Strategy) -> Callable[[], None]:
    if not isinstance(strategy, WorkerStrategy) or strategy.reduces_steps:
        return lambda: None
    return OuterSteps(model, state.optimizers_of(model), strategy).take


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
    batch = _element_spec(data.train)
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


def uses_xla(settings: RunSettings, placement: Placement) -> bool:
    """Whether XLA compiles the step; `auto` says yes with one GPU in this process, where Keras itself does.

    On 2 CPU cores a step of configs/diabetes.yaml (MLP) took 1.4 times as long with it, one of configs/digits.yaml
    (CNN) 1.05 to 1.4 times (2026-11-20, two runs each). Over several replicas of one process it cannot be: the
    reduction between them has no XLA kernel.
    """
    if settings.training.jit_compile != "auto":
        return settings.training.jit_compile
    return placement.on_gpu and placement.topology.num_local_replicas == 1


def _element_spec(source: Source) -> Any:
    return evaluation_dataset(source, Topology(), global_batch_size=1).element_spec


def _exhausted(error: tf.errors.ResourceExhaustedError, settings: RunSettings) -> ResourceError:
    received = str(error.message).partition("\n")[0]
    if "No space left" in str(error.message):  # what TensorFlow calls a full disk, too
        return ResourceError(
            "The disk is full: TensorFlow could not write a file.",
            received=received,
            remedy="free some space; what was committed is kept, and the same command resumes from it",
        )
    return ResourceError(
        "The device ran out of memory in a training step.",
        place=f"training.global_batch_size: {settings.training.global_batch_size}",
        received=received,
        remedy="use a smaller training.global_batch_size with gradient_accumulation_steps, or more devices",
    )


def _unreadable(data: TrainingData) -> DataError | None:
    sources = [source for source in (data.train, data.validation) if source is not None]
    return next((error for error in map(find_unreadable_example, sources) if error is not None), None)
