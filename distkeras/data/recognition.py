"""What kind of source a path is, and what its columns look like: guesses a person can correct."""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal

import numpy as np

from distkeras.errors import DataError

if TYPE_CHECKING:
    from distkeras.data.inspection.result import Column, Inspection

Kind = Literal[
    "arrays",
    "array_record",
    "audio_folder",
    "csv",
    "excel",
    "image_folder",
    "jsonl",
    "parquet",
    "text_folder",
    "tfds",
    "tfrecord",
]
TaskKind = Literal["image_classification", "tabular_classification", "tabular_regression"]

# Whole numbers with more values than this are more likely a quantity than the names of classes.
MOST_CLASSES = 20
# Of a folder so many sub-folders are looked at, and so many files of each.
MOST_FOLDERS = 100
MOST_FILES = 100
# What the source of a folder reads are the files beside each other in it,
_BESIDE: dict[str, Kind] = {".jsonl": "jsonl", ".npy": "arrays", ".parquet": "parquet"}
# or those in a sub-folder for each class.
_IN_CLASSES: dict[str, Kind] = {
    **dict.fromkeys((".bmp", ".gif", ".jpeg", ".jpg", ".png"), "image_folder"),
    ".txt": "text_folder",
    ".wav": "audio_folder",
}
_ALONE: dict[str, Kind] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".npz": "arrays",
    ".parquet": "parquet",
    ".tsv": "csv",
    ".xlsx": "excel",
    **_IN_CLASSES,
}
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.IGNORECASE)
_RECORDS: tuple[Kind, ...] = ("tfrecord", "array_record")
_REMEDY = (
    "Give a .csv, .xlsx, .parquet, .jsonl, .npz, .tfrecord or .array_record file, a folder of .parquet, .jsonl, .npy "
    "or record files, a folder with a sub-folder of images, .txt or .wav files for each class, or a TFDS directory."
)


@dataclass(frozen=True)
class Columns:
    """What a table seems to be about.

    Attributes:
        label: The column to predict.
        task: What kind of problem the label makes it.
        features: The columns to predict it from, in the table's order.
        categories: Those of them that are text, or true and false in words.
        gaps: Those of them that are numbers with empty cells.
        left_out: The other columns, with the reason.
    """

    label: str
    task: TaskKind
    features: tuple[str, ...]
    categories: tuple[str, ...]
    gaps: tuple[str, ...]
    left_out: Mapping[str, str]


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
        DataError: If there is nothing, nothing that any source reads, or files of several kinds.
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
        return "tfds" if (path / "dataset_info.json").is_file() else _recognise_folder(path)
    kind = _record_kind(path.name) or _ALONE.get(path.suffix.lower())
    if kind is None:
        raise DataError("No source reads files of this kind.", place=str(path), remedy=_REMEDY)
    return kind


def judge_columns(table: Inspection) -> Columns:
    """Returns what a config would say of a table's columns; its label is the one that was inspected as such.

    Raises:
        DataError: If the table has no rows, an empty label, or no column to learn from.
    """
    [label] = [column for column in table.columns if column.role == "label"]
    others = [column for column in table.columns if column.role != "label"]
    if not table.num_examples:
        raise DataError(
            "The table has no rows.", place=table.name, remedy="give a table with at least one example"
        )
    if label.num_missing:
        raise DataError(
            f"The label {label.name!r} has {label.num_missing:,} empty cells.",
            place=table.name,
            remedy="fill or remove these rows, or name another label with --label",
        )
    reasons = {column.name: _why_left_out(column, table) for column in others}
    left_out = {name: reason for name, reason in reasons.items() if reason}
    features = [column for column in others if column.name not in left_out]
    if not features:
        raise DataError(
            f"The table has no column beside {label.name!r} that a model could learn from.",
            place=table.name,
            received=left_out,
            remedy="name another label with --label; write long texts as JSON Lines, a text and a label a line",
        )
    categories = tuple(column.name for column in features if _is_category(column, table.kind))
    gaps = [column.name for column in features if _num_finite(column) < table.num_examples]
    return Columns(
        label=label.name,
        task="tabular_classification" if names_classes(label, table.kind) else "tabular_regression",
        features=tuple(column.name for column in features),
        categories=categories,
        gaps=tuple(name for name in gaps if name not in categories),
        left_out=left_out,
    )


def judge_members(table: Inspection, label: str | None) -> tuple[Column, Column]:
    """Returns what a model would get of each line of JSON, or of each record, and which member is the label.

    Args:
        table: The inspection.
        label: Name of the label; None: "label" where there is one, else what is left.

    Raises:
        DataError: If there is nothing to learn from, or no label.
    """
    members = {column.name: column for column in table.columns}
    given = label or ("label" if "label" in members else None)
    if given is not None and given not in members:
        close = get_close_matches(given, members, n=1)
        raise DataError(
            f"There is no {given!r} in the examples.",
            place=table.name,
            remedy=f"did you mean {close[0]!r}?"
            if close
            else f"name one of: {', '.join(list(members)[:20])}",
        )
    features = _input_among([column for column in table.columns if column.name != given], table)
    if given is not None:
        return features, members[given]
    single = [column for column in table.columns if column is not features and _is_single(column)]
    # Members are in the order of the line, of which the last is a guess; features of records have none.
    if not single or (table.kind != "jsonl" and len(single) > 1):
        raise DataError(
            "The examples do not say which of their members is the label.",
            place=table.name,
            received=list(members),
            remedy="name it with --label",
        )
    return features, single[-1]


