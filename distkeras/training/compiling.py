"""From names in the config to Keras objects: optimizer, schedule, loss, metrics, and the compiled model."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import keras

from distkeras.config.sections import NamedObject, OptimizerSection, TrainingSection
from distkeras.errors import ConfigError

# Keras picks the variant that fits labels and outputs, and knows these names in `compile` alone.
_FITTED_TO_LABELS = ("accuracy", "acc", "crossentropy", "ce")


def compile_model(
    model: keras.Model, section: TrainingSection, *, loss: str, metrics: Sequence[str], jit_compile: bool
) -> None:
    """Compiles a model as the config says.

    Args:
        model: The model; one that its builder compiled already keeps what it has.
        section: Optimizer, loss, metrics and accumulation.
        loss: The task's loss, where the section names none.
        metrics: The task's metrics, where the section names none.
        jit_compile: Whether XLA compiles the step.

    Raises:
        ConfigError: If Keras has no object of a name, or refuses its arguments.
    """
    if getattr(model, "compiled", False):
        return
    chosen_metrics = metrics if section.metrics is None else section.metrics
    model.compile(
        optimizer=make_optimizer(section.optimizer, section.gradient_accumulation_steps),
        loss=_loss(section.loss or loss),
        metrics=[_metric(metric, index) for index, metric in enumerate(chosen_metrics)],
        jit_compile=jit_compile,
    )


def make_optimizer(section: OptimizerSection, accumulation_steps: int = 1) -> keras.optimizers.Optimizer:
    """Returns the optimizer of a config section.

    Raises:
        ConfigError: If Keras has no such optimizer or schedule, or refuses its arguments.
    """
    place = "training.optimizer"
    arguments = dict(section.arguments)
    if accumulation_steps > 1:
        arguments["gradient_accumulation_steps"] = accumulation_steps
    rate = section.learning_rate
    if isinstance(rate, NamedObject):
        rate = _make(keras.optimizers.schedules, rate.name, rate.arguments, f"{place}.learning_rate")
    return _make(keras.optimizers, section.name, {"learning_rate": rate, **arguments}, place)


def _loss(loss: str | NamedObject) -> Any:
    if isinstance(loss, str):
        return _known(keras.losses, loss, "training.loss")
    return _make(keras.losses, loss.name, loss.arguments, "training.loss")


def _metric(metric: str | NamedObject, index: int) -> Any:
    place = f"training.metrics.{index}"
    if isinstance(metric, NamedObject):
        return _make(keras.metrics, metric.name, metric.arguments, place)
    return metric if metric in _FITTED_TO_LABELS else _known(keras.metrics, metric, place)


def _known(module: ModuleType, name: str, place: str) -> str:
    """Returns the name if Keras knows it, with all its short forms; `compile` does the rest."""
    try:
        module.get(name)
    except ValueError:
        _find(module, name, place)
    return name


def _make(module: ModuleType, name: str, arguments: Mapping[str, Any], place: str) -> Any:
    found = _find(module, name, place)
    try:
        return found(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"Keras refuses the arguments of {name!r}: {str(error).splitlines()[0]}",
            place=f"{place}.arguments",
            received=dict(arguments),
            remedy=f"see keras.{module.__name__.rpartition('.')[2]}.{found.__name__} for its arguments",
        ) from error


def _find(module: ModuleType, name: str, place: str) -> Any:
    public = {
        key: value for key, value in vars(module).items() if callable(value) and not key.startswith("_")
    }
    kind = module.__name__.rpartition(".")[2]
    # keras.losses and keras.metrics have functions of the same folded names, which take no arguments but the data.
    folded = {
        _fold(key): value for key, value in sorted(public.items(), key=lambda item: isinstance(item[1], type))
    }
    if _fold(name) in folded:
        return folded[_fold(name)]
    near = difflib.get_close_matches(_fold(name), folded, n=1)
    hint = f"did you mean {folded[near[0]].__name__!r}? " if near else ""
    raise ConfigError(
        f"Keras has nothing of this name in keras.{kind}.",
        place=place,
        received=name,
        remedy=f"{hint}use a name from keras.{kind}, such as {', '.join(sorted(public)[:3])}",
    )


def _fold(name: str) -> str:
    return name.replace("_", "").lower()
