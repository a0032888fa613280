"""Which columns of a table are features and which is the label, and what may stand in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from distkeras.errors import DataError

EMPTY_REMEDY = "Fill or remove the rows with empty cells, or set data.tabular.impute."

BoolArray = npt.NDArray[np.bool_]
RawType = Literal["float32", "string"]


@dataclass(frozen=True)
class Table:
    """Columns that were read, before they become arrays.

    Attributes:
        features: The feature columns, in order, each numeric; or as they are stored, where they were read raw.
        label: The label column: numbers, booleans or text; None where labels are not read.
        label_name: The label column's name.
        locate: From a row, counted from 0, to what a person calls it: "data.csv row 17".
    """

    features: pa.Table
    label: pa.ChunkedArray | None
    label_name: str
    locate: Callable[[int], str]


@dataclass(frozen=True)
class Labels:
    """Labels as numbers.

    Attributes:
        values: int64 for classes and whole numbers, else float32; shape (num_rows,).
        class_names: Names by index where the column holds text, else None.
    """

    values: np.ndarray
    class_names: tuple[str, ...] | None


def choose_features(
    names: Sequence[str], label: str | None, features: Sequence[str] | None, place: str
) -> tuple[str, ...]:
    """Returns the feature columns in order: those asked for, or all but the label.

    Args:
        names: All columns of the table, in order.
        label: Name of the label column; None where labels are not read.
        features: Names of the feature columns; None: all but the label.
        place: The file, for errors.

    Raises:
        DataError: If a column is missing, stands there twice, or is feature and label at once.
    """
    duplicates = [name for position, name in enumerate(names) if name in names[:position]]
    if duplicates:
        raise DataError(
            f"Two columns are called {duplicates[0]!r}.",
            place=place,
            remedy="Give every column its own name.",
        )
    chosen = tuple(name for name in names if name != label) if features is None else tuple(features)
    labels = [] if label is None else [("label", label)]
    for role, name in [*labels, *(("feature", name) for name in chosen)]:
        if name not in names:
            raise _missing_column(role, name, names, place)
    if label in chosen:
        raise DataError(
            f"Column {label!r} is feature and label at once.",
            place=place,
            remedy="Take it out of data.source.features.",
        )
    if not chosen or len(set(chosen)) < len(chosen):
        raise DataError(
            "There must be at least one feature column, and none twice.",
            place=place,
            received=list(chosen),
            remedy="Correct data.source.features.",
        )
    return chosen


def _missing_column(role: str, name: str, names: Sequence[str], place: str) -> DataError:
    similar = get_close_matches(name, names, n=1)
    if similar:
        remedy = f"Did you mean {similar[0]!r}?"
    elif len(names) == 1:
        remedy = "The table has one column only; for a CSV file check data.source.delimiter."
    else:
        remedy = f"Name one of its columns: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}."
    return DataError(f"There is no {role} column {name!r}.", place=place, remedy=remedy)


def holds_numbers(
    name: str,
    is_number: BoolArray,
    is_empty: BoolArray,
    *,
    wanted: RawType | None,
    place: Callable[[int], str],
    cell: Callable[[int], object],
) -> bool:
    """Returns whether a raw column is numbers rather than text, by its cells, of which some may be empty.

    Args:
        name: The column's name.
        is_number: Which cells are numbers, shape (num_rows,).
        is_empty: Which cells are empty, shape (num_rows,).
        wanted: What the column must be; None: it is found out. Without any cell it is numbers.
        place: From a row, counted from 0, to what a person calls it.
        cell: From a row to its cell.

    Raises:
        DataError: If a cell is text, and the column must be numbers or most of its cells are.
    """
    num_cells, num_numbers = np.count_nonzero(~is_empty), np.count_nonzero(is_number)
    if wanted == "string" or num_cells == num_numbers:
        return wanted != "string"
    if wanted is None and 2 * num_numbers <= num_cells:
        return False
    # One typing error in a column of numbers must not turn all of them into categories.
    row = int(np.argmax(~is_empty & ~is_number))
    raise DataError(
        f"A cell of column {name!r} is not a number.",
        place=f"{place(row)}, column {name!r}",
        received=cell(row),
        remedy="Correct or empty the cell; a column of categories is named in data.tabular.categorical.",
    )


def mixed_label(
    name: str, is_number: BoolArray, place: Callable[[int], str], cell: Callable[[int], object]
) -> DataError:
    """Returns the error for labels of which some are numbers and some are text; it names the first of the fewer.

    Args:
        name: The label column's name.
        is_number: Which labels are numbers, shape (num_rows,).
        place: From a row, counted from 0, to what a person calls it.
        cell: From a row to its label.
    """
    # One typing error in a column of numbers must not turn regression into a thousand classes.
    row = int(np.argmax(is_number == (np.count_nonzero(is_number) * 2 < len(is_number))))
    return DataError(
        f"The label column {name!r} mixes numbers and text.",
        place=f"{place(row)}, column {name!r}",
        received=cell(row),
        remedy="Make every label a number, or every label a text.",
    )


def raw_type(table: Table, name: str) -> RawType:
    """Returns what a feature column holds, by the type that it is stored as.

    Raises:
        DataError: If that is neither numbers nor text.
    """
    column_type = table.features.schema.field(name).type
    types = pa.types
    if types.is_dictionary(column_type):
        column_type = column_type.value_type
    if types.is_string(column_type) or types.is_large_string(column_type):
        return "string"
    is_number = types.is_integer(column_type) or types.is_floating(column_type)
    if is_number or types.is_boolean(column_type) or types.is_null(column_type):
        return "float32"
    raise DataError(
        f"The feature column {name!r} is {column_type}, neither numbers nor text.",
        place=table.locate(0),
        remedy="Write it as numbers or text, or leave it out with data.source.features.",
    )


def feature_matrix(table: Table, *, remedy: str = EMPTY_REMEDY) -> np.ndarray:
    """Returns the features, float32, shape (num_rows, num_features), all finite.

    Args:
        table: The columns.
        remedy: What to do about empty cells.

    Raises:
        DataError: If a cell is empty, NaN, infinite, or too large for float32; it names row and column.
    """
    matrix = np.empty((table.features.num_rows, table.features.num_columns), dtype=np.float32)
    for position, name in enumerate(table.features.column_names):
        column = table.features.column(name)
        refuse_empty(table, name, column, remedy)
        with np.errstate(over="ignore"):  # Too large becomes infinite, which is refused just below.
            matrix[:, position] = column.to_numpy()
        refuse_cells(table, name, column, ~np.isfinite(matrix[:, position]))
    return matrix


def parse_times(texts: pa.ChunkedArray) -> np.ndarray | None:
    """Returns what dates and times in texts sort by, as ISO 8601 writes them, months alone too; None: they are none.

    Args:
        texts: Shape (num_rows,), none of them empty; with a time zone all of them or none.
    """
    months = pc.match_substring_regex(texts, r"^\d{4}-\d{2}$")
    days = pc.if_else(months, pc.binary_join_element_wise(texts, "01", "-"), texts)
    # Arrow takes texts with a time zone only where a zone is asked for, and texts without one only where none is.
    for kind in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        try:
            return days.cast(kind).to_numpy()
        except pa.ArrowInvalid:
            continue
    return None


def label_values(table: Table) -> Labels:
    """Returns the labels: text as class indices in sorted order, numbers as they are, 0 where none were read.

    Raises:
        DataError: If a label is empty, NaN or infinite, or the column mixes text and numbers.
    """
    label = table.label
    if label is None:
        return Labels(np.zeros(table.features.num_rows, np.int64), None)
    refuse_empty(table, table.label_name, label, "Fill or remove the rows with empty labels.")
    if pa.types.is_string(label.type) or pa.types.is_large_string(label.type):
        names, values = np.unique(label.to_numpy().astype(str), return_inverse=True)
        return Labels(values.astype(np.int64), tuple(names.tolist()))
    if pa.types.is_floating(label.type):
        with np.errstate(over="ignore"):
            values = label.to_numpy().astype(np.float32)
        refuse_cells(table, table.label_name, label, ~np.isfinite(values))
        return Labels(values, None)
    return Labels(pc.cast(label, pa.int64()).to_numpy(), None)


def refuse_empty(table: Table, name: str, column: pa.ChunkedArray, remedy: str) -> None:
    """Refuses a column with empty cells.

    Args:
        table: The table.
        name: The column's name.
        column: The column.
        remedy: What to do about them.

    Raises:
        DataError: If there are any; it names the first.
    """
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise DataError(
            f"Column {name!r} has {column.null_count} empty cell{'s' if column.null_count > 1 else ''}.",
            place=f"{table.locate(row)}, column {name!r}",
            remedy=remedy,
        )


def refuse_cells(table: Table, name: str, column: pa.ChunkedArray, is_bad: BoolArray) -> None:
    """Refuses numbers that cannot be trained on.

    Args:
        table: The table.
        name: The column's name.
        column: The column.
        is_bad: Which of its cells are refused, shape (num_rows,).

    Raises:
        DataError: If there are any; it names the first.
    """
    bad = np.flatnonzero(is_bad)
    if bad.size:
        raise DataError(
            f"Column {name!r} is no finite float32 in {bad.size} row{'s' if bad.size > 1 else ''}.",
            place=f"{table.locate(int(bad[0]))}, column {name!r}",
            received=column[int(bad[0])].as_py(),
            remedy="Replace or remove NaN, infinite and extremely large values.",
        )
