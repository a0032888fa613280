"""Splits that go by a column: whole groups in one part, or the first rows for training and the last for the test."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from distkeras.data.apportioning import FloatArray, apportion
from distkeras.data.permutation import order_key, permute
from distkeras.data.sources.base import Source
from distkeras.data.sources.columns import parse_times
from distkeras.errors import DataError

Int64Array = npt.NDArray[np.int64]
Ids = list[Int64Array]


@dataclass(frozen=True)
class SplitColumn:
    """What a split goes by.

    Attributes:
        source: The examples.
        name: The column's name.
        values: Its value for each example: numbers, dates or text; shape (num_examples,).
    """

    source: Source
    name: str
    values: npt.NDArray[np.generic]

    def place(self, row: int) -> str:
        """Returns where the value of an example is."""
        return f"{self.source.locate(row)}, column {self.name!r}"


def split_by_group(column: SplitColumn, shares: FloatArray, seed: int) -> Ids:
    """Returns the ids of each part, none of whose groups is in another part.

    Groups are dealt out from the largest to the smallest, each to the part that lacks most, so that sizes come near
    the shares wherever groups allow it; among groups of about one size (a factor of two) the seed decides. It goes by
    the groups and their sizes alone: another order of rows gives the same parts.

    Args:
        column: What tells groups apart.
        shares: Share of each part, shape (num_parts,), with the sum 1; a part without a share gets nothing.
        seed: The split's.

    Raises:
        DataError: If a value is empty, or there are fewer groups than parts.
    """
    values = _filled(column)
    names, members, sizes = np.unique(values, return_inverse=True, return_counts=True)
    _check_distinct(len(names), shares, column, "groups")
    content = hashlib.blake2b(digest_size=16)
    for name, size in zip(names.tolist(), sizes.tolist(), strict=True):
        content.update(f"{name!r}/{size}\n".encode())
    key = order_key(f"groups/{content.hexdigest()}", seed, 0)
    shuffled = permute(np.arange(len(names)), len(names), key)
    order = shuffled[np.argsort(-np.floor(np.log2(sizes[shuffled])), kind="stable")]
    part_of = _deal(sizes[order], shares)
    chosen = np.empty(len(names), np.int64)
    chosen[order] = part_of
    return [np.flatnonzero(chosen[members] == part) for part in range(len(shares))]


def split_by_time(column: SplitColumn, shares: FloatArray) -> Ids:
    """Returns the ids of each part: every example of a part comes before all of the next one's.

    Args:
        column: Numbers, dates, or text as ISO 8601 has it. Equal values stay together.
        shares: Share of each part from the first to the last, shape (num_parts,), with the sum 1; a part without a
            share gets nothing.

    Raises:
        DataError: If a value is empty or no time, or there are fewer moments than parts.
    """
    values = _as_times(column, _filled(column))
    moments, members, sizes = np.unique(values, return_inverse=True, return_counts=True)
    _check_distinct(len(moments), shares, column, "moments")
    ends = np.cumsum(sizes)
    # First moment of each part: where the moments' borders come nearest to the shares', and no part is left empty.
    targets = np.cumsum(apportion(len(values), shares, np.zeros(len(shares))))
    wanted = np.flatnonzero(shares)
    borders: list[int] = [0]
    for place, part in enumerate(wanted[:-1].tolist(), start=1):
        least, most = borders[-1] + 1, len(moments) - (len(wanted) - place)
        nearest = int(np.argmin(np.abs(ends[least - 1 : most] - targets[part])))
        borders.append(least + nearest)
    part_of = wanted[np.searchsorted(np.array(borders), np.arange(len(moments)), side="right") - 1]
    return [np.flatnonzero(part_of[members] == part) for part in range(len(shares))]


def _deal(sizes: Int64Array, shares: FloatArray) -> Int64Array:
    """Returns the part of each group, in the order in which they are dealt out; every part with a share gets one."""
    lacking = (shares * sizes.sum()).tolist()
    wanted: list[int] = np.flatnonzero(shares).tolist()
    empty = set(wanted)
    part_of: list[int] = []
    for left, size in zip(range(len(sizes), 0, -1), sizes.tolist(), strict=True):
        part = max(empty if left == len(empty) else wanted, key=lambda one: (lacking[one], -one))
        lacking[part] -= size
        empty.discard(part)
        part_of.append(part)
    return np.array(part_of, np.int64)


def _filled(column: SplitColumn) -> npt.NDArray[np.generic]:
    """Returns a column's values, none of them empty."""
    values = column.values
    if values.dtype.kind == "O":
        is_empty = np.array([value is None or value == "" for value in values.tolist()])
        values = np.where(is_empty, "", values).astype(str)
    elif values.dtype.kind in "fM":
        is_empty = np.isnan(values) if values.dtype.kind == "f" else np.isnat(values)
    else:
        is_empty = values == "" if values.dtype.kind == "U" else np.zeros(len(values), bool)
    if is_empty.any():
        count = int(is_empty.sum())
        raise DataError(
            f"The split's column {column.name!r} has {count:,} empty cell{'s' if count > 1 else ''}.",
            place=column.place(int(np.argmax(is_empty))),
            remedy="fill them, or remove these rows",
        )
    return values


def _as_times(column: SplitColumn, values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    if values.dtype.kind != "U":
        return values
    texts: list[str] = values.tolist()
    times = parse_times(pa.chunked_array([texts]))
    if times is None:
        row = next((row for row, text in enumerate(texts) if not _is_time(text)), 0)
        raise DataError(
            f"The split's column {column.name!r} is text that tells no time, or only some of it has a time zone.",
            place=column.place(row),
            received=texts[row],
            remedy="write times as numbers, or as in 2024-12-31T23:59:00; day and month first do not sort",
        )
    return times


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _check_distinct(num_values: int, shares: FloatArray, column: SplitColumn, noun: str) -> None:
    num_parts = int(np.count_nonzero(shares))
    if num_values < num_parts:
        raise DataError(
            f"Column {column.name!r} has {num_values} {noun if num_values > 1 else noun[:-1]} for {num_parts} parts.",
            place=f"data.split: {column.source.name}",
            remedy="name another column as data.split.column, or set data.split.test or .validation to 0",
        )
