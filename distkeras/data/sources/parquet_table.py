"""Reads the wanted columns of a Parquet file, or of a folder of Parquet files with one schema."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distkeras.config.source_sections import ParquetSource as ParquetSection
from distkeras.data.sources.columns import Table, choose_features
from distkeras.errors import DataError


def read_parquet(section: ParquetSection, *, labelled: bool = True) -> Table:
    """Reads the feature and label columns; other columns are not read from the disk.

    Files of a folder follow one another in the order of their names.

    Args:
        section: The files and their columns.
        labelled: Whether the label column is read; without, it may be missing.

    Raises:
        DataError: If there is no file, one is damaged, the files' schemas differ in these columns, or a
            column is neither numbers nor (the label only) text.
    """
    paths = _find_files(section.path)
    schemas = [_read_schema(path) for path in paths]
    label = section.label if labelled else None
    features = choose_features(schemas[0].names, label, section.features, str(paths[0]))
    wanted = [*features, *([] if label is None else [label])]
    for path, schema in zip(paths[1:], schemas[1:], strict=True):
        _check_same(path, schema, paths[0], schemas[0], wanted)
    _check_types(paths[0], schemas[0], features, label)
    tables = [_read_columns(path, wanted) for path in paths]
    first_rows = np.cumsum([0, *(table.num_rows for table in tables)])
    if first_rows[-1] == 0:
        raise DataError(
            "There are no rows in the Parquet data.",
            place=str(section.path),
            remedy="Give a file with at least one example.",
        )
    table = pa.concat_tables(tables)
    return Table(
        features=table.select(list(features)),
        label=None if label is None else _as_plain(table.column(label)),
        label_name=section.label,
        locate=lambda row: _locate(paths, first_rows, row),
    )


def _find_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(
            "There is no such Parquet file or folder.",
            place=str(path),
            remedy="Correct data.source.path; it is relative to the config file.",
        )
    paths = sorted(path.glob("*.parquet"))
    if not paths:
        raise DataError(
            "A folder has no .parquet files.",
            place=str(path),
            remedy="Correct data.source.path; files in sub-folders are not read.",
        )
    return paths


def _read_schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    try:
        # One file as it is: read_table would also look for partitions in the folders' names.
        with pq.ParquetFile(path) as file:
            return file.read(columns=list(columns)).select(list(columns))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        "A Parquet file cannot be read.",
        place=str(path),
        received=str(error).splitlines()[0],
        remedy="Copy or write the file again.",
    )


def _check_same(
    path: Path, schema: pa.Schema, first_path: Path, first: pa.Schema, columns: Sequence[str]
) -> None:
    for name in columns:
        if schema.names.count(name) != 1:
            trouble = "twice in" if name in schema.names else "missing from"
            raise DataError(
                f"Column {name!r} is {trouble} a Parquet file.",
                place=str(path),
                remedy=f"Write all files of the folder with the schema of {first_path.name}.",
            )
        if schema.field(name).type != first.field(name).type:
            raise DataError(
                f"Column {name!r} is {schema.field(name).type} here and {first.field(name).type} in "
                f"{first_path.name}.",
                place=str(path),
                remedy="Write all files of the folder with one schema.",
            )


def _check_types(path: Path, schema: pa.Schema, features: Sequence[str], label: str | None) -> None:
    for name in features:
        if not _is_numeric(schema.field(name).type):
            raise DataError(
                f"The feature column {name!r} is {schema.field(name).type}, not numbers.",
                place=str(path),
                remedy="Encode it as numbers, or leave it out with data.source.features.",
            )
    if label is None:
        return
    label_type = _plain_type(schema.field(label).type)
    if not _is_numeric(label_type) and not _is_text(label_type):
        raise DataError(
            f"The label column {label!r} is {label_type}, neither numbers nor text.",
            place=str(path),
            remedy="Write labels as integers, floats or strings.",
        )


def _is_numeric(column_type: pa.DataType) -> bool:
    types = pa.types
    return types.is_integer(column_type) or types.is_floating(column_type) or types.is_boolean(column_type)


def _is_text(column_type: pa.DataType) -> bool:
    return pa.types.is_string(column_type) or pa.types.is_large_string(column_type)


def _plain_type(column_type: pa.DataType) -> pa.DataType:
    return column_type.value_type if pa.types.is_dictionary(column_type) else column_type


def _as_plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Undoes dictionary encoding, which is how pandas writes categories."""
    return column.cast(_plain_type(column.type))


def _locate(paths: Sequence[Path], first_rows: np.ndarray, row: int) -> str:
    file = int(np.searchsorted(first_rows, row, side="right")) - 1
    return f"{paths[file].name} row {row - first_rows[file] + 1}"
