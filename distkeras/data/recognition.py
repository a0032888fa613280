"""What kind of source a path is, and what its columns look like: guesses a person can correct."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from distkeras.errors import DataError

Kind = Literal["arrays", "image_folder", "csv", "parquet", "tfds"]
TaskKind = Literal["image_classification", "tabular_classification", "tabular_regression"]

# Whole numbers with more values than this are more likely a quantity than the names of classes.
MOST_CLASSES = 20
_BY_SUFFIX: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".npz": "arrays",
    ".parquet": "parquet",
    **dict.fromkeys((".bmp", ".gif", ".jpeg", ".jpg", ".png"), "image_folder"),
}
_REMEDY = (
    "Give a .csv, .parquet or .npz file, a folder of images, .npy or .parquet files, or a TFDS directory."
)


@dataclass(frozen=True)
class Columns:
    """What a table seems to be about.

    Attributes:
        label: The column to predict.
        features: Numeric columns, without the label.
        left_out: Columns that are neither.
        delimiter: Between two fields of a CSV file; a comma for Parquet.
        task: What kind of problem the label makes it.
    """

    label: str
    features: tuple[str, ...]
    left_out: tuple[str, ...]
    delimiter: str
    task: TaskKind


@dataclass(frozen=True)
class Arrays:
    """What arrays seem to be about.

    Attributes:
        features: Name of the array of features.
        label: Name of the array of labels.
        task: What kind of problem the labels make it.
    """

    features: str
    label: str
    task: TaskKind


def recognise(path: Path) -> Kind:
    """Returns the kind of source that a file or folder is, by its name and by what lies in the folder.

    Raises:
        DataError: If there is nothing, or nothing that any source reads.
    """
    if not path.exists():
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        close = get_close_matches(path.name, names, n=1)
        raise DataError(
            "There is no such file or folder.",
            place=str(path),
            remedy=f"did you mean {path.parent / close[0]}?" if close else "check the path",
        )
    if path.is_dir():
        return _recognise_folder(path)
    if path.suffix.lower() not in _BY_SUFFIX:
        raise DataError("No source reads files of this kind.", place=str(path), remedy=_REMEDY)
    return _BY_SUFFIX[path.suffix.lower()]


def inspect_columns(path: Path, label: str | None = None) -> Columns:
    """Returns the columns of a CSV or Parquet table as a config would name them.

    Args:
        path: A CSV file, a Parquet file, or a folder of Parquet files.
        label: The column to predict; None: the last one.

    Raises:
        DataError: If the table cannot be read, has no such column, or no numeric one beside it.
    """
    table, delimiter = _read_table(path)
    names = table.column_names
    label = label or names[-1]
    if label not in names:
        close = get_close_matches(label, names, n=1)
        raise DataError(
            f"There is no column {label!r}.",
            place=str(path),
            remedy=f"did you mean {close[0]!r}?" if close else f"name one of: {', '.join(names[:20])}",
        )
    features = tuple(name for name in names if name != label and _is_numeric(table.schema.field(name).type))
    if not features:
        raise DataError(
            f"The table has no numeric column beside {label!r}.",
            place=str(path),
            received=names,
            remedy="encode its columns as numbers, or name another label with --label",
        )
    left_out = tuple(name for name in names if name not in (*features, label))
    return Columns(label, features, left_out, delimiter, _task_of(table.column(label)))


def inspect_arrays(path: Path) -> Arrays:
    """Returns the arrays of a `.npz` file or a folder of `.npy` files as a config would name them.

    Raises:
        DataError: If they cannot be read, or are not one array of features and one of labels.
    """
    arrays = read_arrays(path)
    sizes = {name: math.prod(array.shape[1:]) for name, array in arrays.items()}
    features = max(sizes, key=lambda name: (sizes[name], name == "x"), default="x")
    labels = sorted((name for name in sizes if name != features), key=lambda name: (name != "y", sizes[name]))
    if not labels:
        raise DataError(
            "There must be an array of features and one of labels.",
            place=str(path),
            received=sorted(sizes),
            remedy="write them with numpy.savez(path, x=features, y=labels)",
        )
    is_regression = arrays[labels[0]].dtype.kind == "f"
    task = "image_classification" if arrays[features].ndim == 4 else "tabular_classification"
    return Arrays(features, labels[0], "tabular_regression" if is_regression else task)


def read_arrays(path: Path) -> Mapping[str, np.ndarray]:
    """Returns the arrays of a `.npz` file, or those of a folder of `.npy` files, memory-mapped, by name.

    Raises:
        DataError: If they cannot be read.
    """
    try:
        if path.is_dir():
            files = sorted(path.glob("*.npy"))
            return {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in files}
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            "The arrays cannot be read.",
            place=str(path),
            received=str(error).partition("\n")[0],
            remedy="write them again with numpy.savez or numpy.save",
        ) from error


def _recognise_folder(path: Path) -> Kind:
    if (path / "dataset_info.json").is_file():
        return "tfds"
    folders: dict[str, Kind] = {"*.parquet": "parquet", "*.npy": "arrays"}
    for pattern, kind in folders.items():
        if next(path.glob(pattern), None) is not None:
            return kind
    if any(entry.is_dir() or entry.suffix.lower() in _BY_SUFFIX for entry in path.iterdir()):
        return "image_folder"
    raise DataError("The folder holds nothing that a source reads.", place=str(path), remedy=_REMEDY)


def _read_table(path: Path) -> tuple[pa.Table, str]:
    try:
        if recognise(path) == "csv":
            delimiter = _delimiter(path)
            options = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
            return pyarrow.csv.read_csv(path, parse_options=options), delimiter
        first = next(iter(sorted(path.glob("*.parquet")))) if path.is_dir() else path
        with pq.ParquetFile(first) as file:
            return file.read(), ","
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            "The table cannot be read.",
            place=str(path),
            received=str(error).partition("\n")[0],
            remedy="check that it is a table with a header row",
        ) from error


def _delimiter(path: Path) -> str:
    """Returns what most often stands between the names of the header."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline()
    return max(",;\t|", key=header.count)


def _is_numeric(column_type: pa.DataType) -> bool:
    types = pa.types
    return types.is_integer(column_type) or types.is_floating(column_type) or types.is_boolean(column_type)


def _task_of(label: pa.ChunkedArray) -> TaskKind:
    if pa.types.is_floating(label.type):
        return "tabular_regression"
    if pa.types.is_integer(label.type):
        values: Sequence[int] = label.unique().drop_null().to_pylist()
        if not values or min(values) < 0 or max(values) >= MOST_CLASSES:
            return "tabular_regression"
    return "tabular_classification"
