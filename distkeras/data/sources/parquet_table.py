"""Reads the wanted columns of a Parquet file, or of a folder of Parquet files with one schema."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distkeras.config.source_sections import ParquetSource as ParquetSection
from distkeras.data.sources.columns import Table, choose_features
from distkeras.data.sources.file_systems import StoredFile, find_files
from distkeras.errors import DataError

NUM_THREADS = 16
# Behind a URI each read is a round trip, so a footer is fetched with the first one wherever it is no longer.
TAIL_BYTES = 2**16
_MAGIC = b"PAR1"


@dataclass(frozen=True)
class ParquetFile:
    """One file and what its footer says.

    Attributes:
        stored: The file.
        metadata: What its footer says: schema, row groups and statistics.
        digest: Hash of the footer.
        schema: The types of its columns.
    """

    stored: StoredFile
    metadata: pq.FileMetaData
    digest: str
    schema: pa.Schema

    def read(self, columns: Sequence[str], row_group: int | None = None) -> pa.Table:
        """Reads columns of one row group, or of all of them.

        Raises:
            DataError: If the file has changed since it was opened, or is damaged.
        """
        is_remote = self.stored.file_system is not None
        try:
            with (
                self.stored.open() as stream,
                pq.ParquetFile(stream, metadata=self.metadata, pre_buffer=is_remote) as file,
            ):
                # The file as it is: read_table would also look for partitions in the folders' names.
                if row_group is None:
                    return file.read(columns=list(columns)).select(list(columns))
                return file.read_row_group(row_group, columns=list(columns)).select(list(columns))
        except (pa.ArrowException, OSError) as error:
            raise _damaged(self.stored, error) from error


@dataclass(frozen=True)
class ParquetColumns:
    """Files with one schema, whose rows are numbered through in the order of the files' names.

    Attributes:
        files: The files.
        first_rows: First row of each file, and the number of rows; shape (num_files + 1,).
        features: Names of the feature columns, in order.
        label: Name of the label column; None where labels are not read.
    """

    files: tuple[ParquetFile, ...]
    first_rows: np.ndarray
    features: tuple[str, ...]
    label: str | None

    @property
    def wanted(self) -> tuple[str, ...]:
        """Names of the columns that are read."""
        return self.features if self.label is None else (*self.features, self.label)

    def locate(self, row: int) -> str:
        """Returns the file and the row's number in it, counted from 1."""
        file = int(np.searchsorted(self.first_rows, row, side="right")) - 1
        return f"{self.files[file].stored.name} row {row - self.first_rows[file] + 1}"


def open_files(section: ParquetSection) -> tuple[ParquetFile, ...]:
    """Reads the footers of a Parquet file, or of the files of a folder in the order of their names.

    Raises:
        DataError: If there is no file, or one is damaged.
        ConfigError: If nothing here opens such a URI.
    """
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return tuple(pool.map(_open, find_files(section.path, ".parquet", "Parquet")))


def open_columns(section: ParquetSection, *, labelled: bool = True, raw: bool = False) -> ParquetColumns:
    """Reads the footers of Parquet files, and checks that the wanted columns are what they must be.

    Args:
        section: The files and their columns.
        labelled: Whether the label column is read; without, it may be missing.
        raw: Whether feature columns may be of any type; without, they are numbers.

    Raises:
        DataError: If there is no file or no row, one is damaged, the files' schemas differ in these columns,
            or a column is neither numbers nor (the label only) text.
        ConfigError: If nothing here opens such a URI.
    """
    files = open_files(section)
    label = section.label if labelled else None
    first = files[0]
    features = choose_features(first.schema.names, label, section.features, first.stored.path)
    columns = ParquetColumns(
        files, np.cumsum([0, *(file.metadata.num_rows for file in files)]), features, label
    )
    for file in files[1:]:
        _check_same(file, first, columns.wanted)
    _check_types(first, () if raw else features, label)
    if columns.first_rows[-1] == 0:
        raise DataError(
            "There are no rows in the Parquet data.",
            place=section.path,
            remedy="Give a file with at least one example.",
        )
    return columns


