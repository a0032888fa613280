"""Writers of one shard each: records, rows of a table, or a stretch of an array."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distkeras.data.conversion.layout import Layout, Target
from distkeras.data.conversion.reading import Block

ROW_GROUP_ROWS = 65_536
HASH_BYTES = 2**20


class ShardWriter(ABC):
    """Writes blocks of examples into one file; used as a context manager.

    Args:
        path: The file.
        layout: How examples are stored.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path = path
        self.layout = layout

    @abstractmethod
    def write(self, block: Block) -> None:
        """Adds examples."""

    @abstractmethod
    def close(self) -> None:
        """Finishes the file."""


class RecordWriter(ShardWriter):
    """Writes `tf.train.Example` records, of which a subclass makes a file."""

    def write(self, block: Block) -> None:
        for features, label in zip(block.features, self.layout.stored_labels(block.labels), strict=True):
            self._write(self._example(features, label))

    @abstractmethod
    def _write(self, record: bytes) -> None: ...

    def _example(self, features: Any, label: Any) -> bytes:
        import tensorflow as tf

        [name] = self.layout.features
        named = {name: _feature(features), "label": _feature(label)}
        return tf.train.Example(features=tf.train.Features(feature=named)).SerializeToString(
            deterministic=True
        )


class TFRecordWriter(RecordWriter):
    """Writes a TFRecord file, uncompressed, so that records can be read in any order."""

    def __init__(self, path: Path, layout: Layout) -> None:
        import tensorflow as tf

        super().__init__(path, layout)
        self._writer = tf.io.TFRecordWriter(str(path))

    def _write(self, record: bytes) -> None:
        self._writer.write(record)

    def close(self) -> None:
        self._writer.close()


class ArrayRecordWriter(RecordWriter):
    """Writes an ArrayRecord file, each record by itself, so that records can be read in any order."""

    def __init__(self, path: Path, layout: Layout) -> None:
        from array_record.python import array_record_module

        super().__init__(path, layout)
        # Images are compressed already, and a group is decompressed whole to read one record of it.
        self._writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1,uncompressed")

    def _write(self, record: bytes) -> None:
        self._writer.write(record)

    def close(self) -> None:
        self._writer.close()


class ParquetWriter(ShardWriter):
    """Writes a Parquet file of row groups of 65,536 rows, compressed with zstd."""

    def __init__(self, path: Path, layout: Layout) -> None:
        super().__init__(path, layout)
        # Opened here: where Arrow opens a file itself and the disk is full, it does not close it.
        self._file = path.open("wb")
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0
        self._writer: pq.ParquetWriter | None = None

    def write(self, block: Block) -> None:
        table = self._table(block)
        self._waiting.append(table)
        self._num_waiting += table.num_rows
        while self._num_waiting >= ROW_GROUP_ROWS:
            self._flush(ROW_GROUP_ROWS)

    def close(self) -> None:
        try:
            if self._num_waiting:
                self._flush(self._num_waiting)
            if self._writer is not None:
                self._writer.close()
        finally:
            self._file.close()

    def _flush(self, num_rows: int) -> None:
        table = pa.concat_tables(self._waiting)
        writer = self._writer = self._writer or pq.ParquetWriter(self._file, table.schema, compression="zstd")
        writer.write_table(table.slice(0, num_rows), row_group_size=num_rows)
        rest = table.slice(num_rows)
        self._waiting, self._num_waiting = [rest], rest.num_rows

    def _table(self, block: Block) -> pa.Table:
        if self.layout.content == "columns":
            columns = {name: _cells(block.features[name]) for name in self.layout.features}
        else:
            columns = dict(zip(self.layout.features, block.features.T, strict=True))
        return pa.table({**columns, "label": self.layout.stored_labels(block.labels)})


def open_writer(target: Target, path: Path, layout: Layout) -> ShardWriter:
    """Returns the writer of one shard; for memory-mapped arrays see `memmap.py`."""
    kinds: dict[str, type[ShardWriter]] = {
        "tfrecord": TFRecordWriter,
        "array_record": ArrayRecordWriter,
        "parquet": ParquetWriter,
    }
    return kinds[target](path, layout)


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _feature(value: Any) -> Any:
    import tensorflow as tf

    if isinstance(value, bytes | str):
        content = value.encode() if isinstance(value, str) else value
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))
    numbers = np.asarray(value).ravel()
    if numbers.dtype.kind == "f":
        return tf.train.Feature(float_list=tf.train.FloatList(value=numbers))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=numbers))


def _cells(values: Sequence[Any] | np.ndarray) -> pa.Array:
    """A column; NaN and empty text are empty cells, as they were in the table."""
    array = np.asarray(values)
    if array.dtype.kind == "f":
        return pa.array(array, from_pandas=True)
    texts = [value.decode() if isinstance(value, bytes) else str(value) for value in array.tolist()]
    return pa.array([text or None for text in texts], pa.string())
