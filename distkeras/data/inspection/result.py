"""What an inspection tells of a data set, whatever kind of source it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from distkeras.data.inspection.statistics import Distribution
from distkeras.data.reading_check import BadRecord

Role = Literal["feature", "label", "other"]
Counts = Sequence[tuple[str, int]]


@dataclass(frozen=True)
class Column:
    """A column of a table, an array, or what is in the files of a folder.

    Attributes:
        name: Its name.
        type: What it holds: "double", "uint8", "text".
        shape: Shape of one example's value; None where it varies.
        role: What a run makes of it.
        num_missing: Examples without a value.
        num_distinct: Different values; None: not counted.
        numbers: How numbers are distributed, by what they measure: "value", "characters", "height".
        counts: How often things occur, the most frequent first, by what they are: "values", "words", "formats".
        facts: What else there is to say of it.
    """

    name: str
    type: str
    shape: tuple[int | None, ...] = ()
    role: Role = "feature"
    num_missing: int = 0
    num_distinct: int | None = None
    numbers: Mapping[str, Distribution] = field(default_factory=dict[str, Distribution])
    counts: Mapping[str, Counts] = field(default_factory=dict[str, Counts])
    facts: Mapping[str, str] = field(default_factory=dict[str, str])

    def as_mapping(self) -> dict[str, Any]:
        """Returns it as JSON has it."""
        return {
            "name": self.name,
            "type": self.type,
            "shape": list(self.shape),
            "role": self.role,
            "missing": self.num_missing,
            "distinct": self.num_distinct,
            "numbers": {title: vars(distribution) for title, distribution in self.numbers.items()},
            "counts": {title: [list(pair) for pair in counts] for title, counts in self.counts.items()},
            "facts": dict(self.facts),
        }


@dataclass(frozen=True)
class Sample:
    """An example to be looked at.

    Attributes:
        place: Where it is.
        class_name: Its class; None: there are none.
        picture: Its thumbnail, a PNG or JPEG file; None: it is no picture.
        text: Its beginning, where it is text, or its values.
    """

    place: str
    class_name: str | None = None
    picture: bytes | None = None
    text: str | None = None


@dataclass(frozen=True)
class Inspection:
    """A data set in numbers.

    Attributes:
        name: Its path, or what its source is called.
        kind: The kind of source.
        num_examples: How many examples or rows it has.
        num_bytes: Bytes on the disk; None: not known.
        columns: What each example consists of.
        classes: How many examples each class has, in the order of class indices; None: there are no classes.
        facts: What else is worth knowing, in words.
        problems: What cannot be read, as far as opening finds it.
        samples: Some examples.
    """

    name: str
    kind: str
    num_examples: int
    num_bytes: int | None
    columns: tuple[Column, ...]
    classes: Counts | None = None
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    problems: tuple[BadRecord, ...] = ()
    samples: tuple[Sample, ...] = ()

    def as_mapping(self) -> dict[str, Any]:
        """Returns what `distkeras data inspect --json` prints; samples are left out."""
        label = next((column.name for column in self.columns if column.role == "label"), None)
        return {
            "name": self.name,
            "kind": self.kind,
            "examples": self.num_examples,
            "bytes": self.num_bytes,
            "label": label,
            "columns": [column.as_mapping() for column in self.columns],
            "classes": None if self.classes is None else [list(pair) for pair in self.classes],
            "facts": dict(self.facts),
            "num_bad_records": len(self.problems),
            "bad_records": [vars(problem) for problem in self.problems],
        }
