"""Code of the user that a config names as `package.module:function`: how it is found, and where it failed."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distkeras.errors import ConfigError, error_text

_OURS = f"{Path(__file__).parents[1]}{os.sep}"
_LIBRARIES = tuple({f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "purelib", "platlib")})
_OPEN_ENDED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def import_function(
    reference: str, subject: str, place: str, accepted: tuple[str, ...] | None = None
) -> Callable[..., Any]:
    """Imports a function; the working directory is searched first.

    Args:
        reference: The function, as `package.module:function`.
        subject: What the function is, for messages: `model function`.
        place: The dotted key of the config that names it.
        accepted: Names of the arguments that it may be given; it must need no others. None asks for nothing.

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
            f"The {subject} cannot be imported: {error_text(error)}",
            place=", ".join(filter(None, (place, raised_at(error)))),
            received=reference,
            remedy="name it package.module:function (the working directory is searched first), or mend the module",
        ) from error
    if not callable(function):
        raise ConfigError(
            f"What is named as the {subject} is none.",
            place=place,
            received=f"{reference} is of type {type(function).__name__}",
            remedy="name a function, as package.module:function",
        )
    unknown = [] if accepted is None else [name for name in _needed(function) if name not in accepted]
    if unknown:
        given = f"only {' and '.join(accepted)} can be given" if accepted else "it is called without any"
        raise ConfigError(
            f"The {subject} needs an argument {unknown[0]!r}.",
            place=place,
            received=reference,
            remedy=f"give it a default: {given}",
        )
    return function


def takes(function: Callable[..., Any], name: str) -> bool:
    """Returns whether a function has a parameter of this name."""
    return name in inspect.signature(function).parameters


def raised_at(error: Exception) -> str | None:
    """Returns the file and line where a user looks first: the last of their own, or else of a library."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}:{error.lineno}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<", _OURS))
    ]
    own = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)]
    return next((f"{frame.filename}:{frame.lineno}" for frame in (own or frames)[::-1]), None)


def _needed(function: Callable[..., Any]) -> list[str]:
    return [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is parameter.empty and parameter.kind not in _OPEN_ENDED
    ]
