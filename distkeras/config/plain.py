"""Values from YAML or Python as JSON holds them, because strict validation goes through JSON."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

from distkeras.config.documents import Document, Plain
from distkeras.config.keys import Key
from distkeras.config.problems import Problem, show

_TEXT = "expected text without NUL and lone surrogates"


def plain_values(mapping: Mapping[str, object]) -> tuple[Document, list[Problem]]:
    """Returns the mapping with paths as text, tuples as lists and keys as text.

    What JSON cannot hold, and what no file name or seed may be, becomes null and a problem.
    """
    problems: list[Problem] = []
    return _mapping(mapping, (), problems), problems


def _mapping(mapping: Mapping[Any, object], key: Key, problems: list[Problem]) -> Document:
    result: Document = {}
    for name, value in mapping.items():
        inside = (*key, str(name))
        if _is_text(str(name)):
            result[str(name)] = _plain(value, inside, problems)
        else:
            problems.append(Problem(inside, f"{_TEXT} as the key"))
    return result


def _plain(value: object, key: Key, problems: list[Problem]) -> Plain:
    match value:
        case Mapping():
            return _mapping(cast("Mapping[Any, object]", value), key, problems)
        case list() | tuple():
            items = enumerate(cast("Sequence[object]", value))
            return [_plain(inside, (*key, str(index)), problems) for index, inside in items]
        case os.PathLike():
            return _plain(os.fspath(cast("os.PathLike[str]", value)), key, problems)
        case None | bool() | int() | float() | str() if _is_json(value):
            return value
        case _:
            problems.append(Problem(key, f"{_expected(value)}, received {show(value)}"))
            return None


def _is_json(value: object) -> bool:
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, str) or _is_text(value)


def _is_text(value: str) -> bool:
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value)


def _expected(value: object) -> str:
    if isinstance(value, int):
        return "expected a whole number of at most 64 bits"
    if isinstance(value, float):
        return "expected a finite number"
    if isinstance(value, str):
        return _TEXT
    return "expected a plain value (text, number, true, false, null, list or mapping)"
