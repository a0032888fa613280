"""Tables as they are stored: any column, any type, empty cells and all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from distkeras.config.source_sections import (
    CsvSource,
    ExcelSource,
    JsonlSource,
    ParquetSource,
    TimeSeriesSource,
)
from distkeras.data.inspection.result import Column, Counts, Inspection, Role, Sample
from distkeras.data.inspection.statistics import frequent_words, measured
from distkeras.data.reading_check import BadRecord
from distkeras.errors import DataError

TableSection = CsvSource | ExcelSource | ParquetSource | JsonlSource

MAX_CLASSES = 1000
NUM_SAMPLES = 10
# A text of more words than this is prose, whose words are worth counting.
WORDS_OF_PROSE = 3
# Whole numbers with more values than this are more likely a quantity than the names of classes.
MOST_CLASSES = 20


@dataclass(frozen=True)
class _Stored:
    """A table that is read a column at a time.

    Attributes:
        schema: Its columns.
        read: From a name to the column.
        num_rows: Rows that could be read.
        num_bytes: Bytes on the disk.
        problems: Rows that could not.
    """

    schema: pa.Schema
    read: Callable[[str], pa.ChunkedArray]
    num_rows: int
    num_bytes: int
    problems: tuple[BadRecord, ...] = ()


def inspect_table(section: TableSection, label: str) -> Inspection:
    """Inspects a table.

    Args:
        section: The table; its own label and features are not looked at.
        label: Name of the label column.

    Raises:
        DataError: If it cannot be read at all.
    """
    table = _open(section)
    columns = [_column(table, name, "label" if name == label else "feature") for name in table.schema.names]
    return Inspection(
        name=str(section.path),
        kind=section.kind,
        num_examples=table.num_rows,
        num_bytes=table.num_bytes,
        columns=tuple(columns),
        classes=_classes(table.read(label)) if label in table.schema.names else None,
        problems=table.problems,
        samples=tuple(_samples(table, Path(str(section.path)).name)),
    )


def table_section_of(section: TimeSeriesSource) -> TableSection:
    """Returns the table that a time series is cut out of, by the ending of its file."""
    suffix = section.path.suffix.lower()
    if suffix == ".xlsx":
        return ExcelSource(kind="excel", path=section.path, label=section.target)
    if suffix == ".parquet":
        return ParquetSource(kind="parquet", path=str(section.path), label=section.target)
    return CsvSource(kind="csv", path=section.path, label=section.target, delimiter=section.delimiter)


def _open(section: TableSection) -> _Stored:
    match section:
        case CsvSource():
            return _open_csv(section)
        case ParquetSource():
            from distkeras.data.sources.parquet_table import open_columns

            columns = open_columns(section.model_copy(update={"features": None}), labelled=False, raw=True)
            files = columns.files
            num_bytes = sum(file.stored.num_bytes for file in files)
            return _Stored(
                files[0].schema,
                lambda name: pa.concat_tables([file.read([name]) for file in files]).column(name),
                int(columns.first_rows[-1]),
                num_bytes,
            )
        case ExcelSource():
            from distkeras.data.sources.excel_table import read_excel

            table = read_excel(section.model_copy(update={"features": None}), labelled=False, raw=True)
            return _held(table.features, section.path.stat().st_size)
        case JsonlSource():
            return _open_json(section)


def _open_csv(section: CsvSource) -> _Stored:
    bad: list[BadRecord] = []

    def leave_out(row: Any) -> str:
        reason = f"the row has {row.actual_columns} fields; the header has {row.expected_columns}"
        # Arrow counts the header, people do not.
        bad.append(BadRecord(f"{section.path.name} row {row.number - 1}", "parse", reason))
        return "skip"

    try:
        table = pyarrow.csv.read_csv(
            section.path,
            # One thread: with more of them Arrow does not know the numbers of bad rows.
            read_options=pyarrow.csv.ReadOptions(use_threads=False),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=section.delimiter, newlines_in_values=True, invalid_row_handler=leave_out
            ),
            convert_options=pyarrow.csv.ConvertOptions(strings_can_be_null=True, null_values=[""]),
        )
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(str(section.path), error) from error
    return _held(table, section.path.stat().st_size, tuple(bad))


def _open_json(section: JsonlSource) -> _Stored:
    from distkeras.data.sources.json_lines import open_json_lines

    # This says which line is no object; Arrow would not.
    files = open_json_lines(section.path)
    try:
        tables = [
            pyarrow.json.read_json(pa.BufferReader(pa.py_buffer(file.content)))
            for file in files
            if file.num_objects
        ]
        table = pa.concat_tables(tables, promote_options="default")
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(str(section.path), error) from error
    return _held(table, sum(len(file.content) for file in files))


def _held(table: pa.Table, num_bytes: int, problems: tuple[BadRecord, ...] = ()) -> _Stored:
    return _Stored(table.schema, table.column, table.num_rows, num_bytes, problems)


def _unreadable(place: str, error: Exception) -> DataError:
    return DataError(
        "The table cannot be read.",
        place=place,
        received=str(error).partition("\n")[0],
        remedy="check that it is a table with a header row, in UTF-8",
    )


def _column(table: _Stored, name: str, role: Role) -> Column:
    column = _without_dictionary(table.read(name))
    kind = column.type
    types = pa.types
    facts = partial(
        Column,
        name,
        _type_name(kind),
        role=role,
        num_missing=column.null_count,
        num_distinct=_distinct(column),
    )
    if types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind) or types.is_decimal(kind):
        numbers = pc.cast(column, pa.float64(), safe=False).to_numpy()
        return facts(numbers=measured(value=numbers))
    if types.is_string(kind) or types.is_large_string(kind):
        return facts(numbers=measured(characters=pc.utf8_length(column).to_numpy()), counts=_texts(column))
    return facts(facts=_range(column) if types.is_temporal(kind) else {})


def _texts(column: pa.ChunkedArray) -> dict[str, Counts]:
    filled = column.drop_null()
    counts: dict[str, Counts] = {"values": _most_frequent(filled)}
    some: list[str] = filled.slice(0, 1000).to_pylist()
    if some and sum(len(text.split()) for text in some) > WORDS_OF_PROSE * len(some):
        counts = {"words": frequent_words(filled.to_pylist())}
    return counts


def _most_frequent(column: pa.ChunkedArray, most: int = 10) -> Counts:
    pairs = [(one["values"].as_py(), one["counts"].as_py()) for one in column.value_counts()]
    pairs.sort(key=lambda pair: (-pair[1], str(pair[0])))
    return [(str(value), count) for value, count in pairs[:most]]


def _range(column: pa.ChunkedArray) -> dict[str, str]:
    ends = pc.min_max(column)
    return {
        title: str(ends[end].as_py()) for title, end in (("from", "min"), ("to", "max")) if ends[end].is_valid
    }


def _classes(column: pa.ChunkedArray) -> Counts | None:
    """Class balance by class name or index; None: the label is a quantity."""
    column = _without_dictionary(column)
    kind = column.type
    if pa.types.is_boolean(kind):
        column, kind = pc.cast(column, pa.int8()), pa.int8()
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not is_text and not pa.types.is_integer(kind):
        return None
    pairs = {one["values"].as_py(): one["counts"].as_py() for one in column.drop_null().value_counts()}
    most = MAX_CLASSES if is_text else MOST_CLASSES
    return [(str(name), pairs[name]) for name in sorted(pairs)] if len(pairs) <= most else None


def _samples(table: _Stored, name: str) -> Iterator[Sample]:
    columns = {column: table.read(column).slice(0, NUM_SAMPLES).to_pylist() for column in table.schema.names}
    for row in range(min(NUM_SAMPLES, table.num_rows)):
        text = ", ".join(
            f"{column}: {'' if cells[row] is None else cells[row]}" for column, cells in columns.items()
        )
        yield Sample(f"{name} row {row + 1}", text=text)


def _distinct(column: pa.ChunkedArray) -> int | None:
    try:
        return int(pc.count_distinct(column, mode="only_valid").as_py())
    except pa.ArrowException:  # Arrow does not compare lists or structures.
        return None


def _without_dictionary(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _type_name(kind: pa.DataType) -> str:
    return "text" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else str(kind)
