"""Windows of a table that is ordered in time: some rows are the features, the rows after them the label."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from distkeras.config.source_sections import CsvSource as CsvSection
from distkeras.config.source_sections import ExcelSource as ExcelSection
from distkeras.config.source_sections import ParquetSource as ParquetSection
from distkeras.config.source_sections import TimeSeriesSource as TimeSeriesSection
from distkeras.data.lazy_tensorflow import tf
from distkeras.data.sources.base import Source
from distkeras.data.sources.columns import (
    RawType,
    Table,
    feature_matrix,
    parse_times,
    raw_type,
    refuse_empty,
)
from distkeras.data.sources.tabular import TableSection, read_column, read_table
from distkeras.errors import DataError

Int64Array = npt.NDArray[np.int64]
_EMPTY_REMEDY = "Fill or remove the rows with empty cells."


class TimeSeriesSource(Source):
    """Windows of `window` rows, float32, shape (window, num_columns), and what follows, shape (horizon,).

    Rows are held once, series after series; a window is cut out of them when it is read. The fingerprint is a hash of
    numbers and windows.

    Args:
        section: The table, its columns and its windows.
        labelled: Whether windows need the rows after them; without, the last window ends with the last row, and
            all labels are 0.
        feature_names: The columns that a window shows, in order; None: the section's.

    Attributes:
        starts: First row of each example, in the rows as they are held; int64, shape (num_examples,).
        last_rows: Last row of each example, its label's with it; the same.

    Raises:
        DataError: If the table is not what the section says, a cell is empty or no number, time goes back within a
            series, or a series is shorter than a window and its horizon.
    """

    def __init__(
        self,
        section: TimeSeriesSection,
        *,
        labelled: bool = True,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        self._section = section
        chosen = feature_names or section.columns
        target = [section.target] if labelled else []
        self._table_section = _table_section(section, chosen, target)
        table = read_table(
            self._table_section, labelled=False, raw=True, types=_types(section, [*(chosen or []), *target])
        )
        columns = tuple(chosen or _numeric_columns(section, table))
        names = [*columns, *(name for name in target if name not in columns)]
        series = _series(table, section.series)
        _check_times(table, section.time, series)
        self._order = series.order
        numbers = _numbers(table, names)[self._order]
        self._values = numbers[:, : len(columns)]
        num_rows = section.window + (section.horizon if labelled else 0)
        self.starts = _starts(section, series, num_rows)
        self.last_rows = self.starts + num_rows - 1
        self._target = (
            numbers[:, names.index(section.target)]
            if labelled
            else np.zeros(len(numbers) + section.horizon, np.float32)
        )
        self._locate_row = table.locate
        self._tensors: list[tf.Tensor] = []
        self.name = str(section.path)
        self.num_examples = len(self.starts)
        self.granularity = "batch"
        self.needs_tensorflow = False
        self.feature_shape = (section.window, len(columns))
        self.feature_dtype = "float32"
        self.feature_names = columns
        self.fingerprint = self._hash()

    def labels(self) -> np.ndarray:
        return self._target[self.starts[:, np.newaxis] + self._offsets[1]]

    def read(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if not self._tensors:
            # Eager and on the CPU: pipelines capture these tensors rather than embed a copy in each graph.
            with tf.init_scope(), tf.device("CPU:0"):
                self._tensors = [tf.constant(array) for array in (self._values, self._target, self.starts)]
        values, target, starts = self._tensors
        firsts = tf.gather(starts, ids)[:, tf.newaxis]
        shown, after = self._offsets
        return tf.gather(values, firsts + shown), tf.gather(target, firsts + after)

    def read_arrays(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        firsts = self.starts[ids][:, np.newaxis]
        shown, after = self._offsets
        return self._values[firsts + shown], self._target[firsts + after]

    def locate(self, example_id: int) -> str:
        first, last = (
            self._locate_row(int(self._order[rows[example_id]])) for rows in (self.starts, self.last_rows)
        )
        place, _, number = first.rpartition(" row ")
        last_place, _, last_number = last.rpartition(" row ")
        return f"{place} rows {number} to {last_number}" if place == last_place else f"{first} to {last}"

    def column(self, name: str) -> np.ndarray:
        """Returns a column's value where each example's label begins, shape (num_examples,).

        Raises:
            DataError: If there is no such column.
        """
        values = read_column(self._table_section, name)[self._order]
        return values[np.minimum(self.starts + self._section.window, self.last_rows)]

    @property
    def _offsets(self) -> tuple[Int64Array, Int64Array]:
        """Rows of a window, and of its label, counted from its first."""
        window = self._section.window
        return np.arange(window), np.arange(window, window + self._section.horizon)

    def _hash(self) -> str:
        content = hashlib.blake2b(digest_size=16)
        content.update(f"{self._values.shape}/{self._section.window}/{self._section.horizon}/".encode())
        for array in (self._values, self._target, self.starts):
            content.update(np.ascontiguousarray(array).tobytes())
        return content.hexdigest()


def _table_section(
    section: TimeSeriesSection, columns: Sequence[str] | None, target: Sequence[str]
) -> TableSection:
    """The table, with the columns that windows need, each once; None: all."""
    wanted: list[str] | None = None
    if columns is not None:
        others = [name for name in (section.series, section.time) if name is not None]
        wanted = list(dict.fromkeys([*columns, *target, *others]))
    match section.path.suffix.lower():
        case ".csv" | ".tsv":
            return CsvSection(
                kind="csv",
                path=section.path,
                label=section.target,
                features=wanted,
                delimiter=section.delimiter,
            )
        case ".xlsx":
            return ExcelSection(kind="excel", path=section.path, label=section.target, features=wanted)
        case ".parquet":
            return ParquetSection(
                kind="parquet", path=str(section.path), label=section.target, features=wanted
            )
        case _:
            raise DataError(
                "A time series is read from a .csv, .parquet or .xlsx file.",
                place="data.source.path",
                received=str(section.path),
                remedy="Name such a file.",
            )


def _types(section: TimeSeriesSection, numbers: Sequence[str]) -> Mapping[str, RawType]:
    types: Mapping[str, RawType] = dict.fromkeys(numbers, "float32")
    return types if section.series is None else {**types, section.series: "string"}


def _numeric_columns(section: TimeSeriesSection, table: Table) -> list[str]:
    others = (section.series, section.time)
    names = [name for name in table.features.column_names if name not in others]
    if section.target not in names:
        near = get_close_matches(section.target, names, n=1)
        raise DataError(
            f"There is no column {section.target!r}.",
            place=str(section.path),
            remedy=f"Did you mean {near[0]!r}?" if near else f"Name one of: {', '.join(names[:20])}.",
        )
    return [name for name in names if raw_type(table, name) == "float32"]


def _numbers(table: Table, names: Sequence[str]) -> np.ndarray:
    """Returns columns, float32, shape (num_rows, num_columns)."""
    for name in names:
        if raw_type(table, name) == "string":
            raise DataError(
                f"Column {name!r} is text; windows and what is forecast are numbers.",
                place=f"{table.locate(0)}, column {name!r}",
                received=table.features.column(name)[0].as_py(),
                remedy="Write it as numbers, or leave it out of data.source.columns.",
            )
    features = table.features.select(list(names))
    return feature_matrix(replace(table, features=features), remedy=_EMPTY_REMEDY)


@dataclass(frozen=True)
class _Series:
    """Which rows are of which series.

    Attributes:
        order: Rows of the table, series after series, within a series as they stand.
        ends: End of each series in that order.
        names: The series' names; of the only one "".
    """

    order: Int64Array
    ends: Int64Array
    names: list[str]


def _series(table: Table, name: str | None) -> _Series:
    if name is None:
        num_rows = table.features.num_rows
        return _Series(np.arange(num_rows), np.array([num_rows]), [""])
    column = _filled(table, name).cast(pa.string()).combine_chunks().dictionary_encode()
    series = column.indices.to_numpy()
    # Series keep the order of their first rows: a table that has them one after the other stays as it is.
    order = np.argsort(series, kind="stable")
    return _Series(order, np.cumsum(np.bincount(series)), column.dictionary.to_pylist())


def _check_times(table: Table, name: str | None, series: _Series) -> None:
    if name is None:
        return
    column = _filled(table, name)
    times = parse_times(column) if pa.types.is_string(column.type) else column.to_numpy()
    if times is None:
        row = next((row for row in range(len(column)) if parse_times(column.slice(row, 1)) is None), 0)
        raise DataError(
            f"Column {name!r} is text that tells no time, or only some of it has a time zone.",
            place=f"{table.locate(row)}, column {name!r}",
            received=column[row].as_py(),
            remedy="Write times as numbers, or as in 2024-12-31T23:59:00; day and month first do not sort.",
        )
    times = times[series.order]
    goes_back = times[1:] < times[:-1]
    goes_back[series.ends[:-1] - 1] = False
    if goes_back.any():
        row, before = series.order[np.argmax(goes_back) + 1], series.order[np.argmax(goes_back)]
        raise DataError(
            f"Time goes back to {column[row].as_py()} from {column[before].as_py()}.",
            place=f"{table.locate(int(row))}, column {name!r}",
            remedy="Sort the rows by time, or name the column that tells series apart as data.source.series.",
        )


def _filled(table: Table, name: str) -> pa.ChunkedArray:
    """Returns a column without empty cells; texts of any encoding as plain strings."""
    column = table.features.column(name)
    if pa.types.is_dictionary(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.string())
    if pa.types.is_string(column.type):
        column = pc.if_else(pc.equal(column, ""), None, column)
    refuse_empty(table, name, column, _EMPTY_REMEDY)
    return column


def _starts(section: TimeSeriesSection, series: _Series, num_rows: int) -> Int64Array:
    """Returns the first row of each window, where `num_rows` rows are needed from there on in its series."""
    starts: list[Int64Array] = []
    for first, end, name in zip(
        [0, *series.ends[:-1].tolist()], series.ends.tolist(), series.names, strict=True
    ):
        if end - first < num_rows:
            raise DataError(
                f"{f'The series {name!r}' if section.series else 'The table'} has {end - first:,} rows; "
                f"a window with what is forecast takes {num_rows:,}.",
                place=str(section.path),
                remedy="Lessen data.source.window or .horizon, or leave the series out of the table.",
            )
        starts.append(np.arange(first, end - num_rows + 1, section.stride))
    return np.concatenate(starts)
