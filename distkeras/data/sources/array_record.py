"""Random access to the records of ArrayRecord files, which carry their own index."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from distkeras.errors import DataError


class ArrayRecordFiles:
    """The records of ArrayRecord files, numbered through in the order of the files.

    Args:
        paths: The files.

    Raises:
        DataError: If a file cannot be read or is not an ArrayRecord file.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)
        # One reader a file: it is safe to share between threads, and opening one reads the file's index.
        self._readers = [_open(path) for path in paths]
        self._first_ids = [0, *accumulate(reader.num_records() for reader in self._readers)]

    @property
    def num_records(self) -> int:
        """Number of records in all files."""
        return self._first_ids[-1]

    def read_records(self, ids: np.ndarray) -> list[bytes]:
        """Reads payloads by record id, in the order of `ids`; may be called from several threads."""
        places = [self._place(int(record_id)) for record_id in ids]
        return [self._readers[file].read([position])[0] for file, position in places]

    def locate(self, record_id: int) -> str:
        """Returns the file and the record's number in it, counted from 1."""
        file, position = self._place(record_id)
        return f"{self._paths[file].name} record {position + 1}"

    def _place(self, record_id: int) -> tuple[int, int]:
        file = bisect_right(self._first_ids, record_id) - 1
        return file, record_id - self._first_ids[file]


def _open(path: Path) -> Any:
    from array_record.python.array_record_module import ArrayRecordReader

    # Without readahead a record is read alone, which is what random access wants.
    reader = ArrayRecordReader(str(path), options="readahead_buffer_size:0")
    if not reader.ok():  # It does not raise: it is a reader of no records.
        raise DataError(
            "An ArrayRecord file is missing or damaged.",
            place=str(path),
            remedy="Copy or prepare the data set again.",
        )
    return reader
