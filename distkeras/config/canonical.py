"""A config as plain values, as YAML, as a hash, and what differs between two."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from distkeras.config.documents import render_document
from distkeras.config.section import Section
from distkeras.config.sections import Config

# What a run may change between two attempts without changing its numbers up to the step it has reached.
FREE_KEYS: Final = (
    "name",
    "output_dir",
    "logging",
    "checkpoint",
    "topology.replicas",
    "topology.devices",
    "topology.kind",
    "topology.workers",
    "topology.resources_per_worker",
    "topology.placement",
    "topology.max_failures",
    "topology.timeout_seconds",
    "topology.model_parallel",
    "topology.layout",
    "training.epochs",
    "training.steps_per_execution",
    "data.num_parallel_calls",
    "data.ram_budget_bytes",
    # Where data lies may change; what it is may not, and that is the fingerprint's to say.
    "data.source.path",
    "data.validation.path",
    "data.test.path",
)


class Absent(enum.Enum):
    """The value of a key that one of two configs does not have."""

    ABSENT = "(absent)"

    def __str__(self) -> str:
        return self.value


ABSENT: Final = Absent.ABSENT


def to_mapping(config: Config) -> dict[str, Any]:
    """Returns the config as dicts, lists, text and numbers, for JSON or YAML; keys in a fixed order."""
    return {"name": config.name, **_section(config)}


def dump_yaml(config: Config) -> str:
    """Returns YAML with every key and value, which `load_config` reads back to an equal config."""
    return render_document(to_mapping(config))


def identity(config: Config) -> str:
    """Returns the SHA-256, in hexadecimal, of what changes the numbers of a run.

    It is the same in every process. Where a run is written, how it is logged and committed, on which devices
    it runs and for how long (`FREE_KEYS`) are left out.
    """
    mapping = to_mapping(config)
    for key in FREE_KEYS:
        _remove(mapping, key)
    return hashlib.sha256(_canonical(mapping).encode()).hexdigest()


def diff(a: Config, b: Config) -> list[tuple[str, Any, Any]]:
    """Returns the dotted keys whose values differ, each with both values.

    A value is `ABSENT` where one of the configs has no such key.
    """
    return list(differences(to_mapping(a), to_mapping(b)))


def differences(a: Any, b: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yields the dotted keys whose values differ in two trees of JSON values, each with both values, as `diff` does."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for name in [*a, *(name for name in b if name not in a)]:
            dotted = f"{prefix}.{name}" if prefix else str(name)
            yield from differences(a.get(name, ABSENT), b.get(name, ABSENT), dotted)
    elif ABSENT in (a, b) or _canonical(a) != _canonical(b):
        yield prefix, a, b


def schema() -> dict[str, Any]:
    """Returns the JSON schema of a config file, with each key's docstring as its description, for editors."""
    result = Config.model_json_schema()
    result["required"].remove("name")  # the loader takes it from the file's name
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **result}


def _section(section: Section) -> dict[str, Any]:
    # A section's own keys before inherited ones: what a run is about stands before how it runs.
    own = type(section).__annotations__
    names = sorted(type(section).model_fields, key=lambda name: name not in own)
    return {name: _plain(getattr(section, name)) for name in names}


def _plain(value: Any) -> Any:
    match value:
        case Section():
            return _section(value)
        case Mapping():
            return {name: _plain(inside) for name, inside in value.items()}
        case list() | tuple():
            return [_plain(inside) for inside in value]
        case Path():
            return str(value)
        case _:
            return value


def _remove(mapping: dict[str, Any], dotted: str) -> None:
    *sections, name = dotted.split(".")
    for section in sections:
        mapping = mapping.get(section) or {}
    mapping.pop(name, None)


def _canonical(value: Any) -> str:
    """One text for one value; unlike `==` it tells true from 1."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
