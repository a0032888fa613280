"""Functions of the user that make data, named in a config as `package.module:function`."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distkeras.errors import ConfigError


def import_function(reference: str, accepted: tuple[str, ...] = ()) -> Callable[..., Any]:
    """Imports a function; the working directory is searched first.

    Args:
        reference: The function, as `package.module:function`.
        accepted: Names of the arguments that it may be given; it must need no others.

    Raises:
        ConfigError: If it cannot be imported, is no function, or needs other arguments.
    """
    module_name, _, name = reference.partition(":")
    if str(Path.cwd()) not in sys.path:
        # A console script's path lacks the working directory, which is where a user's module lies.
        sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module_name), name)
    except Exception as error:  # importing runs the user's code: it may raise anything
        raise ConfigError(
            f"The function of the data cannot be imported: {sentence(error)}",
            place=f"data.source.function, {raised_at(error)}",
            received=reference,
            remedy="name it package.module:function (the working directory is searched first), or mend the module",
        ) from error
    _require_callable(function, reference, accepted)
    return function


def takes(function: Callable[..., Any], name: str) -> bool:
    """Returns whether a function has a parameter of this name."""
    return name in inspect.signature(function).parameters


def sentence(error: Exception) -> str:
    """Returns an error's type and the first line of its text."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def raised_at(error: Exception) -> str:
    """Returns the file and line that raised, which is where a user looks first."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{frame.filename}:{frame.lineno}"


def _require_callable(function: Any, reference: str, accepted: tuple[str, ...]) -> None:
    if not callable(function):
        raise ConfigError(
            "What is named as the function of the data is none.",
            place="data.source.function",
            received=f"{reference} is of type {type(function).__name__}",
            remedy="name a function, as package.module:function",
        )
    needed = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty and parameter.kind not in _OPEN_ENDED
    ]
    unknown = [name for name in needed if name not in accepted]
    if unknown:
        given = f"only {' and '.join(accepted)} can be given" if accepted else "it is called without any"
        raise ConfigError(
            f"The function of the data needs an argument {unknown[0]!r}.",
            place="data.source.function",
            received=reference,
            remedy=f"give it a default: {given}",
        )


_OPEN_ENDED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