def names_classes(label: Column, kind: str) -> bool:
    """Returns whether labels are the names or numbers of classes rather than a quantity.

    Args:
        label: What an inspection says of them.
        kind: The kind of source. Excel has no whole numbers of its own: there they are told by their values.
    """
    values = label.numbers.get("value")
    if values is None:
        return True
    # An inspection gives whole numbers of a few values a bin each, which begins half a number below the smallest.
    looks_whole = values.min.is_integer() and values.edges[0] < values.min
    is_whole = "int" in label.type or label.type == "bool" or (kind == "excel" and looks_whole)
    return is_whole and values.min >= 0 and values.max < MOST_CLASSES


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


def _recognise_folder(folder: Path) -> Kind:
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    names = [entry.name for entry in entries if entry.is_file()]
    folders = sorted(entry.path for entry in entries if entry.is_dir())[:MOST_FOLDERS]
    # Files without a class, too: a model may be asked about them.
    counts = _count_beside(names) or _count_in_classes(folders) or _count(names, _IN_CLASSES)
    if not counts:
        near = next((path for path in folders if _count_beside(os.listdir(path))), None)
        raise DataError(
            "The folder holds nothing that a source reads." if entries else "The folder is empty.",
            place=str(folder),
            remedy=f"did you mean {near}?" if near else _REMEDY,
        )
    (kind, most), *others = found = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    # A few stray files, notes among images, do no harm: the source leaves them out.
    if others and 2 * others[0][1] >= most:
        raise DataError(
            "The folder holds files of several kinds, and a source reads one.",
            place=str(folder),
            received=", ".join(f"{count} for {name}" for name, count in found),
            remedy="keep the files of each kind in a folder of their own, and give one of these folders",
        )
    return kind


def _count_beside(names: Iterable[str]) -> Counter[Kind]:
    """Counts files that a source reads beside each other, by its kind."""
    listed = [name for name in names if not name.startswith(".")]
    records: Counter[Kind] = Counter(kind for kind in map(_record_kind, listed) if kind)
    return _count(listed, _BESIDE) + records


def _count_in_classes(folders: Iterable[str]) -> Counter[Kind]:
    """Counts some files of each class, at any depth below its folder, by the kind of source that reads them."""
    counts: Counter[Kind] = Counter()
    for folder in folders:
        names = (name for _, _, names in os.walk(folder) for name in names if not name.startswith("."))
        counts += _count(islice(names, MOST_FILES), _IN_CLASSES)
    return counts


def _count(names: Iterable[str], kinds: Mapping[str, Kind]) -> Counter[Kind]:
    suffixes = (PurePath(name).suffix.lower() for name in names)
    return Counter(kinds[suffix] for suffix in suffixes if suffix in kinds)


def _record_kind(name: str) -> Kind | None:
    """The kind of a record file; a shard's number may follow, as in `train.tfrecord-00000-of-00008`."""
    return next((kind for kind in _RECORDS if f".{kind}" in name), None)


def _why_left_out(column: Column, table: Inspection) -> str | None:
    """Why a column is no feature; None: it is one."""
    num_cells = table.num_examples - column.num_missing
    if not column.name:
        return "it has no name"
    if num_cells == 0:
        return "it is empty"
    if column.type == "text":
        if table.kind == "csv" and _looks_numeric(column):
            return "numbers with text among them"
        return "another text in every row" if column.num_distinct == num_cells else None
    if not _holds_numbers(column):
        return column.type
    return None if column.numbers else "it is empty"


def _input_among(columns: Sequence[Column], table: Inspection) -> Column:
    """The image, or else the longest text, or else the most numbers."""
    images = [column for column in columns if column.type == "image" and column.shape == ()]
    texts = [column for column in columns if "characters" in column.numbers and column.shape == ()]
    kinds = ("list", "large_list") if table.kind == "jsonl" else ("float32", "int64")
    numbers = [column for column in columns if column.type.startswith(kinds) and None not in column.shape]
    if images or texts:
        return images[0] if images else max(texts, key=lambda column: column.numbers["characters"].mean)
    if not numbers:
        raise DataError(
            "The examples have no image, no text and no numbers of one length to learn from.",
            place=table.name,
            received=[column.name for column in table.columns],
            remedy="name another label with --label; give a table as CSV or Parquet",
        )
    return max(numbers, key=lambda column: math.prod(length or 1 for length in column.shape))


def _is_single(column: Column) -> bool:
    return column.shape == () and not column.type.startswith(("image", "list", "large_list", "struct"))


def _holds_numbers(column: Column) -> bool:
    return column.type.startswith(("int", "uint", "halffloat", "float", "double", "bool"))


def _looks_numeric(column: Column) -> bool:
    """Whether most of the frequent texts of a column are numbers: a CSV source takes others there for mistakes."""
    values = [value for value, _ in column.counts.get("values", ())]
    numbers = [value for value in values if _NUMBER.fullmatch(value)]
    return 2 * len(numbers) > len(values)


def _is_category(column: Column, kind: str) -> bool:
    # In a CSV file true and false are words; elsewhere they are stored as what they are.
    return column.type == "text" or (column.type == "bool" and kind == "csv")


def _num_finite(column: Column) -> int:
    """How many cells are numbers; those that are NaN are as empty as empty ones."""
    values = column.numbers.get("value")
    return sum(values.counts) if values else 0
