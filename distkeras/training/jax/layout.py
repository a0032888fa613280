"""Where the variables of a model lie: whole on every device, or split over the devices that share one model."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import keras
import numpy as np
from jax.experimental import multihost_utils

from distkeras.errors import ConfigError
from distkeras.topology import Topology
from distkeras.training.jax.group import Group

BATCH, MODEL = "batch", "model"
# One pattern: for each axis of the variables that it names, `model` or None.
Layout = Mapping[str, Sequence[str | None]]


def make_distribution(devices: Sequence[Any], model_parallel: int, layout: Layout) -> Any:
    """Returns the Keras distribution over some devices; each `model_parallel` neighbours share one model.

    Args:
        devices: JAX devices of all workers, those of a worker together.
        model_parallel: Devices that one model is split over.
        layout: Patterns of the paths of variables that are split, and along which axes.
    """
    names = np.array([f"{device.platform}:{device.id}" for device in devices])
    if model_parallel == 1:
        return keras.distribution.DataParallel(devices=names.tolist(), auto_shard_dataset=False)
    mesh = keras.distribution.DeviceMesh(
        (len(devices) // model_parallel, model_parallel), [BATCH, MODEL], names.tolist()
    )
    layout_map = keras.distribution.LayoutMap(mesh)
    for pattern, axes in layout.items():
        layout_map[pattern] = tuple(axes)
    return keras.distribution.ModelParallel(
        layout_map=layout_map, batch_dim_name=BATCH, auto_shard_dataset=False
    )


def deal_out(world_size: int, rank: int, num_local_devices: int, model_parallel: int) -> Topology:
    """Returns how the batch is dealt out: workers that share one model read the same part of it.

    Args:
        world_size: Number of worker processes.
        rank: Index of this one.
        num_local_devices: Devices of each worker.
        model_parallel: Devices that one model is split over.

    Raises:
        ConfigError: If the devices do not divide by the models.
    """
    if num_local_devices % model_parallel == 0:
        return Topology(world_size, rank, num_local_devices // model_parallel)
    workers_of_model, rest = divmod(model_parallel, num_local_devices)
    if rest or world_size % workers_of_model:
        raise ConfigError(
            f"The {world_size} workers with {num_local_devices} device(s) each do not divide by models over "
            f"{model_parallel} devices.",
            place="topology.model_parallel",
            received=model_parallel,
            remedy=f"use a divisor of {world_size * num_local_devices}, or other numbers of workers",
        )
    return Topology(world_size // workers_of_model, rank // workers_of_model, 1)


def check_layout(model: keras.Model, layout: Layout, model_parallel: int) -> None:
    """Refuses patterns that name no weight, or one that cannot be split as they say.

    Raises:
        ConfigError: Naming the pattern.
    """
    paths = [weight.path for weight in model.weights]
    owners: dict[str, str] = {}
    for pattern, axes in layout.items():
        matched = [weight for weight in model.weights if re.fullmatch(pattern, weight.path)]
        if not matched:
            near = difflib.get_close_matches(pattern, paths, n=3, cutoff=0.0)
            raise _refusal(
                pattern, "matches none of the model's weights.", near, "match the whole path of a weight"
            )
        for weight in matched:
            _check_axes(pattern, axes, weight, model_parallel)
            if (other := owners.setdefault(weight.path, pattern)) != pattern:
                raise _refusal(
                    pattern, f"matches {weight.path}, as {other!r} does.", None, "let one match each weight"
                )


def _check_axes(pattern: str, axes: Sequence[str | None], weight: Any, model_parallel: int) -> None:
    shape = tuple(weight.shape)
    if len(axes) != len(shape):
        raise _refusal(
            pattern,
            f"names {len(axes)} axes, and {weight.path} has {len(shape)}.",
            list(axes),
            f"write one of null and {MODEL} for each axis of {shape}",
        )
    for axis, size in zip(axes, shape, strict=True):
        if axis is not None and size % model_parallel:
            raise _refusal(
                pattern,
                f"splits an axis of {weight.path} that does not divide by {model_parallel}.",
                shape,
                "split another axis, or change the layer's size or topology.model_parallel",
            )


def _refusal(pattern: str, problem: str, received: object, remedy: str) -> ConfigError:
    return ConfigError(
        f"A pattern of the layout {problem}",
        place=f"topology.layout: {pattern}",
        received=received,
        remedy=remedy,
    )


def adopt(model: keras.Model, distribution: Any, group: Group) -> None:
    """Moves a model that every worker built on a device of its own to all devices together. Collective.

    Built under the distribution, each variable would be a collective of its own, and a model that differs by rank
    would hang or crash the workers. `_layout` and `_value` are Keras's own names; the tests of this engine fail when
    they are gone.

    Raises:
        ConfigError: If a worker built another model.
    """
    variables = variables_of(model)
    group.require_same(
        {
            "the shapes of the model's variables": [[*v.shape, str(v.dtype)] for v in variables],
            "the initial values of the model's variables": [_digest(v) for v in variables],
        }
    )
    layout_of = _layouts(model, distribution)
    keras.distribution.set_distribution(distribution)
    for variable in variables:
        array = np.asarray(variable.value)
        variable._layout = layout_of(variable)
        put(variable, array)


def variables_of(model: keras.Model) -> list[Any]:
    """Returns everything that a step changes: weights, random states, the optimizer's and the metrics' variables."""
    optimizer = getattr(model, "optimizer", None)
    own = [*model.variables, *(optimizer.variables if optimizer else []), *model.metrics_variables]
    return list({id(variable): variable for variable in own}.values())


def put(variable: Any, array: np.ndarray) -> None:
    """Gives a variable a value, each worker its own part of it; nothing is sent."""
    sharding = variable._layout.backend_layout
    array = np.asarray(array, jax.numpy.dtype(variable.dtype))
    variable._value = jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def whole(variable: Any, *, wanted: bool) -> np.ndarray:
    """Copies a variable to the host. Collective where it is split over workers.

    Args:
        variable: A variable that `adopt` moved.
        wanted: Whether this worker needs the copy; without, an empty array may come back.
    """
    value = variable.value
    if not (value.is_fully_addressable or value.is_fully_replicated):
        return np.array(multihost_utils.process_allgather(value, tiled=True))
    return np.array(value) if wanted else np.empty(0)


def _layouts(model: keras.Model, distribution: Any) -> Callable[[Any], Any]:
    """Returns the layout of each variable; an optimizer's state lies as the weight that it belongs to."""
    by_name = {weight.path.replace("/", "_"): weight for weight in model.trainable_variables}
    optimizer = getattr(model, "optimizer", None)
    of_optimizer = {id(variable) for variable in (optimizer.variables if optimizer else [])}

    def layout_of(variable: Any) -> Any:
        if id(variable) in of_optimizer:
            # Its path is adam/<path of the weight, with _ for />_momentum.
            name = variable.path.rpartition("/")[2]
            owners = [key for key, weight in by_name.items() if weight.shape == variable.shape]
            owners = [key for key in owners if name.startswith(f"{key}_")]
            if owners:
                return distribution.get_variable_layout(by_name[max(owners, key=len)])
        return distribution.get_variable_layout(variable)

    return layout_of


def _digest(variable: Any) -> str:
    content = np.ascontiguousarray(np.asarray(variable.value))
    return f"{variable.path}: {hashlib.sha256(content.tobytes()).hexdigest()[:16]}"
