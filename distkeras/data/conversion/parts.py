"""The part of a run's data that is converted."""

from __future__ import annotations

from distkeras.config.sections import DataSection
from distkeras.data.conversion.layout import Target
from distkeras.data.overlaps import parts_of
from distkeras.data.prepared import Resized, is_image
from distkeras.data.sources import open_source
from distkeras.data.sources.base import Source
from distkeras.data.splits import open_splits
from distkeras.errors import ConfigError


def open_part(section: DataSection, part: str, target: Target) -> Source:
    """Opens the examples to convert: as they are stored, but for images of `memmap`, which get one size.

    Args:
        section: The run's data.
        part: "train", "validation", "test", or "all": `data.source` as a whole.
        target: The format.

    Raises:
        ConfigError: If there is no such part, or the data is a stream.
        DataError: As `open_splits`.
    """
    if section.source.kind == "generator":
        raise ConfigError(
            "A stream has no numbered examples, so a conversion could not go on where it was stopped.",
            place="data.source.kind",
            received="generator",
            remedy="write the examples from the function itself",
        )
    # A record that cannot be read keeps its place in a run, with weight 0; in new files it has no place.
    source = _open(section.model_copy(update={"max_bad_records": 0}), part)
    size = section.image.size
    if (
        target == "memmap"
        and is_image(source.feature_shape)
        and size is not None
        and source.feature_shape[:2] != size
    ):
        return Resized(source, size)
    return source


def _open(section: DataSection, part: str) -> Source:
    if part == "all":
        return open_source(
            section.source,
            tabular=section.tabular,
            max_bad_records=section.max_bad_records,
        )
    parts = parts_of(open_splits(section))
    if part not in parts:
        raise ConfigError(
            f"The config leaves no {part} data.",
            place=f"data.split.{part}",
            remedy=f"use --part {' or '.join([*parts, 'all'])}",
        )
    return parts[part]
