"""From a name in the config to a network: ours, keras.applications', or the user's own function."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from distkeras.config.sections import ModelSection
from distkeras.config.user_code import import_function, raised_at
from distkeras.errors import ConfigError, error_text
from distkeras.models.cnn import cnn
from distkeras.models.lstm import lstm
from distkeras.models.mlp import mlp

BODIES: dict[str, Callable[..., keras.KerasTensor]] = {"cnn": cnn, "lstm": lstm, "mlp": mlp}
ALIASES = {"resnet50": "applications.ResNet50"}


def build_network(
    section: ModelSection,
    *,
    inputs: keras.KerasTensor,
    preprocessed: keras.KerasTensor,
    num_outputs: int,
    activation: str | None,
) -> keras.Model:
    """Returns an uncompiled model from `inputs` to outputs of shape (batch, num_outputs), float32.

    Initial weights of `applications.<name>` are those of the network without its head; all others are of the
    whole model.

    Args:
        section: Which network, its arguments and initial weights.
        inputs: The model's input.
        preprocessed: What the network sees of it: `inputs`, or `inputs` normalised.
        num_outputs: Units of the head.
        activation: Activation of the head: `softmax` for classes, None for numbers.

    Raises:
        ConfigError: If there is no such network, it refuses its arguments, or its weights do not fit.
    """
    name = ALIASES.get(section.builder, section.builder)
    if ":" in name:
        if preprocessed is not inputs:
            raise ConfigError(
                "A model function of your own normalises its inputs itself.",
                place="data.normalize",
                remedy="set data.normalize: none and put a keras.layers.Normalization or Rescaling into the model",
            )
        function = import_function(name, "model function", "model.builder")
        model = _call(function, section, input_shape=tuple(inputs.shape[1:]), num_outputs=num_outputs)
        if not isinstance(model, keras.Model):
            raise ConfigError(
                "The model function did not return a Keras model.",
                place="model.builder",
                received=f"{section.builder} returned {type(model).__name__}",
                remedy="end the function with `return model`",
            )
    else:
        features = _features(name, section, preprocessed)
        # float32 whatever the precision: a softmax in bfloat16 has three digits.
        head = keras.layers.Dense(num_outputs, activation=activation, dtype="float32", name="predictions")
        model = keras.Model(inputs, head(features))
    if section.weights is not None and not name.startswith("applications."):
        _load_weights(model.load_weights, section.weights)
    return model


def _features(name: str, section: ModelSection, inputs: keras.KerasTensor) -> keras.KerasTensor:
    if name in BODIES:
        return _call(BODIES[name], section, inputs)
    family, _, application = name.partition(".")
    choices = [key for key, value in vars(keras.applications).items() if inspect.isfunction(value)]
    if family != "applications" or application not in choices:
        raise _unknown_builder(section.builder, choices)
    backbone = _call(
        getattr(keras.applications, application),
        section,
        include_top=False,
        weights=None,
        pooling="avg",
        input_tensor=inputs,
    )
    if section.weights is not None:
        _load_weights(backbone.load_weights, section.weights)
    return backbone.output


def _unknown_builder(name: str, applications: list[str]) -> ConfigError:
    known = [*BODIES, *ALIASES, *(f"applications.{choice}" for choice in applications)]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ConfigError(
        "There is no model of this name.",
        place="model.builder",
        received=name,
        remedy=f"{hint}use {', '.join([*BODIES, *ALIASES])}, applications.<name>, or package.module:function",
    )


def _call(function: Callable[..., Any], section: ModelSection, *args: Any, **given: Any) -> Any:
    accepted = inspect.signature(function).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    unknown = [name for name in section.arguments if name not in accepted or name in given]
    if unknown and not (open_ended and all(name not in given for name in unknown)):
        free = [name for name in accepted if name not in given and name != "inputs"]
        raise ConfigError(
            f"The model {section.builder!r} has no argument {unknown[0]!r}.",
            place=f"model.arguments.{unknown[0]}",
            remedy=f"its arguments are {', '.join(free)}",
        )
    try:
        return function(*args, **given, **section.arguments)
    except Exception as error:  # a builder is the user's code: it may raise anything
        raise ConfigError(
            f"The model {section.builder!r} could not be built: {error_text(error)}",
            place=raised_at(error),
            received=dict(section.arguments) or None,
            remedy="see model.builder and model.arguments in the config",
        ) from error


def _load_weights(load: Callable[[Path], Any], path: Path) -> None:
    if not path.is_file():
        raise ConfigError(
            "The file of initial weights does not exist.",
            place="model.weights",
            received=str(path),
            remedy="give a .weights.h5 or .keras file on this machine; nothing is downloaded",
        )
    try:
        with warnings.catch_warnings():
            # Keras only warns where the file lacks layers, and goes on with random ones.
            warnings.simplefilter("error", UserWarning)
            load(path)
    except (ValueError, OSError, UserWarning) as error:
        raise ConfigError(
            f"The initial weights do not fit the model: {str(error).splitlines()[0]}",
            place="model.weights",
            received=str(path),
            remedy="use weights saved from the same model with the same arguments",
        ) from error
