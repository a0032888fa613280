"""The column that a split goes by, read from the table itself: it is no feature, so the source does not hold it."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from distkeras.config import source_sections
from distkeras.config.source_sections import CsvSource, ExcelSource, JsonlSource, ParquetSource
from distkeras.data.sources.base import Source
from distkeras.errors import DataError

TableSection = CsvSource | ExcelSource | ParquetSource | JsonlSource

_AnySection = TypeVar("_AnySection", bound=source_sections.Source)


def without_column(section: _AnySection, column: str) -> _AnySection:
    """Returns the section of a source whose features do not hold a column, unless they are named and it is among them.

    Raises:
        DataError: If it is a table, and has no such column.
    """
    # Opening the source says better what is wrong with a file that is not there.
    if not isinstance(section, TableSection) or (
        isinstance(section, CsvSource) and not section.path.is_file()
    ):
        return section
    names = column_names(section)
    if column not in names:
        close = get_close_matches(column, names, n=1)
        shown = f"{', '.join(names[:20])}{', ...' if len(names) > 20 else ''}"
        raise DataError(
            f"There is no column {column!r} to split by.",
            place=f"data.split.column: {section.path}",
            remedy=f"did you mean {close[0]!r}?" if close else f"name one of: {shown}",
        )
    if isinstance(section, JsonlSource) or section.features is not None:
        return section
    features = [name for name in names if name not in (column, section.label)]
    return section.model_copy(update={"features": features})


def column_values(section: source_sections.Source, source: Source, column: str) -> np.ndarray:
    """Returns the values of a column for each example of a source, shape (num_examples,): numbers, dates or text.

    Args:
        section: What the source was opened from.
        source: The source.
        column: Name of the column.

    Raises:
        DataError: If there is no such column, or it cannot be read.
    """
    match section:
        case CsvSource() | ExcelSource() | ParquetSource():
            from distkeras.data.sources.tabular import read_column

            return read_column(section, column)
        case JsonlSource():
            return _json_values(section, column, source)
        case _:
            return source.column(column)


def column_names(section: TableSection) -> Sequence[str]:
    """Returns the names of a table's columns, or of the first line's members, in order.

    Raises:
        DataError: If the table cannot be read.
    """
    match section:
        case CsvSource():
            with section.path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
                rows = csv.reader(file, delimiter=section.delimiter)
                return next((row for row in rows if row), [])
        case ExcelSource():
            from distkeras.data.sources.excel_table import read_excel

            whole = section.model_copy(update={"features": None})
            return read_excel(whole, labelled=False, raw=True).features.column_names
        case ParquetSource():
            from distkeras.data.sources.parquet_table import open_columns

            whole = section.model_copy(update={"features": None})
            return open_columns(whole, labelled=False, raw=True).features
        case JsonlSource():
            from distkeras.data.sources.json_lines import open_json_lines

            lines = (line.as_py() for file in open_json_lines(section.path) for line in file.objects)
            return list(json.loads(next(lines, b"{}")))


def _json_values(section: JsonlSource, column: str, source: Source) -> np.ndarray:
    from distkeras.data.sources.json_lines import open_json_lines, read_object

    lines = (line.as_py() for file in open_json_lines(section.path) for line in file.objects)
    values: list[Any] = []
    for example_id, line in enumerate(lines):
        values += read_object(line, [column], partial(source.locate, example_id)).values()
    try:
        return pa.array(values).to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise DataError(
            f"The split's column {column!r} is not all numbers, or all text.",
            place=f"data.split.column: {section.path}",
            received=str(error).partition("\n")[0],
            remedy="write it the same way in every line",
        ) from error
