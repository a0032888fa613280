"""Parquet files that are too large for the memory: row groups are read as they are needed, and some are kept."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock

import numpy as np

from distkeras.config.source_sections import ParquetSource as ParquetSection
from distkeras.data.lazy_tensorflow import tf
from distkeras.data.order import WINDOW_BLOCKS
from distkeras.data.sources.base import Source
from distkeras.data.sources.columns import Labels, Table, feature_matrix, label_values
from distkeras.data.sources.label_parts import join_labels
from distkeras.data.sources.parquet_table import (
    NUM_THREADS,
    ParquetColumns,
    ParquetFile,
    as_plain,
    open_columns,
    open_files,
)
from distkeras.errors import DataError

# `in_memory: auto` holds columns of up to so many bytes, as float32.
MAX_MEMORY_BYTES = 2**30
# Decoded row groups that are kept: a window of the order, and the next one, are read many times each.
CACHE_BYTES = 2**30
# Columns are written into rows by blocks that stay in the processor's cache: three times as fast as whole columns.
BLOCK_BYTES = 2**20


def fits_memory(section: ParquetSection) -> bool:
    """Whether a table is to be held in memory: as `in_memory` says, or by what its columns take as float32.

    Raises:
        DataError: If there is no file, or one is damaged.
        ConfigError: If nothing here opens such a URI.
    """
    if section.in_memory != "auto":
        return section.in_memory
    files = open_files(section)
    columns = section.features or [name for name in files[0].schema.names if name != section.label]
    num_rows = sum(file.metadata.num_rows for file in files)
    return num_rows * len(columns) * 4 <= MAX_MEMORY_BYTES


@dataclass(frozen=True)
class RowGroup:
    """Rows that are stored, and read, together.

    Attributes:
        file: The file they are in.
        index: Which of the file's row groups they are.
        first_row: Id of the first one.
        num_rows: How many they are.
    """

    file: ParquetFile
    index: int
    first_row: int
    num_rows: int


class RowGroupSource(Source):
    """The rows of Parquet files, read by row group: float32 features, shape (num_columns,), and labels.

    Opening reads the footers and the label column. The fingerprint is made of the wanted columns' names and of
    each file's name, length and footer, which holds its schema, row counts and statistics: it does not depend
    on where the files lie, but, unlike that of a table in memory, on how the same cells are written.

    Row groups are kept as float32 after they were decoded, the last used ones, up to 1 GiB. Calls of several
    threads share them, and none is decoded twice at once.

    Args:
        section: The files and their columns.
        labelled: Whether the label column is read; without, it may be missing, and all labels are 0.
        feature_names: The feature columns, in order; None: the section's.

    Raises:
        DataError: As `open_columns`; or if a feature has an empty cell, a label is empty or not finite, or a row
            group is larger than what is kept. It names file, row and column.
        ConfigError: If nothing here opens such a URI.
    """

    granularity = "batch"
    feature_dtype = "float32"
    needs_tensorflow = False

    def __init__(
        self,
        section: ParquetSection,
        *,
        labelled: bool = True,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        if feature_names is not None:
            section = section.model_copy(update={"features": list(feature_names)})
        columns = open_columns(section, labelled=labelled)
        self.name = section.path
        self._columns = columns
        self._groups = tuple(_row_groups(columns.files))
        self.num_examples = int(columns.first_rows[-1])
        self._starts = np.array([*(group.first_row for group in self._groups), self.num_examples])
        self.block_starts = self._starts
        self.feature_names = columns.features
        self.feature_shape = (len(columns.features),)
        self.fingerprint = _fingerprint(columns)
        self._check_sizes()
        self._check_empty_cells()
        labels = self._read_labels()
        self.class_names = labels.class_names
        self._labels = labels.values
        self._kept = Kept(self._decode, CACHE_BYTES)

    def labels(self) -> np.ndarray:
        return self._labels

    def read(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        types = [tf.float32, tf.as_dtype(self._labels.dtype)]
        features, labels = tf.numpy_function(self.read_arrays, [ids], types)
        features.set_shape((ids.shape[0], len(self._columns.features)))
        labels.set_shape((ids.shape[0],))
        return features, labels

    def read_arrays(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        groups = np.searchsorted(self._starts, ids, side="right") - 1
        # Gathered group by group, and put into the order of `ids` at the end: that is twice as fast as to
        # scatter each group's rows to their places.
        by_group = np.argsort(groups, kind="stable")
        needed, firsts = np.unique(groups[by_group], return_index=True)
        parts = {
            int(group): slice(*span)
            for group, span in zip(needed, pairwise([*firsts, len(ids)]), strict=True)
        }
        gathered = np.empty((len(ids), len(self._columns.features)), np.float32)
        rows = ids[by_group]
        for group, matrix in self._kept.each(parts):
            part = parts[group]
            # `clip` never applies; without it NumPy gathers into a buffer first.
            matrix.take(rows[part] - self._starts[group], axis=0, out=gathered[part], mode="clip")
        if (np.diff(by_group) != 1).any():
            places = np.empty_like(by_group)
            places[by_group] = np.arange(len(ids))
            gathered = gathered.take(places, axis=0)
        return gathered, self._labels[ids]

    def locate(self, example_id: int) -> str:
        return self._columns.locate(example_id)

    def _decode(self, group: int) -> np.ndarray:
        table = self._table(self._groups[group], self._columns.features)
        columns = table.features.columns
        if not any(column.null_count for column in columns):
            rows = _into_rows([column.to_numpy() for column in columns])
            if rows is not None:
                return rows
        return feature_matrix(table)  # It finds the cell that is to blame.

    def _table(self, group: RowGroup, columns: Sequence[str]) -> Table:
        content = group.file.read(columns, group.index)
        label = self._columns.label
        return Table(
            features=content,
            label=as_plain(content.column(label)) if label in columns else None,
            label_name=label or "",
            locate=lambda row: self.locate(group.first_row + row),
        )

    def _check_sizes(self) -> None:
        largest = max(self._groups, key=lambda group: group.num_rows)
        num_bytes = largest.num_rows * len(self._columns.features) * 4
        if num_bytes > CACHE_BYTES:
            raise DataError(
                f"A row group takes {num_bytes / 2**30:.1f} GiB in memory; {CACHE_BYTES / 2**30:.0f} GiB is allowed.",
                place=f"{largest.file.stored.path}, row group {largest.index}",
                received=f"{largest.num_rows:,} rows of {len(self._columns.features):,} columns",
                remedy="Write the file with smaller row groups (of 100,000 rows, for example), or set "
                "data.source.in_memory: true.",
            )
        # At the border of two windows the groups of both are in use.
        self.window_blocks = max(1, min(WINDOW_BLOCKS, CACHE_BYTES // 2 // max(1, num_bytes)))

    def _check_empty_cells(self) -> None:
        """Refuses what the footers know of; what they do not is found when it is read."""
        names = set(self._columns.features)
        for number, group in enumerate(self._groups):
            if _has_empty_cells(group, names):
                self._decode(number)

    def _read_labels(self) -> Labels:
        label = self._columns.label
        if label is None:
            return Labels(np.zeros(self.num_examples, np.int64), None)
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            return join_labels(
                list(pool.map(lambda group: label_values(self._table(group, [label])), self._groups))
            )


class Kept:
    """Decoded blocks, the last used ones up to a number of bytes; safe for threads.

    Args:
        decode: From a block's index to its rows; called once where several threads want it at a time.
        max_bytes: What the kept blocks may take together.
    """

    def __init__(self, decode: Callable[[int], np.ndarray], max_bytes: int) -> None:
        self._decode = decode
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._lock = Lock()
        self._decoded: OrderedDict[int, np.ndarray] = OrderedDict()
        self._under_way: dict[int, Future[np.ndarray]] = {}

    def each(self, groups: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
        """Yields each group with its rows, in any order: those that another thread is decoding come last."""
        awaited: dict[int, Future[np.ndarray]] = {}
        for group in groups:
            found = self._find(group)
            if isinstance(found, Future):
                awaited[group] = found
            else:
                yield group, self._load(group) if found is None else found
        for group, future in awaited.items():
            yield group, future.result()

    def _find(self, group: int) -> np.ndarray | Future[np.ndarray] | None:
        """The rows, or who will have them; None: it is now this thread that must decode them."""
        with self._lock:
            if group in self._decoded:
                self._decoded.move_to_end(group)
                return self._decoded[group]
            if group in self._under_way:
                return self._under_way[group]
            self._under_way[group] = Future()
            return None

    def _load(self, group: int) -> np.ndarray:
        future = self._under_way[group]
        try:
            rows = self._decode(group)
        except BaseException as error:
            with self._lock:
                del self._under_way[group]
            future.set_exception(error)
            raise
        with self._lock:
            del self._under_way[group]
            self._decoded[group] = rows
            self._num_bytes += rows.nbytes
            while self._num_bytes > self._max_bytes:
                self._num_bytes -= self._decoded.popitem(last=False)[1].nbytes
        future.set_result(rows)
        return rows


def _row_groups(files: Sequence[ParquetFile]) -> Iterator[RowGroup]:
    first_row = 0
    for file in files:
        for index in range(file.metadata.num_row_groups):
            num_rows = file.metadata.row_group(index).num_rows
            if num_rows:
                yield RowGroup(file, index, first_row, num_rows)
            first_row += num_rows


def _has_empty_cells(group: RowGroup, names: Container[str]) -> bool:
    """Whether the footer says that one of these columns has an empty cell in this row group."""
    stored = group.file.metadata.row_group(group.index)
    for position in range(stored.num_columns):
        column = stored.column(position)
        if column.path_in_schema in names:
            statistics = column.statistics
            if statistics is not None and statistics.has_null_count and statistics.null_count:
                return True
    return False


def _into_rows(columns: Sequence[np.ndarray]) -> np.ndarray | None:
    """Returns columns of any numeric type as float32 rows; None where one holds what float32 cannot, or NaN."""
    rows = np.empty((len(columns[0]), len(columns)), np.float32)
    length = max(1, BLOCK_BYTES // (4 * len(columns)))
    for start in range(0, len(rows), length):
        block = rows[start : start + length]
        with np.errstate(over="ignore"):
            for position, column in enumerate(columns):
                block[:, position] = column[start : start + length]
        if not np.isfinite(block).all():
            return None
    return rows


def _fingerprint(columns: ParquetColumns) -> str:
    content = hashlib.blake2b(f"parquet {columns.wanted}".encode(), digest_size=16)
    for file in columns.files:
        content.update(f"\n{file.stored.name} {file.stored.num_bytes} {file.digest}".encode())
    return content.hexdigest()
