"""From a YAML file and `--set` arguments to a valid config, or to everything that is wrong with them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from distkeras.config.documents import Document, read_document, value_at
from distkeras.config.keys import Key, place_of
from distkeras.config.overrides import apply_overrides, parse_override
from distkeras.config.plain import plain_values
from distkeras.config.problems import InvalidConfigError, Problem, is_related, show, structural_problems
from distkeras.config.rules import rule_problems
from distkeras.config.sections import Config

# Stands for every member of a list.
EACH = "*"
INPUT_PATHS: tuple[Key, ...] = (
    ("data", "source", "sources", EACH, "source", "path"),
    ("data", "validation", "sources", EACH, "source", "path"),
    ("data", "test", "sources", EACH, "source", "path"),
    ("data", "cache", "folder"),
    ("data", "source", "path"),
    ("data", "validation", "path"),
    ("data", "test", "path"),
    ("model", "weights"),
)
OUTPUT_PATHS: tuple[Key, ...] = (("output_dir",),)

Sources = Mapping[Key, str]


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a config file. Defaults, then the file, then `--set` arguments; nothing from the environment.

    Args:
        path: The YAML file. Its stem is the run's name where it gives none, and its folder is where relative
            input paths start.
        overrides: `--set` arguments, `training.epochs=3`; of two for one key the last holds.

    Raises:
        ConfigError: The file or an argument cannot be read.
        InvalidConfigError: The config is not valid; the message lists every problem by its dotted key.
    """
    changes = [parse_override(argument) for argument in overrides]
    document = apply_overrides(read_document(path), changes)
    sources = {change.key: change.source for change in changes}
    if "name" not in document:
        document = {"name": path.stem, **document}
        sources["name",] = "from the file's name; give the config a name"
    return _validated(document, str(path), path.parent, sources)


def config_from_mapping(mapping: Mapping[str, Any], *, origin: str, base_folder: Path) -> Config:
    """Returns the config that plain values describe: what `to_mapping` gives, or a dict written in Python.

    Args:
        mapping: Sections and keys as in a config file; paths may be `Path`, tuples may stand for lists.
        origin: Names the mapping in error messages.
        base_folder: Where relative input paths start.

    Raises:
        InvalidConfigError: The config is not valid; the message lists every problem by its dotted key.
    """
    return _validated(mapping, origin, base_folder, {})


def _validated(mapping: Mapping[str, Any], origin: str, base_folder: Path, sources: Sources) -> Config:
    document, problems = plain_values(mapping)
    problems += [*_empty_paths(document), *_misplaced_uris(document)]
    for key in INPUT_PATHS:
        document = _with_absolute_path(document, key, base_folder)
    config = _structure(document, problems)
    if config is not None:
        problems += rule_problems(config, [problem.key for problem in problems])
    if config is None or problems:
        raise InvalidConfigError(origin, [_with_source(problem, sources) for problem in problems])
    return config


def _structure(document: Document, problems: list[Problem]) -> Config | None:
    """Validates types and limits, adding to `problems`. With problems: the config without the faulty keys.

    That lets rules between keys speak in the same message; None where what is left is no config.
    """
    try:
        return _parse(document)
    except ValidationError as error:
        known = {problem.key for problem in problems}
        found = structural_problems(cast("list[dict[str, Any]]", error.errors(include_url=False)))
        problems += [problem for problem in found if problem.key not in known]
    for problem in problems:
        document = _without(document, problem.key)
    try:
        return _parse(document)
    except ValidationError:
        return None


def _parse(document: Document) -> Config:
    # Through JSON, because strict mode on Python values refuses text for a Path and a list for a tuple.
    return Config.model_validate_json(json.dumps(document), strict=True)


def _empty_paths(document: Document) -> Iterator[Problem]:
    for key in (*INPUT_PATHS, *OUTPUT_PATHS):
        if value_at(document, key) == "":
            yield Problem(key, 'expected a path, received ""')


def _misplaced_uris(document: Document) -> Iterator[Problem]:
    """A URI where only a path can be opened would become a path that nobody wrote."""
    for key in INPUT_PATHS:
        value, kind = value_at(document, key), value_at(document, (*key[:-1], "kind"))
        location = (*key[:-1], kind, key[-1]) if isinstance(kind, str) else key
        slot = place_of(location).slot
        if slot is not None and slot.annotation is Path and isinstance(value, str) and _is_uri(value):
            yield Problem(key, f"expected a path, received {show(value)}; only kind parquet opens URIs")


def _is_uri(text: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def _with_absolute_path(document: Document, key: Key, base_folder: Path) -> Document:
    name, *rest = key
    inside = document.get(name)
    if rest and rest[0] == EACH and isinstance(inside, list):
        members = cast("list[Any]", inside)
        resolved = [_with_absolute_path({EACH: one}, tuple(rest), base_folder)[EACH] for one in members]
        return {**document, name: resolved}
    if rest and isinstance(inside, dict):
        return {**document, name: _with_absolute_path(inside, tuple(rest), base_folder)}
    # A URI stays as it is: it says by itself where it starts, and normpath would make s3:/ of s3://.
    if not rest and isinstance(inside, str) and inside and not _is_uri(inside):
        return {**document, name: os.path.normpath(base_folder.resolve() / inside)}
    return document


def _without(document: Document, key: Key) -> Document:
    """The document without one key, or without the whole list that the key points into."""
    name, *rest = key
    inside = document.get(name)
    if rest and isinstance(inside, dict):
        return {**document, name: _without(inside, tuple(rest))}
    return {other: value for other, value in document.items() if other != name}


def _with_source(problem: Problem, sources: Sources) -> Problem:
    """Names the `--set` argument that a problem comes from: one that set this key, or part of it."""
    for key, source in reversed(list(sources.items())):
        asked_for = problem.is_missing and key[-1] == "kind" and problem.key[:-1] == key[:-1]
        if is_related(key, problem.key) or asked_for:
            return replace(problem, source=source)
    return problem
