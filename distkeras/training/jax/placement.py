"""The JAX engine as `session.py` uses it: devices, the model on them, and the loop that trains it."""

from __future__ import annotations

import inspect
import os
import random
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import keras
import numpy as np
from keras.src.backend.common import global_state
from keras.src.random import seed_generator
from keras.src.utils import rng_utils

from distkeras.config.sections import RunSettings, TopologySection
from distkeras.data.sources.base import Source
from distkeras.errors import ConfigError, ResourceError
from distkeras.topology import Worker
from distkeras.training import state
from distkeras.training.feeding import TrainingData
from distkeras.training.jax import feed
from distkeras.training.jax.group import Group, start_group
from distkeras.training.jax.layout import (
    adopt,
    check_layout,
    deal_out,
    make_distribution,
    put,
    whole,
)
from distkeras.training.jax.loop import JaxLoop, NoData, testing
from distkeras.training.jax.step import as_global, predicting
from distkeras.training.placement import Engine, FitPlan, Placement
from distkeras.training.schedule import Cursor

# Of one call of Keras's `test_function`; each of its steps is a call into JAX.
STEPS_PER_CALL = 100


@dataclass(frozen=True)
class JaxPlacement(Placement):
    """Where a model is trained by JAX.

    `topology` counts copies of the model: workers that share one read the same rows.

    Attributes:
        group: All worker processes.
        distribution: Keras's arrangement of all devices.
        section: What the run's settings say of it.
    """

    group: Group
    distribution: Any
    section: TopologySection

    @property
    def is_rank_zero(self) -> bool:
        """Whether this worker writes what only one may write."""
        return self.group.rank == 0

    @property
    def mesh(self) -> jax.sharding.Mesh:
        """All devices."""
        return self.distribution.device_mesh.backend_mesh

    def facts(self) -> dict[str, Any]:
        """Returns what the run's manifest says of the topology."""
        own = {"world_size": self.group.world_size, "engine": "jax"}
        return super().facts() | own | {"model_parallel": self.section.model_parallel}

    def exchange(self, value: Any) -> list[Any]:
        with self.group.guarded():
            return self.group.exchange(value)

    def require_same(self, facts: Mapping[str, Any]) -> None:
        with self.group.guarded():
            self.group.require_same(facts)

    def leave(self) -> None:
        self.group.leave()

    @contextmanager
    def explained(self, data: TrainingData, settings: RunSettings) -> Generator[None]:
        with self.group.guarded():
            try:
                yield
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                raise ResourceError(
                    "The device ran out of memory in a training step.",
                    place=f"training.global_batch_size: {settings.training.global_batch_size}",
                    received=str(error).partition("\n")[0],
                    remedy="use a smaller training.global_batch_size with gradient_accumulation_steps, or more devices",
                ) from error
            except Exception as error:
                found = feed.unreadable_example(error, data)
                if found is None:
                    raise
                raise found from error

    def kind_of(self, source: Source) -> Any:
        return jax.tree.map(lambda part: (part.dtype.name, *part.shape[1:]), feed.example_of(source)[:2])

    def build(
        self, build_model: Callable[[], keras.Model], settings: RunSettings, data: TrainingData
    ) -> keras.Model:
        # Once more: what opened the data may have drawn numbers, and weights begin with the seed alone.
        seed_process(settings.seed)
        previous = keras.config.dtype_policy()
        keras.distribution.set_distribution(None)
        keras.config.set_dtype_policy(settings.training.precision)
        try:
            # In the machine's memory: a model that is split need not fit on one device.
            with self.group.guarded(), jax.default_device(jax.local_devices(backend="cpu")[0]):
                model = build_model()
                check_model(model)
                make_variables(model, data)
        finally:
            keras.config.set_dtype_policy(previous)
        if self.section.model_parallel > 1:
            check_layout(model, self.section.layout, self.section.model_parallel)
        with self.group.guarded():
            adopt(model, self.distribution, self.group)
        return model

    def engine(self, model: keras.Model) -> Engine:
        return JaxEngine(model, self)

    def give_back(self, model: keras.Model) -> None:
        model.steps_per_execution = 1
        model.train_function = model.test_function = model.predict_function = None

    def evaluate(self, model: keras.Model, source: Source, *, global_batch_size: int) -> Mapping[str, Any]:
        num_steps = feed.num_steps(source, global_batch_size)
        interval = min(STEPS_PER_CALL, num_steps)
        model.steps_per_execution = interval
        model.test_function = testing(
            model,
            lambda: feed.evaluation_rows(source, global_batch_size, self.topology),
            num_steps,
            interval,
            self.mesh,
            self.topology,
        )
        with self.group.guarded():
            return model.evaluate(NoData(), steps=num_steps, verbose=0, return_dict=True)

    def predict(self, model: keras.Model, source: Source, *, global_batch_size: int) -> Any:
        step = predicting(model, self.mesh)
        outputs: list[Any] = []
        with self.group.guarded():
            for rows in feed.evaluation_rows(source, global_batch_size, self.topology):
                arrays = jax.tree.map(lambda part: part[np.newaxis], rows.arrays)
                outputs.append(step(as_global(arrays, self.mesh, self.topology), rows.lengths))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *outputs)


