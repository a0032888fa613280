"""Random access to the records of ArrayRecord files, which carry their own index."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from distkeras.data.sources.file_systems import StoredFile, local_file
from distkeras.errors import DataError

# A reader holds its file open, and data sets have more shards than a process may hold open files.
MAX_OPEN_FILES = 64


class ArrayRecordFiles:
    """The records of ArrayRecord files, numbered through in the order of the files.

    Args:
        paths: The files.

    Raises:
        DataError: If a file cannot be read or is not an ArrayRecord file.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = tuple(local_file(path) for path in paths)
        # A reader is safe to share between threads, and opening one reads the file's index.
        self._reader = lru_cache(MAX_OPEN_FILES)(_open)
        self._first_ids = np.cumsum([0, *(self._reader(file).num_records() for file in self._files)])

    @property
    def num_records(self) -> int:
        """Number of records in all files."""
        return int(self._first_ids[-1])

    def read_records(self, ids: np.ndarray) -> list[bytes]:
        """Reads payloads by record id, in the order of `ids`; may be called from several threads.

        Raises:
            DataError: If a file has changed since it was opened, or is damaged.
        """
        records: list[bytes] = [b""] * len(ids)
        files = np.searchsorted(self._first_ids, ids, side="right") - 1
        for number in np.unique(files).tolist():
            places = np.flatnonzero(files == number)
            found = self._read_file(self._files[number], ids[places] - self._first_ids[number])
            for place, record in zip(places.tolist(), found, strict=True):
                records[place] = record
        return records

    def locate(self, record_id: int) -> str:
        """Returns the file and the record's number in it, counted from 1."""
        number = int(np.searchsorted(self._first_ids, record_id, side="right")) - 1
        return f"{self._files[number].name} record {record_id - self._first_ids[number] + 1}"

    def _read_file(self, file: StoredFile, positions: np.ndarray) -> list[bytes]:
        file.check_unchanged()
        try:
            return self._reader(file).read(positions.tolist())
        except RuntimeError as error:
            raise _damaged(file, str(error).partition("\n")[0]) from error


def _open(file: StoredFile) -> Any:
    from array_record.python.array_record_module import ArrayRecordReader

    # Without readahead a record is read alone, which is what random access wants.
    reader = ArrayRecordReader(file.path, options="readahead_buffer_size:0")
    if not reader.ok():  # It does not raise: it is a reader of no records.
        raise _damaged(file, None)
    return reader


def _damaged(file: StoredFile, received: str | None) -> DataError:
    return DataError(
        "An ArrayRecord file is missing or damaged.",
        place=file.path,
        received=received,
        remedy="Copy or prepare the data set again.",
    )
