"""Which columns of a table are features and which is the label, and what may stand in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distkeras.errors import DataError


@dataclass(frozen=True)
class Table:
    """Columns that were read, before they become arrays.

    Attributes:
        features: The feature columns, in order, each numeric.
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


def feature_matrix(table: Table) -> np.ndarray:
    """Returns the features, float32, shape (num_rows, num_features), all finite.

    Raises:
        DataError: If a cell is empty, NaN, infinite, or too large for float32; it names row and column.
    """
    matrix = np.empty((table.features.num_rows, table.features.num_columns), dtype=np.float32)
    for position, name in enumerate(table.features.column_names):
        column = table.features.column(name)
        _refuse_empty(table, name, column)
        with np.errstate(over="ignore"):  # Too large becomes infinite, which is refused just below.
            matrix[:, position] = column.to_numpy()
        _refuse_infinite(table, name, column, matrix[:, position])
    return matrix


def label_values(table: Table) -> Labels:
    """Returns the labels: text as class indices in sorted order, numbers as they are, 0 where none were read.

    Raises:
        DataError: If a label is empty, NaN or infinite, or the column mixes text and numbers.
    """
    label = table.label
    if label is None:
        return Labels(np.zeros(table.features.num_rows, np.int64), None)
    _refuse_empty(table, table.label_name, label)
    if pa.types.is_string(label.type) or pa.types.is_large_string(label.type):
        names, values = np.unique(label.to_numpy().astype(str), return_inverse=True)
        return Labels(values.astype(np.int64), tuple(names.tolist()))
    if pa.types.is_floating(label.type):
        with np.errstate(over="ignore"):
            values = label.to_numpy().astype(np.float32)
        _refuse_infinite(table, table.label_name, label, values)
        return Labels(values, None)
    return Labels(pc.cast(label, pa.int64()).to_numpy(), None)


def _refuse_empty(table: Table, name: str, column: pa.ChunkedArray) -> None:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise DataError(
            f"Column {name!r} has {column.null_count} empty cell{'s' if column.null_count > 1 else ''}.",
            place=f"{table.locate(row)}, column {name!r}",
            remedy="Fill or remove the rows with empty cells.",
        )


def _refuse_infinite(table: Table, name: str, column: pa.ChunkedArray, values: np.ndarray) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise DataError(
            f"Column {name!r} is no finite float32 in {bad.size} row{'s' if bad.size > 1 else ''}.",
            place=f"{table.locate(int(bad[0]))}, column {name!r}",
            received=column[int(bad[0])].as_py(),
            remedy="Replace or remove NaN, infinite and extremely large values.",
        )
