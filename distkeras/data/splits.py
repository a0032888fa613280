"""How one source becomes training, validation and test data: the same parts for every run and machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from distkeras.config import source_sections
from distkeras.config.sections import DataSection, SplitSection
from distkeras.data.apportioning import FloatArray, apportion
from distkeras.data.column_splits import SplitColumn, split_by_group, split_by_time
from distkeras.data.permutation import global_order
from distkeras.data.sources import open_source
from distkeras.data.sources.base import Source, Subset
from distkeras.data.split_columns import column_values, without_column
from distkeras.errors import ConfigError, DataError

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Splits:
    """The parts of a data set; no example of one source is in two of them.

    Attributes:
        train: What the model learns from.
        validation: What training is watched with, or None.
        test: What is measured at the end, or None.
    """

    train: Source
    validation: Source | None
    test: Source | None


def open_splits(section: DataSection) -> Splits:
    """Opens the data of a run: the source, split, except for the parts that have a source of their own.

    Raises:
        DataError: As `open_source` and `split_source`, or if the sources differ in classes or columns.
    """
    column = section.split.column
    source_section = section.source if column is None else without_column(section.source, column)
    source = open_source(source_section, tabular=section.tabular, max_bad_records=section.max_bad_records)
    own = {part: 0.0 for part in ("validation", "test") if getattr(section, part) is not None}
    splits = split_source(source, section.split.model_copy(update=own), source_section)
    return Splits(
        train=splits.train,
        validation=_open_own("validation", section, source) or splits.validation,
        test=_open_own("test", section, source) or splits.test,
    )


def _open_own(part: Literal["validation", "test"], section: DataSection, source: Source) -> Source | None:
    own_section: source_sections.Source | None = getattr(section, part)
    if own_section is None:
        return None
    own = open_source(
        own_section,
        tabular=section.tabular,
        like=source,
        max_bad_records=section.max_bad_records,
    )
    # Class indices are positions in sorted names, and features are positions of columns: with other names the
    # same number would mean something else, and nothing would fail.
    for what in ("class_names", "feature_names"):
        if getattr(own, what) != getattr(source, what):
            raise DataError(
                f"The {part} source has other {what.replace('_', ' ')} than the training source.",
                place=f"data.{part}: {own.name}",
                received=getattr(own, what),
                remedy=f"They must be the same, in the same order: {getattr(source, what)}.",
            )
    return own


def split_source(
    source: Source, section: SplitSection, opened_from: source_sections.Source | None = None
) -> Splits:
    """Splits a source into disjoint parts that together are the whole.

    The parts follow from the split's seed and the source's fingerprint alone. Sizes are exact to rounding:
    each part's, and with `stratified` each class's in each part; `group` and `time` come as near to the shares as
    groups and equal moments allow. A part keeps the source's order of examples.

    Args:
        source: The examples.
        section: How they are split.
        opened_from: The section that the source was opened from; None: it was made in Python.

    Raises:
        ConfigError: If nothing is left to train on, or the method needs a column.
        DataError: If a part would be empty, the labels cannot be stratified, or the column is not what it must be.
    """
    shares = np.array([1 - section.validation - section.test, section.validation, section.test])
    if shares[0] <= 0:
        raise ConfigError(
            "The split leaves nothing to train on.",
            place="data.split",
            received={"validation": section.validation, "test": section.test},
            remedy="Choose shares that sum to less than 1.",
        )
    if shares[0] == 1:
        return Splits(source, None, None)
    parts = _ids_of_parts(source, section, shares, opened_from)
    return Splits(
        _part(source, "train", parts[0]),
        _part(source, "validation", parts[1]) if section.validation else None,
        _part(source, "test", parts[2]) if section.test else None,
    )


def _ids_of_parts(
    source: Source, section: SplitSection, shares: FloatArray, opened_from: source_sections.Source | None
) -> list[Int64Array]:
    if isinstance(opened_from, source_sections.TimeSeriesSource):
        from distkeras.data.window_splits import split_windows

        return split_windows(source, opened_from, section, shares)
    if section.method in ("group", "time"):
        column = section.column
        if column is None:
            raise ConfigError(
                f"A split by {section.method} goes by a column.",
                place="data.split.column",
                remedy="name a column of the table as data.split.column, or set data.split.method: random",
            )
        values = source.column(column) if opened_from is None else column_values(opened_from, source, column)
        split_column = SplitColumn(source, column, values)
        if section.method == "group":
            return split_by_group(split_column, shares, section.seed)
        return split_by_time(split_column, shares)
    order = global_order(f"split/{source.fingerprint}", section.seed, 0, source.num_examples)
    if section.method == "stratified":
        return _stratified(order, _class_labels(source), shares, source)
    return _slices(order, apportion(source.num_examples, shares, np.zeros(len(shares))))


def _part(source: Source, name: str, ids: Int64Array) -> Source:
    if not ids.size:
        raise DataError(
            f"The split leaves no examples for {name}: there are {source.num_examples} in all.",
            place=f"data.split: {source.name}",
            remedy=f"Give more data, or another share as data.split.{'test' if name == 'train' else name}.",
        )
    return Subset(source, np.sort(ids), name=f"{source.name} ({name})")


def _slices(ids: Int64Array, counts: Int64Array) -> list[Int64Array]:
    return np.split(ids, np.cumsum(counts)[:-1])


def _stratified(
    order: Int64Array, labels: Int64Array, shares: FloatArray, source: Source
) -> list[Int64Array]:
    parts: list[list[Int64Array]] = [[] for _ in shares]
    # A stable sort keeps the pseudo-random order within each class.
    by_class = order[np.argsort(labels[order], kind="stable")]
    names, sizes = np.unique(labels, return_counts=True)
    # What rounding took from a part in one class it is given in the next: with many small classes the same
    # part would otherwise lose in each of them.
    owed = np.zeros(len(shares))
    for label, members in zip(names, _slices(by_class, sizes), strict=True):
        _check_class_size(len(members), int(label), int(np.count_nonzero(shares)), source)
        counts = apportion(len(members), shares, owed)
        owed += len(members) * shares - counts
        for part, ids in zip(parts, _slices(members, counts), strict=True):
            part.append(ids)
    return [np.concatenate(part) for part in parts]


def _class_labels(source: Source) -> Int64Array:
    labels = source.labels()
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            "A stratified split needs one class label an example.",
            place=f"data.split.method: {source.name}",
            received=f"labels of type {labels.dtype}, shape {labels.shape}",
            remedy="Set data.split.method: random.",
        )
    return labels.astype(np.int64)


def _check_class_size(num_members: int, label: int, num_parts: int, source: Source) -> None:
    if num_members < num_parts:
        names = source.class_names
        has_name = names is not None and 0 <= label < len(names)
        raise DataError(
            f"Class {names[label] if names and has_name else label!r} has {num_members} "
            f"example{'s' if num_members > 1 else ''} for {num_parts} parts.",
            place=f"data.split: {source.name}",
            remedy="Add examples, remove the class, or set data.split.method: random.",
        )
