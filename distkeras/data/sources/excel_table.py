"""Reads a sheet of an Excel workbook: the values that its cells show, never what their formulas would give."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree.ElementTree import ParseError

import numpy as np
import pyarrow as pa

from distkeras.config.source_sections import ExcelSource as ExcelSection
from distkeras.data.sources.columns import RawType, Table, choose_features, holds_numbers, mixed_label
from distkeras.errors import DataError, MissingDependencyError

# A sheet of data unpacks to some ten times its size, a zip bomb to a thousand times and more. What stays small does
# no harm, however often it repeats itself.
MAX_RATIO = 200
MAX_BYTES = 2**30
HARMLESS_BYTES = 50 * 2**20
# Above, a double may stand for its neighbours, too.
_MAX_WHOLE = 2**53
_OLD_EXCEL = bytes.fromhex("d0cf11e0a1b11ae1")


@dataclass(frozen=True)
class _Rows:
    """The rows of a sheet that are not blank.

    Attributes:
        place: The file and the sheet.
        header: Names of the columns; "" where there is none.
        numbers: Excel's number of each row after the header.
        cells: Its values, None where a cell is empty; as many as the header has, or fewer.
    """

    place: str
    header: list[str]
    numbers: list[int]
    cells: list[Sequence[Any]]

    def locate(self, row: int) -> str:
        return f"{self.place} row {self.numbers[row]}"

    def column(self, name: str) -> list[Any]:
        position = self.header.index(name)
        return [cells[position] if position < len(cells) else None for cells in self.cells]


def read_excel(
    section: ExcelSection,
    *,
    labelled: bool = True,
    raw: bool = False,
    types: Mapping[str, RawType] | None = None,
) -> Table:
    """Reads the feature and label columns of a sheet with a header row; blank rows are no rows.

    Dates are text, as ISO 8601 writes them.

    Args:
        section: The workbook, its sheet and columns.
        labelled: Whether the label column is read; without, it may be missing.
        raw: Whether feature columns may have empty cells and text; without, they are numbers and complete.
        types: What raw columns must be; those that are not named are found out from their cells.

    Raises:
        DataError: If the file is missing, damaged, no .xlsx workbook or a zip bomb, there is no such sheet, or a
            cell is not what it must be; it names the sheet, the row as Excel counts it, and the column.
        MissingDependencyError: If openpyxl is not installed.
    """
    rows = _read_rows(section)
    label = section.label if labelled else None
    names = [name for name in rows.header if name]
    features = choose_features(names, label, section.features, rows.place)
    wanted: Mapping[str, RawType] = (types or {}) if raw else dict.fromkeys(features, "float32")
    columns = {name: _cells(rows, name) for name in (*features, *([label] if label else []))}
    if any(cell is None for cells in columns.values() for cell in cells):
        _refuse_uncalculated(section, rows, list(columns))
    return Table(
        features=pa.table({name: _typed(rows, name, columns[name], wanted.get(name)) for name in features}),
        label=None if label is None else _label(rows, label, columns[label]),
        label_name=section.label,
        locate=rows.locate,
    )


def _read_rows(section: ExcelSection) -> _Rows:
    with _opened_sheet(section, data_only=True) as sheet:
        place = f"{section.path.name} sheet {sheet.title!r}"
        lines = ((number, row) for number, row in _lines(sheet) if any(value is not None for value in row))
        _, first = next(lines, (0, None))
        if first is None:
            raise DataError(
                "A sheet is empty.", place=place, remedy="Give a header row and at least one example."
            )
        header = ["" if value is None else str(value).strip() for value in first]
        rows = _Rows(place, header, [], [])
        for number, row in lines:
            rows.numbers.append(number)
            rows.cells.append(row)
    if not rows.cells:
        raise DataError(
            "A sheet has a header and no rows.", place=place, remedy="Give a sheet with at least one example."
        )
    _check_named(rows)
    return rows


def _lines(sheet: Any, **arguments: Any) -> Iterator[tuple[int, Sequence[Any]]]:
    # Some programs write a wrong size into the sheet, and openpyxl would cut the rows to it.
    sheet.reset_dimensions()
    return enumerate(sheet.iter_rows(**({"values_only": True} | arguments)), start=1)


def _check_named(rows: _Rows) -> None:
    from openpyxl.utils import get_column_letter

    named = {position for position, name in enumerate(rows.header) if name}
    for row, cells in enumerate(rows.cells):
        for position, value in enumerate(cells):
            if value is not None and position not in named:
                raise DataError(
                    "A cell stands in a column without a name.",
                    place=f"{rows.locate(row)}, column {get_column_letter(position + 1)}",
                    received=value,
                    remedy="Name the column in the first row, or empty the cell.",
                )


def _cells(rows: _Rows, name: str) -> list[Any]:
    """Returns a column as numbers and trimmed texts, None where cells are empty."""
    from openpyxl.cell.cell import ERROR_CODES

    cells: list[Any] = []
    for row, value in enumerate(rows.column(name)):
        cell = value if value is None or isinstance(value, int | float) else str(value).strip() or None
        if cell in ERROR_CODES:
            raise DataError(
                "A cell holds an error of Excel.",
                place=f"{rows.locate(row)}, column {name!r}",
                received=cell,
                remedy="Correct the formula, or empty the cell.",
            )
        cells.append(cell)
    return cells


def _typed(rows: _Rows, name: str, cells: list[Any], wanted: RawType | None) -> pa.Array:
    is_numeric = holds_numbers(
        name,
        _are_numbers(cells),
        np.array([cell is None for cell in cells]),
        wanted=wanted,
        place=rows.locate,
        cell=cells.__getitem__,
    )
    if is_numeric:
        return pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())
    return pa.array(["" if cell is None else str(cell) for cell in cells], pa.string())


def _label(rows: _Rows, name: str, cells: list[Any]) -> pa.ChunkedArray:
    is_number = _are_numbers(cells)
    is_empty = np.array([cell is None for cell in cells])
    if (is_number | is_empty).all():
        # Excel has floats only: whole numbers are told by their values.
        numbers = [None if cell is None else float(cell) for cell in cells]
        is_whole = all(cell is None or (cell.is_integer() and abs(cell) <= _MAX_WHOLE) for cell in numbers)
        column = pa.array(numbers, pa.float64()).cast(pa.int64() if is_whole else pa.float64())
    elif is_number.any():
        raise mixed_label(name, is_number, rows.locate, cells.__getitem__)
    else:
        column = pa.array(cells, pa.string())
    return pa.chunked_array([column])


def _are_numbers(cells: Sequence[Any]) -> np.ndarray:
    return np.array([isinstance(cell, int | float) for cell in cells])


def _refuse_uncalculated(section: ExcelSection, rows: _Rows, names: Sequence[str]) -> None:
    """Refuses formulas that no program has calculated yet: their cells look empty, and are not."""
    empty = {
        (number, rows.header.index(name))
        for name in names
        for number, cell in zip(rows.numbers, rows.column(name), strict=True)
        if cell is None
    }
    with _opened_sheet(section, data_only=False) as sheet:
        for number, cells in _lines(sheet, values_only=False):
            for position, cell in enumerate(cells):
                if (number, position) in empty and cell.data_type == "f":
                    raise DataError(
                        "A formula has never been calculated.",
                        place=f"{rows.place} row {number}, column {rows.header[position]!r}",
                        received=cell.value,
                        remedy="Open the workbook in Excel or LibreOffice and save it.",
                    )


@contextmanager
def _opened_sheet(section: ExcelSection, *, data_only: bool) -> Generator[Any]:
    try:
        import openpyxl
    except ImportError as error:
        raise MissingDependencyError("openpyxl", "excel") from error

    with _opened_file(section.path) as stream, warnings.catch_warnings():
        # openpyxl warns of what it leaves out: styles, pictures, rules for input. None of them is data.
        warnings.filterwarnings("ignore", category=UserWarning, module="openpyxl")
        try:
            workbook = openpyxl.load_workbook(stream, read_only=True, data_only=data_only, keep_links=False)
            yield _sheet(section, workbook)
        except (KeyError, ValueError, TypeError, AttributeError, EOFError, OSError) as error:
            raise _damaged(section.path, error) from error
        except (ParseError, zipfile.BadZipFile, zlib.error) as error:
            raise _damaged(section.path, error) from error


@contextmanager
def _opened_file(path: Path) -> Generator[BinaryIO]:
    try:
        stream = path.open("rb")
    except OSError as error:
        raise DataError(
            "An Excel file cannot be read.",
            place=str(path),
            received=error.strerror,
            remedy="Correct data.source.path; it is relative to the config file.",
        ) from error
    with stream:
        if stream.read(len(_OLD_EXCEL)) == _OLD_EXCEL:
            raise DataError(
                "This is a workbook of Excel 97 (.xls), or one with a password.",
                place=str(path),
                remedy="Save it as .xlsx, without a password.",
            )
        _check_archive(path, stream)
        yield stream


def _check_archive(path: Path, stream: BinaryIO) -> None:
    """Refuses what is no zip archive, or unpacks to more than memory may hold, before anything is unpacked."""
    try:
        members = zipfile.ZipFile(stream).infolist()
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise _damaged(path, error) from error
    # zipfile never unpacks more of a member than these sizes say.
    size_bytes, packed_bytes = sum(member.file_size for member in members), path.stat().st_size
    if size_bytes > MAX_BYTES or (size_bytes > HARMLESS_BYTES and size_bytes > MAX_RATIO * packed_bytes):
        raise DataError(
            f"A workbook of {packed_bytes:,} bytes would unpack to {size_bytes:,}.",
            place=str(path),
            remedy="If it is no zip bomb, save the sheet as CSV or Parquet.",
        )


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        "The file is no .xlsx workbook, or is damaged.",
        place=str(path),
        received=str(error).partition("\n")[0],
        remedy="Open it in Excel or LibreOffice and save it again as .xlsx.",
    )


def _sheet(section: ExcelSection, workbook: Any) -> Any:
    sheets = {sheet.title: sheet for sheet in workbook.worksheets}
    name = section.sheet or next(iter(sheets), "")
    if name in sheets:
        return sheets[name]
    near = get_close_matches(name, sheets, n=3)
    raise DataError(
        f"There is no sheet {name!r}.",
        place=str(section.path),
        remedy=f"Did you mean {' or '.join(map(repr, near))}?"
        if near
        else f"Name one of: {', '.join(sheets)}.",
    )
