"""A run's settings from Python: the keys of a config file, by dotted name, without task, source and model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from distkeras.config.problems import InvalidConfigError, Problem, structural_problems
from distkeras.config.section import Section
from distkeras.config.sections import InputSection, RunSettings

ORIGIN = "the settings"
AnySection = TypeVar("AnySection", bound=Section)


def settings_from_mapping(settings: Mapping[str, Any]) -> tuple[RunSettings, InputSection]:
    """Returns the sections that dotted keys describe: `{"name": "digits", "training.epochs": 3}`.

    Args:
        settings: Values by dotted key; `data.shuffle`, `data.remainder` and `data.image` are the input's.

    Raises:
        ConfigError: If a key or value is wrong; the message lists every problem by its dotted key.
    """
    document: dict[str, Any] = {}
    for key, value in settings.items():
        _put(document, key.split("."), value)
    problems: list[Problem] = []
    input = _validated(InputSection, document.pop("data", {}), ("data",), problems)
    run = _validated(RunSettings, document, (), problems)
    if run is None or input is None:
        raise InvalidConfigError(ORIGIN, problems)
    return run, input


def _put(document: dict[str, Any], names: list[str], value: Any) -> None:
    *sections, last = names
    for name in sections:
        document = document.setdefault(name, {})
    document[last] = value


def _validated(
    kind: type[AnySection], values: Any, prefix: tuple[str, ...], problems: list[Problem]
) -> AnySection | None:
    try:
        return kind.model_validate_json(json.dumps(values, default=os.fspath), strict=True)
    except ValidationError as error:
        found = cast("list[dict[str, Any]]", error.errors(include_url=False))
        problems += structural_problems([{**one, "loc": (*prefix, *one["loc"])} for one in found])
        return None
    except TypeError as error:
        problems.append(Problem(prefix, f"expected plain values: {error}"))
        return None
