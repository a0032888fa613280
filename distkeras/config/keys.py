"""What the sections declare at each dotted key, in words: the knowledge behind readable error messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic.fields import FieldInfo

from distkeras.config.section import Section
from distkeras.config.sections import Config

Key = tuple[str, ...]

_NOUNS = {
    bool: ("true or false", "booleans"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
}
_LIMITS = {
    "gt": "> {}",
    "ge": ">= {}",
    "lt": "< {}",
    "le": "<= {}",
    "min_length": "of at least {} characters",
    "max_length": "of at most {} characters",
    "pattern": "matching {}",
}


@dataclass(frozen=True)
class Slot:
    """A place for a value: its type without `| None` and `Annotated`, and its limits.

    Attributes:
        annotation: The type, as the section declares it.
        limits: Markers of annotated_types and pydantic: `Gt`, `MaxLen`, a pattern.
        discriminator: The key that chooses among sections of a union; None: not such a union.
        nullable: Whether null is allowed.
    """

    annotation: Any
    limits: tuple[Any, ...] = ()
    discriminator: str | None = None
    nullable: bool = False

    @property
    def members(self) -> tuple[Slot, ...]:
        """The alternatives of a union; empty for any other type."""
        if get_origin(self.annotation) not in (Union, UnionType):
            return ()
        return tuple(slot_of(member, self.limits) for member in get_args(self.annotation))

    @property
    def section(self) -> type[Section] | None:
        """The section that fills this place; None: a value or a union."""
        return self.annotation if _is_section(self.annotation) else None

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values that can be named: those of literals, also inside a union, and the kinds of a union."""
        if self.discriminator is not None:
            return tuple(kind for member in self.members for kind in _kinds(member, self.discriminator))
        if get_origin(self.annotation) is Literal:
            return get_args(self.annotation)
        return tuple(choice for member in self.members for choice in member.choices)

    def of_kind(self, kind: object) -> Slot | None:
        """Returns the section that `kind` chooses from a discriminated union; None: there is none."""
        if self.discriminator is None:
            return None
        return next((m for m in self.members if kind in _kinds(m, self.discriminator)), None)


@dataclass(frozen=True)
class Place:
    """Where an error of pydantic is, as the user wrote it.

    Attributes:
        key: The dotted key's parts.
        slot: What is declared there; None: no such key.
        parent: What is declared one level up.
        is_alternative: Whether the error speaks of one alternative of a union, not of the union itself.
    """

    key: Key
    slot: Slot | None
    parent: Slot
    is_alternative: bool


def slot_of(annotation: Any, limits: tuple[Any, ...] = (), discriminator: str | None = None) -> Slot:
    """Returns the place that a type annotation declares."""
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        for mark in marks:
            limits += tuple(mark.metadata) if isinstance(mark, FieldInfo) else (mark,)
            discriminator = getattr(mark, "discriminator", None) or discriminator
        return slot_of(inner, limits, discriminator)
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else ()
    if NoneType in members:
        rest = slot_of(Union[tuple(m for m in members if m is not NoneType)], limits, discriminator)  # noqa: UP007
        return Slot(rest.annotation, rest.limits, rest.discriminator, nullable=True)
    return Slot(annotation, limits, discriminator)


def place_of(location: Sequence[int | str]) -> Place:
    """Returns the key for a location of pydantic, which also holds names of union members and kinds."""
    place = Place((), ROOT, ROOT, is_alternative=False)
    slot: Slot | None = ROOT
    for part in location:
        if slot is None:
            break
        if slot.members:
            place = replace(place, is_alternative=slot.discriminator is None)
            slot = slot.of_kind(part) or _labelled(slot, str(part))
        else:
            parent, slot = slot, _inside(slot, str(part))
            place = Place((*place.key, str(part)), slot, parent, is_alternative=False)
    return place


def slot_at(key: Key) -> Slot | None:
    """Returns what is declared at a key that passes through no union; None: nothing."""
    slot: Slot | None = ROOT
    for part in key:
        slot = _inside(slot, part) if slot is not None else None
    return slot