def read_parquet(section: ParquetSection, *, labelled: bool = True, raw: bool = False) -> Table:
    """Reads the feature and label columns; other columns are not read from the disk.

    Arguments and errors are those of `open_columns`; a file whose content is damaged is one more error.
    """
    columns = open_columns(section, labelled=labelled, raw=raw)
    table = pa.concat_tables([file.read(columns.wanted) for file in columns.files])
    return Table(
        features=table.select(list(columns.features)),
        label=None if columns.label is None else as_plain(table.column(columns.label)),
        label_name=section.label,
        locate=columns.locate,
    )


def as_plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Undoes dictionary encoding, which is how pandas writes categories."""
    return column.cast(_plain_type(column.type))


def _open(stored: StoredFile) -> ParquetFile:
    try:
        with stored.open() as stream:
            footer = _read_footer(stream, stored.num_bytes)
        # Parsed from what was read: a reader of the file would fetch it once more.
        metadata = pq.read_metadata(pa.BufferReader(_MAGIC + footer))
        digest = hashlib.blake2b(footer, digest_size=16).hexdigest()
        return ParquetFile(stored, metadata, digest, metadata.schema.to_arrow_schema())
    except (pa.ArrowException, OSError) as error:
        raise _damaged(stored, error) from error


def _read_footer(stream: pa.NativeFile, num_bytes: int) -> bytes:
    """Reads the end of a file: the footer, its length (4 bytes, little-endian) and the format's mark (4 bytes)."""
    tail = stream.read_at(min(TAIL_BYTES, num_bytes), max(0, num_bytes - TAIL_BYTES))
    length = min(num_bytes, int.from_bytes(tail[-8:-4], "little") + 8)
    if length > len(tail):
        tail = stream.read_at(length, num_bytes - length)
    return tail[-length:]


def _damaged(stored: StoredFile, error: Exception) -> DataError:
    return DataError(
        "A Parquet file cannot be read.",
        place=stored.path,
        received=str(error).partition("\n")[0],
        remedy="Copy or write the file again.",
    )


def _check_same(file: ParquetFile, first: ParquetFile, columns: Sequence[str]) -> None:
    schema = file.schema
    for name in columns:
        if schema.names.count(name) != 1:
            trouble = "twice in" if name in schema.names else "missing from"
            raise DataError(
                f"Column {name!r} is {trouble} a Parquet file.",
                place=file.stored.path,
                remedy=f"Write all files of the folder with the schema of {first.stored.name}.",
            )
        if schema.field(name).type != first.schema.field(name).type:
            raise DataError(
                f"Column {name!r} is {schema.field(name).type} here and {first.schema.field(name).type} in "
                f"{first.stored.name}.",
                place=file.stored.path,
                remedy="Write all files of the folder with one schema.",
            )


def _check_types(file: ParquetFile, features: Sequence[str], label: str | None) -> None:
    for name in features:
        if not _is_numeric(file.schema.field(name).type):
            raise DataError(
                f"The feature column {name!r} is {file.schema.field(name).type}, not numbers.",
                place=file.stored.path,
                remedy="Encode it as numbers, or leave it out with data.source.features.",
            )
    if label is None:
        return
    label_type = _plain_type(file.schema.field(label).type)
    if not _is_numeric(label_type) and not _is_text(label_type):
        raise DataError(
            f"The label column {label!r} is {label_type}, neither numbers nor text.",
            place=file.stored.path,
            remedy="Write labels as integers, floats or strings.",
        )


def _is_numeric(column_type: pa.DataType) -> bool:
    types = pa.types
    return types.is_integer(column_type) or types.is_floating(column_type) or types.is_boolean(column_type)


def _is_text(column_type: pa.DataType) -> bool:
    return pa.types.is_string(column_type) or pa.types.is_large_string(column_type)


def _plain_type(column_type: pa.DataType) -> pa.DataType:
    return column_type.value_type if pa.types.is_dictionary(column_type) else column_type