class JaxEngine(Engine):
    """Trains a model over all devices.

    Args:
        model: What `JaxPlacement.build` returned.
        placement: Where it lives.
    """

    def __init__(self, model: keras.Model, placement: JaxPlacement) -> None:
        self._model, self._placement = model, placement

    def restore(self, arrays: Mapping[str, np.ndarray], targets: Sequence[Sequence[int]]) -> None:
        state.restore(self._model, arrays, put)

    def restore_weights(self, arrays: Mapping[str, np.ndarray]) -> None:
        state.restore_weights(self._model, arrays, put)

    def capture(self, cursor: Cursor) -> state.Arrays:
        self._model.jax_state_sync()
        return state.capture(self._model, self._copied)

    def capture_weights(self) -> state.Arrays:
        return state.capture_weights(self._model, self._copied)

    def _copied(self, variable: Any) -> np.ndarray:
        return whole(variable, wanted=self._placement.is_rank_zero)

    def fit(self, plan: FitPlan, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        JaxLoop(self._model, plan, self._placement.mesh, self._placement.topology).run(callbacks)


def place(settings: RunSettings, worker: Worker | None = None) -> JaxPlacement:
    """Seeds this process, chooses its devices and meets the other workers; call it before JAX's first operation.

    Args:
        settings: The run's settings.
        worker: This process's place among several; None: it is the only one.

    Raises:
        ResourceError: If the machine lacks the devices, or the workers do not meet.
        ConfigError: If the global batch does not divide by the replicas.
    """
    seed_process(settings.seed)
    section = settings.topology
    jax.config.update("jax_enable_x64", settings.training.precision == "float64")
    _prepare_devices(settings, worker)
    group = Group() if worker is None else start_group(worker, section.timeout_seconds)
    with group.guarded():
        devices = select_devices(section, is_alone=worker is None)
        distribution = make_distribution(devices, section.model_parallel, section.layout)
        num_local = len(devices) // group.world_size
        topology = deal_out(group.world_size, group.rank, num_local, section.model_parallel)
        topology.per_replica_batch_size(settings.training.global_batch_size)
    return JaxPlacement(topology, devices[0].platform == "gpu", group, distribution, section)


def seed_process(seed: int) -> None:
    """Does what `keras.utils.set_random_seed` does, which imports TensorFlow, for seconds, to seed that too."""
    global_state.set_global_attribute(rng_utils.GLOBAL_RANDOM_SEED, seed)
    global_state.set_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR, None)
    random.seed(seed)
    np.random.seed(seed)


