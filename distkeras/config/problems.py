"""Everything that is wrong with a config, each problem one line: key, expected, received, did you mean."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distkeras.config.keys import (
    ROOT,
    Key,
    Place,
    Slot,
    all_keys,
    describe,
    kind_slot,
    names_in,
    place_of,
    required_names,
)
from distkeras.errors import ConfigError

MAX_LINES = 12
MAX_VALUE_CHARACTERS = 80
_SWITCHES = {"yes": "true", "on": "true", "no": "false", "off": "false"}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a config.

    Attributes:
        key: The parts of the dotted key.
        text: What was expected, what was received, what to write instead.
        source: Where the value came from where that is not the file: a `--set` argument.
        suggestion: The key that an unknown key was probably meant to be.
        is_missing: Whether a required key is not there.
    """

    key: Key
    text: str
    source: str | None = None
    suggestion: Key | None = None
    is_missing: bool = False

    @property
    def line(self) -> str:
        """The problem as one line of a message."""
        origin = f" ({self.source})" if self.source else ""
        # A key with a line break or a lone surrogate in it must not break the message.
        key = ".".join(part if part.isprintable() else ascii(part) for part in self.key)
        return f"{key}: {self.text}{origin}"


class InvalidConfigError(ConfigError):
    """A config with problems, all of them at once.

    Args:
        origin: Name of the file, or of whatever the config came from.
        problems: At least one problem.
    """

    def __init__(self, origin: str, problems: Sequence[Problem]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{count} in {origin}")
        self.origin = origin
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is unpickled from its `args`, and those hold the finished sentence.
        return type(self), (self.origin, self.problems)

    def lines(self) -> list[str]:
        """Returns the message as the console prints it: at most 12 lines."""
        lines = [self.problem, *(f"  {problem.line}" for problem in self.problems)]
        if len(lines) > MAX_LINES:
            hidden = len(lines) - MAX_LINES + 1
            lines[MAX_LINES - 1 :] = [f"  ... and {hidden} more"]
        return lines


def structural_problems(errors: Iterable[Mapping[str, Any]]) -> list[Problem]:
    """Returns one problem for each key that pydantic's errors are about.

    Args:
        errors: `ValidationError.errors()`. A value that fits no member of a union comes once for each member.
    """
    found = [(_located(error), error) for error in errors]
    keys = {place.key for place, _ in found}
    problems: dict[Key, Problem] = {}
    for place, error in found:
        # A mapping given for `float | NamedObject` is no float, but what is wrong is inside the mapping.
        inside = any(key[: len(place.key)] == place.key and key != place.key for key in keys)
        if not (place.is_alternative and inside):
            problems.setdefault(place.key, _problem(place, error))
    return _without_explained(list(problems.values()))


def is_related(first: Key, second: Key) -> bool:
    """Returns whether one of two keys is, or holds, the other."""
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]


def show(value: object) -> str:
    """Returns a value on one line as YAML has it, `"text"`, `true`, `null`; a long one is shortened."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= MAX_VALUE_CHARACTERS else f"{text[: MAX_VALUE_CHARACTERS - 3]}..."


def closest(word: object, choices: Iterable[str]) -> str | None:
    """Returns the choice that `word` is probably a misspelling of; None: it is like none of them."""
    by_lower = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(str(word).lower().replace("-", "_"), by_lower, n=1)
    return by_lower[close[0]] if close else None


def _located(error: Mapping[str, Any]) -> Place:
    location: tuple[int | str, ...] = error["loc"]
    if location[-1] == "[key]":
        return place_of(location[:-1])
    place = place_of(location)
    if error["type"].startswith("union_tag"):
        return Place((*place.key, "kind"), kind_slot(place.slot or ROOT), place.parent, is_alternative=False)
    if error["type"] == "missing" and isinstance(location[-1], int):
        return place_of(location[:-1])
    return place


def _problem(place: Place, error: Mapping[str, Any]) -> Problem:
    value: Any = error["input"]
    if error["type"] == "extra_forbidden" or place.slot is None:
        return _unknown_key(place)
    if error["type"] == "missing" and isinstance(error["loc"][-1], str):
        return _missing(place.key, place.slot)
    if error["type"] == "union_tag_not_found":
        return _missing(place.key, place.slot)
    if error["loc"][-1] == "[key]":
        return Problem(place.key, "expected a whole number as the key")
    if error["type"] == "union_tag_invalid":
        return _wrong_value(place.key, place.slot, value.get("kind"))
    return _wrong_value(place.key, place.slot, value)


def _missing(key: Key, slot: Slot) -> Problem:
    return Problem(key, f"required, expected {describe(slot)}", is_missing=True)


def _wrong_value(key: Key, slot: Slot, value: object) -> Problem:
    text = f"expected {describe(slot)}, received {show(value)}"
    return Problem(key, "; ".join([text, *_advice(slot, value)]))


def _advice(slot: Slot, value: object) -> Iterator[str]:
    alternatives = {member.annotation for member in (slot.members or (slot,))}
    if isinstance(value, str):
        choices = [str(choice) for choice in slot.choices]
        meant = closest(value, choices) or (_SWITCHES.get(value.lower()) if bool in alternatives else None)
        if meant:
            yield f"did you mean {meant}?"
    elif str in alternatives and isinstance(value, bool | int | float):
        yield f'write it in quotes, "{json.dumps(value)}", if text is meant'
    elif value is None and slot.section and not required_names(slot):
        yield "remove the key, or write {}"


def _unknown_key(place: Place) -> Problem:
    *parents, name = place.key
    if tuple(name.split(".")) in all_keys():
        return Problem(place.key, "dots join keys only in --set; in a file, write nested keys")
    siblings = names_in(place.parent)
    if sibling := closest(name, siblings):
        meant: Key | None = (*parents, sibling)
    else:
        meant = _elsewhere(place.key)
    if meant:
        return Problem(place.key, f"unknown key; did you mean {'.'.join(meant)}?", suggestion=meant)
    where = ".".join(parents) or "the top level"
    return Problem(place.key, f"unknown key; {where} has {', '.join(siblings)}")


def _elsewhere(key: Key) -> Key | None:
    """The key of another section that has this name, or nearly: `batch_size` at the top level."""
    by_name: dict[str, Key] = {}
    for known in all_keys():
        by_name.setdefault(known[-1], known)
    name = closest(key[-1], by_name)
    # A key next to this one belongs to another kind of source, and would be refused as well.
    return by_name[name] if name and by_name[name][:-1] != key[:-1] else None


def _without_explained(problems: list[Problem]) -> list[Problem]:
    """Leaves out required keys that are only missing because they were misspelt."""
    meant = {problem.suggestion for problem in problems if problem.suggestion}
    return [problem for problem in problems if not (problem.is_missing and problem.key in meant)]
