"""Reads a CSV file in one fast pass, and in a second, slow pass finds what was wrong with it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from distkeras.config.source_sections import CsvSource as CsvSection
from distkeras.data.sources.columns import RawType, Table, choose_features, holds_numbers, mixed_label
from distkeras.errors import DataError

# What Arrow reads as a number, for RE2.
_NUMBER = r"^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)$"


def read_csv(
    section: CsvSection,
    *,
    labelled: bool = True,
    raw: bool = False,
    types: Mapping[str, RawType] | None = None,
) -> Table:
    """Reads the feature and label columns of a CSV file with a header.

    Args:
        section: The file and its columns.
        labelled: Whether the label column is read; without, it may be missing.
        raw: Whether feature columns may have empty cells and text; without, they are numbers and complete.
        types: What raw columns must be; those that are not named are found out from their cells.

    Raises:
        DataError: If the file is missing, empty, ragged, not UTF-8, or a cell is not a number; it names the
            data row (counted from 1 after the header) and the line in the file.
    """
    header = _read_header(section)
    label = [section.label] if labelled else []
    features = choose_features(
        header, section.label if labelled else None, section.features, str(section.path)
    )
    try:
        table = pyarrow.csv.read_csv(
            section.path,
            # A quoted line break is legal CSV, and may stand in a column that is not wanted.
            parse_options=pyarrow.csv.ParseOptions(delimiter=section.delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(features, pa.string() if raw else pa.float64())
                | dict.fromkeys(label, pa.string()),
                include_columns=[*features, *label],
                # Arrow's default list would turn a class called "NA" or "null" into a missing label.
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        _explain(section, header, () if raw else features, error)
    if table.num_rows == 0:
        raise DataError(
            "A CSV file has a header and no rows.",
            place=str(section.path),
            remedy="Give a file with at least one example.",
        )
    chosen = table.select(list(features))
    return Table(
        features=_typed(section, chosen, types or {}) if raw else chosen,
        label=_parse_label(section, table.column(section.label)) if labelled else None,
        label_name=section.label,
        locate=lambda row: _place(section, row),
    )


def _place(section: CsvSection, row: int) -> str:
    return f"{section.path.name} row {row + 1}"


def _rows(section: CsvSection) -> Iterator[tuple[int, list[str]]]:
    """Yields the number of each row's last line and its fields; blank lines are no rows, as for Arrow."""
    with section.path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=section.delimiter)
        yield from ((reader.line_num, fields) for fields in reader if fields)


def _read_header(section: CsvSection) -> list[str]:
    try:
        header = next(_rows(section), None)
    except OSError as error:
        raise DataError(
            "A CSV file cannot be read.",
            place=str(section.path),
            received=error.strerror,
            remedy="Correct data.source.path; it is relative to the config file.",
        ) from error
    except UnicodeDecodeError as error:
        raise _not_utf8(section.path, error) from error
    if header is None:
        raise DataError(
            "A CSV file is empty.",
            place=str(section.path),
            remedy="Give a file with a header row and at least one example.",
        )
    return header[1]


def _not_utf8(path: Path, error: UnicodeDecodeError) -> DataError:
    return DataError(
        "A CSV file is not UTF-8 text.",
        place=str(path),
        received=error.object[error.start : error.end],
        remedy="Save the file as UTF-8.",
    )


def _explain(
    section: CsvSection, header: Sequence[str], features: Sequence[str], error: pa.ArrowInvalid
) -> NoReturn:
    """Reads the file again with the standard library, which knows lines, to find what Arrow refused."""
    positions = [(header.index(name), name) for name in features]
    try:
        for row, (line, fields) in enumerate(islice(_rows(section), 1, None), start=1):
            _check_row(f"{section.path.name} row {row} (line {line})", header, fields, positions)
    except UnicodeDecodeError as decode_error:
        raise _not_utf8(section.path, decode_error) from decode_error
    raise DataError(
        "A CSV file cannot be parsed.",
        place=str(section.path),
        received=str(error),
        remedy="Check quotes and delimiters near the place named.",
    ) from error


def _check_row(
    place: str, header: Sequence[str], fields: Sequence[str], positions: Sequence[tuple[int, str]]
) -> None:
    if len(fields) != len(header):
        raise DataError(
            f"A row has {len(fields)} fields; the header has {len(header)}.",
            place=place,
            received=fields,
            remedy="Correct the row; a field that contains the delimiter must stand in double quotes.",
        )
    for position, name in positions:
        if fields[position] and not _is_number(fields[position]):
            raise DataError(
                f"A cell of column {name!r} is not a number.",
                place=f"{place}, column {name!r}",
                received=fields[position],
                remedy="Correct the cell, leave the column out with data.source.features, or set data.tabular, "
                "which makes categories of text.",
            )


def _typed(section: CsvSection, table: pa.Table, types: Mapping[str, RawType]) -> pa.Table:
    """Returns text columns as numbers where their cells are numbers, and trimmed where they are text."""
    columns: dict[str, pa.ChunkedArray] = {}
    for name in table.column_names:
        texts = pc.fill_null(pc.utf8_trim_whitespace(table.column(name)), "")
        is_empty = pc.equal(texts, "")
        is_numeric = holds_numbers(
            name,
            pc.match_substring_regex(texts, _NUMBER, ignore_case=True).to_numpy(),
            is_empty.to_numpy(),
            wanted=types.get(name),
            place=lambda row: _place(section, row),
            cell=lambda row, texts=texts: texts[row].as_py(),
        )
        columns[name] = pc.cast(pc.if_else(is_empty, None, texts), pa.float64()) if is_numeric else texts
    return pa.table(columns)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # Python reads 1_0 as ten; no data format does.


def _parse_label(section: CsvSection, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns numbers where all labels are numbers, and text where none is."""
    trimmed = pc.utf8_trim_whitespace(column)
    for number in (pa.int64(), pa.float64()):
        try:
            return pc.cast(trimmed, number)
        except pa.ArrowInvalid:
            continue
    texts = pc.fill_null(trimmed, "")
    is_number = np.array([_is_number(text) for text in texts.to_pylist()])
    if is_number.any():
        raise mixed_label(
            section.label, is_number, lambda row: _place(section, row), lambda row: texts[row].as_py()
        )
    return trimmed