def _prepare_devices(settings: RunSettings, worker: Worker | None) -> None:
    """Sets what JAX reads when it first looks for devices."""
    section = settings.topology
    # Without, JAX takes most of the memory of every GPU at its first use, also of those in use by others.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if settings.deterministic:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true"
        os.environ["XLA_FLAGS"] = flags.strip()
    if section.devices == "cpu" or os.environ.get("CUDA_VISIBLE_DEVICES") == "-1":
        jax.config.update("jax_platforms", "cpu")
    if worker is None:
        count = section.model_parallel * (1 if section.replicas == "auto" else section.replicas)
        try:
            jax.config.update("jax_num_cpu_devices", count)
        except RuntimeError:
            return  # JAX is running already; `select_devices` says whether its devices are enough
    elif worker.num_threads:
        os.environ["NPROC"] = str(worker.num_threads)  # what XLA takes for the number of cores


def select_devices(section: TopologySection, *, is_alone: bool) -> list[Any]:
    """Returns the JAX devices of all workers, those of a worker together.

    Raises:
        ResourceError: If there are not the devices that the section asks for.
    """
    devices = list(jax.devices())
    on_gpu = devices[0].platform == "gpu"
    if section.devices == "gpu" and not on_gpu:
        raise ResourceError(
            "The run asks for GPUs, and JAX sees none.",
            place="topology.devices",
            received=sorted({device.platform for device in devices}),
            remedy='use topology.devices: cpu, or install JAX for the GPU: pip install "jax[cuda13]"',
        )
    if not is_alone:
        return devices
    replicas = section.replicas
    if replicas == "auto":
        replicas = len(devices) // section.model_parallel if on_gpu else 1
    wanted = max(replicas, 1) * section.model_parallel
    if wanted > len(devices):
        raise ResourceError(
            f"The run needs {wanted} device(s), and JAX has {len(devices)} in this process.",
            place="topology",
            remedy="use fewer topology.replicas, or choose them before the first JAX operation of the process",
        )
    return devices[:wanted]


def check_model(model: keras.Model) -> None:
    """Refuses models that this engine cannot train.

    Raises:
        ConfigError: If a custom step is TensorFlow's, there are several optimizers, or the model runs eagerly.
    """
    for name in ("train_step", "test_step"):
        step = getattr(type(model), name)
        parameters = list(inspect.signature(step).parameters)
        if step is not getattr(keras.Model, name) and len(parameters) != 3:
            raise ConfigError(
                f"The model's own {name} is written for TensorFlow, and the engine is jax.",
                place=type(model).__name__,
                received=f"{name}({', '.join(parameters)})",
                remedy=f"write {name}(self, state, data) -> (logs, state), with state as the lists of variables that "
                "Keras's JAX guide names; or set engine: tensorflow",
            )
    if len(state.optimizers_of(model)) != 1:
        raise ConfigError(
            "The jax engine trains a model with one optimizer, the compiled one: Keras hands no other to its step.",
            place=type(model).__name__,
            received=[optimizer.name for optimizer in state.optimizers_of(model)],
            remedy="set engine: tensorflow",
        )
    if model.run_eagerly:
        raise ConfigError(
            "The jax engine compiles every step, and the model was compiled with run_eagerly=True.",
            place=type(model).__name__,
            remedy="leave run_eagerly out, or set engine: tensorflow",
        )


def make_variables(model: keras.Model, data: TrainingData) -> None:
    """Makes the variables of layers, metrics and optimizer; in the first step it is too late to lay them out.

    Raises:
        ConfigError: If layers are still without weights afterwards.
    """
    has_own_step = type(model).train_step is not keras.Model.train_step
    if not has_own_step or all(layer.built for layer in model._flatten_layers()):
        model._symbolic_build(data_batch=feed.example_of(data.train))
    unbuilt = [layer.name for layer in model._flatten_layers(include_self=False) if not layer.built]
    if unbuilt:
        raise ConfigError(
            "The model has layers without weights, and the jax engine needs them all at once.",
            received=unbuilt[:3],
            remedy="build them in the model's builder: give each keras.Sequential a keras.Input, or call it once",
        )
