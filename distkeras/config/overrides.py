"""`--set a.b=value`: one key changed from the command line, checked like the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distkeras.config.documents import Document, Plain, parse_value, value_at
from distkeras.config.keys import Key, names_in, slot_at
from distkeras.errors import ConfigError


@dataclass(frozen=True)
class Override:
    """One `--set` argument.

    Attributes:
        argument: The argument as given: `training.epochs=3`.
        key: The dotted key's parts.
        value: The value, read as YAML.
    """

    argument: str
    key: Key
    value: Plain

    @property
    def source(self) -> str:
        """How a message says that a value came from here."""
        return f"from --set {self.argument}"


def parse_override(argument: str) -> Override:
    """Reads one `--set` argument.

    Raises:
        ConfigError: It is not of the form KEY=VALUE, or the value is not YAML.
    """
    dotted, equals, text = argument.partition("=")
    key = tuple(dotted.strip().split("."))
    if not equals or not all(key):
        raise ConfigError(
            "--set takes KEY=VALUE with a dotted key.",
            received=argument,
            remedy="For example: --set training.epochs=3",
        )
    return Override(argument, key, parse_value(text, argument))


def apply_overrides(document: Document, overrides: Sequence[Override]) -> Document:
    """Returns the document with the overrides in it, in their order.

    Sections that are missing or null are created. Where a `kind` changes, keys of the file that only the old
    kind has are left out; what the command line sets stays, and is an error where the new kind lacks it.
    """
    for override in overrides:
        if override.key[-1] == "kind":
            document = _without_old_kind(document, override, overrides)
        document = _with_value(document, override.key, override.value)
    return document


def _with_value(document: Document, key: Key, value: Plain) -> Document:
    name, *rest = key
    if not rest:
        return {**document, name: value}
    inside = document.get(name)
    section = inside if isinstance(inside, dict) else {}
    return {**document, name: _with_value(section, tuple(rest), value)}


def _without_old_kind(document: Document, change: Override, overrides: Sequence[Override]) -> Document:
    key = change.key[:-1]
    slot, section = slot_at(key), value_at(document, key)
    if slot is None or not isinstance(section, dict):
        return document
    old, new = slot.of_kind(section.get("kind")), slot.of_kind(change.value)
    if old is None or new is None:
        return document
    set_here = {o.key[len(key)] for o in overrides if len(o.key) > len(key) and o.key[: len(key)] == key}
    obsolete = set(names_in(old)) - set(names_in(new)) - set_here
    return _with_value(
        document, key, {name: value for name, value in section.items() if name not in obsolete}
    )
