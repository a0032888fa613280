"""The state of training as numbered arrays: what is committed, and what a resumed run begins with.

Arrays go by group and number (`weights/00003`), not by Keras's names: those count up within a process, so that a
model built a second time has others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from distkeras.errors import CheckpointError, TrainingError

Arrays = dict[str, np.ndarray]
# How an engine copies a variable to the host, and how it gives it a value.
Copy = Callable[[Any], np.ndarray]
Assign = Callable[[Any, np.ndarray], None]


def optimizers_of(model: keras.Model) -> list[Any]:
    """Returns every optimizer the model holds: the compiled one first, then those of custom train steps."""
    candidates = [getattr(model, "optimizer", None), *vars(model).values()]
    found: list[Any] = []
    for candidate in candidates:
        if isinstance(candidate, keras.optimizers.Optimizer) and all(candidate is not one for one in found):
            found.append(candidate)
    return found


def assigned(variable: Any, array: np.ndarray) -> None:
    """Gives a variable a value."""
    variable.assign(array)


def capture(model: keras.Model, copy: Copy) -> Arrays:
    """Copies weights, optimizers, random generators and running metrics to the host.

    Under replicas, call it after `average_replica_state`; what is copied is replica zero's.
    """
    return {name: copy(variable) for name, variable in _state(model).items()}


def capture_weights(model: keras.Model, copy: Copy) -> Arrays:
    """Copies the weights alone: what predicts, without what trains."""
    return {name: copy(variable) for name, variable in _numbered("weights", model.weights).items()}


def count_parameters(model: keras.Model) -> int:
    """Returns how many numbers the model's weights hold.

    Keras's `count_params` refuses a model that was never called itself, such as a GAN with a `train_step`.
    """
    return sum(math.prod(weight.shape) for weight in model.weights)


def optimizer_targets(model: keras.Model) -> list[list[int]]:
    """Returns, for each optimizer, which of the model's variables it was built for, by number."""
    numbers = {id(variable): number for number, variable in enumerate(model.trainable_variables)}
    return [
        [numbers[id(variable)] for variable in getattr(optimizer, "_trainable_variables", [])]
        for optimizer in optimizers_of(model)
    ]


def build_optimizers(model: keras.Model, targets: Sequence[Sequence[int]]) -> None:
    """Builds the optimizers that a custom `train_step` leaves unbuilt until its first step.

    Args:
        model: A compiled model; call this under what it was created under.
        targets: What `optimizer_targets` returned.
    """
    for optimizer, numbers in zip(optimizers_of(model), targets, strict=False):
        if not optimizer.built and numbers:
            optimizer.build([model.trainable_variables[number] for number in numbers])


def restore(model: keras.Model, arrays: Mapping[str, np.ndarray], assign: Assign = assigned) -> None:
    """Gives the model everything that `capture` copied, apart from its metrics.

    Args:
        model: A compiled model with all its variables.
        arrays: What `capture` returned.
        assign: How a variable gets a value.

    Raises:
        CheckpointError: If the arrays belong to another model.
    """
    _assign(_state(model), arrays, assign)


def restore_weights(model: keras.Model, arrays: Mapping[str, np.ndarray], assign: Assign = assigned) -> None:
    """Gives the model the weights that `capture_weights` or `capture` copied.

    Raises:
        CheckpointError: If the arrays belong to another model.
    """
    weights = {name: array for name, array in arrays.items() if name.startswith("weights/")}
    _assign(_numbered("weights", model.weights), weights, assign)


def restore_metrics(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Gives the running metrics their state back, after Keras reset them at the start of an epoch."""
    for name, variable in _numbered("metrics", model.metrics_variables).items():
        if name in arrays:
            variable.assign(arrays[name])


def require_finite(arrays: Mapping[str, np.ndarray], step: int) -> None:
    """Refuses weights that are no numbers, so that they never take the place of good ones.

    Raises:
        TrainingError: If a weight is NaN or infinite.
    """
    broken = [name for name, array in arrays.items() if name.startswith("weights/") and not _is_finite(array)]
    if broken:
        raise TrainingError(
            f"{len(broken)} of the model's weights are no longer finite numbers; they are not committed.",
            place=f"step {step}",
            remedy="lower training.optimizer.learning_rate or set global_clipnorm; the last commit is kept",
        )


def _is_finite(array: np.ndarray) -> bool:
    return array.dtype.kind in "iub" or bool(np.isfinite(array.astype(np.float32, copy=False)).all())


def _state(model: keras.Model) -> dict[str, Any]:
    generators = [variable for variable in model.variables if "seed_generator_state" in variable.path]
    state = _numbered("weights", model.weights) | _numbered("random", generators)
    for index, optimizer in enumerate(optimizers_of(model)):
        state |= _numbered(f"optimizer{index}", optimizer.variables)
    return state | _numbered("metrics", model.metrics_variables)


def _numbered(group: str, variables: Iterable[Any]) -> dict[str, Any]:
    return {f"{group}/{number:05d}": variable for number, variable in enumerate(variables)}


def _assign(state: Mapping[str, Any], arrays: Mapping[str, np.ndarray], assign: Assign) -> None:
    expected, received = _of_model(state), _of_model(arrays)
    for name in sorted(expected.keys() | received.keys()):
        in_model = tuple(expected[name].shape) if name in expected else None
        in_checkpoint = tuple(received[name].shape) if name in received else None
        if in_model != in_checkpoint:
            raise CheckpointError(
                f"The checkpoint belongs to another model: {name} has shape {in_model} in the model and "
                f"{in_checkpoint} in the checkpoint.",
                place=expected[name].path if name in expected else name,
                remedy="restore the model code and config that the run began with, or give this run another name",
            )
    for name, variable in expected.items():
        assign(variable, received[name])


def _of_model(named: Mapping[str, Any]) -> dict[str, Any]:
    # Metrics are made by the first step, so that a model which has not run lacks them; what callbacks remember is
    # theirs. Both are restored once training begins.
    return {name: value for name, value in named.items() if not name.startswith(("metrics/", "callback"))}