def names_in(slot: Slot) -> tuple[str, ...]:
    """Returns the names of the keys of a section; empty for any other place."""
    return tuple(slot.section.model_fields) if slot.section else ()


def required_names(slot: Slot) -> tuple[str, ...]:
    """Returns the names of the keys that a section cannot do without; empty for any other place."""
    fields = slot.section.model_fields if slot.section else {}
    return tuple(name for name, field in fields.items() if field.is_required())


def all_keys(slot: Slot | None = None, prefix: Key = ()) -> Iterator[Key]:
    """Yields every key that some config may have, of all kinds, sections before what is in them."""
    slot = ROOT if slot is None else slot
    for member in slot.members:
        yield from all_keys(member, prefix)
    for name in names_in(slot):
        yield (*prefix, name)
        inside = _inside(slot, name)
        if inside is not None:
            yield from all_keys(inside, (*prefix, name))


def kind_slot(slot: Slot) -> Slot:
    """Returns the place of the key that chooses among the sections of a discriminated union."""
    return Slot(Literal[slot.choices])


def describe(slot: Slot) -> str:
    """Returns what belongs in a place, in words: `a whole number > 0 or null`."""
    words = [*_alternatives(slot), *(["null"] if slot.nullable else [])]
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _alternatives(slot: Slot) -> Iterator[str]:
    if slot.discriminator:
        yield f"a mapping with {slot.discriminator}"
    elif slot.members:
        types = [member.annotation for member in slot.members]
        for member in slot.members:
            # Whole numbers are numbers too.
            if not (member.annotation is int and float in types):
                yield from _alternatives(member)
    else:
        yield _words(slot)


def _words(slot: Slot) -> str:
    if slot.choices:
        names = ", ".join(str(choice) for choice in slot.choices)
        return f"one of {names}" if len(slot.choices) > 1 else names
    if slot.section:
        required = " and ".join(required_names(slot))
        return f"a mapping with {required}" if required else "a mapping of keys"
    arguments = get_args(slot.annotation)
    match get_origin(slot.annotation):
        case origin if origin is list:
            return "a list"
        case origin if origin is dict:
            return "a mapping"
        case origin if origin is tuple:
            return f"a list of {len(arguments)} {_noun(slot_of(arguments[0]), plural=True)}"
        case _:
            return _noun(slot)


def _noun(slot: Slot, *, plural: bool = False) -> str:
    noun = _NOUNS.get(slot.annotation, ("a path", "paths"))[plural]
    limits = {name: getattr(limit, name) for limit in slot.limits for name in _LIMITS if hasattr(limit, name)}
    if limits.get("min_length") == limits.get("max_length") == 1:
        return f"{noun} of one character"
    if limits == {"min_length": 1}:
        return f"{noun} that {'are' if plural else 'is'} not empty"
    words = " and ".join(_LIMITS[name].format(value) for name, value in limits.items())
    return f"{noun} {words}" if words else noun


def _inside(slot: Slot, part: str) -> Slot | None:
    if slot.section:
        field = slot.section.model_fields.get(part)
        discriminator = field and cast("str | None", field.discriminator)
        return field and slot_of(field.annotation, tuple(field.metadata), discriminator)
    arguments = get_args(slot.annotation)
    if get_origin(slot.annotation) in (list, tuple):
        return slot_of(arguments[0])
    if get_origin(slot.annotation) is dict:
        return slot_of(arguments[1])
    return None


def _labelled(slot: Slot, label: str) -> Slot | None:
    """The member of a plain union that pydantic's label names; only sections and lists hold anything."""
    for member in slot.members:
        if member.section and member.section.__name__ == label:
            return member
        if get_origin(member.annotation) is list and label.startswith("list["):
            return member
    return None


def _kinds(member: Slot, discriminator: str) -> tuple[Any, ...]:
    if member.section is None or discriminator not in member.section.model_fields:
        return ()
    return get_args(member.section.model_fields[discriminator].annotation)


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


ROOT = Slot(Config)
