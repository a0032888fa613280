"""A Ray Data set that a function of the user makes: its blocks are read out of Ray's object store."""

from __future__ import annotations

import hashlib
import importlib
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from distkeras.config.source_sections import RayDataSource as RayDataSection
from distkeras.config.user_code import import_function
from distkeras.data.lazy_tensorflow import tf
from distkeras.data.order import WINDOW_BLOCKS
from distkeras.data.sources.base import Source
from distkeras.data.sources.columns import Labels, Table, choose_features, feature_matrix, label_values
from distkeras.data.sources.parquet_table import as_plain
from distkeras.data.sources.ray_session import in_order, kept_random_state, ray_data, start, wait_for_a_cpu
from distkeras.data.sources.row_groups import (
    CACHE_BYTES,
    Kept,
)
from distkeras.errors import DataError, DistkerasError, error_text


class RayDataSource(Source):
    """The rows of a `ray.data.Dataset`: float32 features, shape (num_columns,), or one column of arrays, and labels.

    The function is called once, in a process that is connected to Ray: to the cluster whose worker it is, to the one
    of RAY_ADDRESS, or to a Ray of this machine that is started for it and ends with the process. Its data set is
    materialised: it has to fit into the object store, beside what Ray spills to the disk. Every worker process calls
    the function and materialises for itself, so two workers cost twice the time and the room. The tasks need a CPU
    of the cluster that no training worker holds.

    Blocks are what an epoch's order shuffles, as row groups of Parquet files are. They keep their order, and are held
    as arrays after they were fetched, the last used ones, up to 1 GiB. An empty cell or a NaN is found when its block
    is first read, those of the label column at opening.

    The fingerprint is made of the columns' types, the number of rows of each block, and the labels. Features that
    change under the same labels are not noticed. The number of blocks depends on the cluster unless the function
    chooses it, as with `override_num_blocks`: then another cluster is other data, and a run does not go on there.

    Args:
        section: The function and the columns.

    Raises:
        ConfigError: If there is no such function, it raises, or Ray Data is not installed.
        DataError: If it returns no data set, or one without rows, a column is missing or not what it must be, a
            label is empty or not finite, or a block is larger than what is held.
        ResourceError: If Ray does not start, or has no free CPU.
    """

    granularity = "batch"
    needs_tensorflow = False

    def __init__(self, section: RayDataSection) -> None:
        self.name = section.function
        function = import_function(
            section.function, "function of the data", "data.source.function", accepted=()
        )
        self._ray, data = ray_data()
        with kept_random_state():
            start(self._ray)
            wait_for_a_cpu(self._ray)
            with in_order(data):
                # It is held, for its blocks are deleted with it.
                self._dataset = _materialized(function, section.function, data)
                schema = self._read_blocks()
                self._columns = choose_features(schema.names, section.label, section.features, self.name)
                self._read_shape(schema)
                labels = self._read_labels(section.label)
        self._check_sizes()
        self.class_names = labels.class_names
        self._labels = labels.values
        self.fingerprint = self._content(
            [schema.field(name).type for name in (*self._columns, section.label)]
        )
        self._kept = Kept(self._decode, CACHE_BYTES)

    def labels(self) -> np.ndarray:
        return self._labels

    def read(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        types = [tf.as_dtype(self._dtype), tf.as_dtype(self._labels.dtype)]
        features, labels = tf.numpy_function(self.read_arrays, [ids], types)
        features.set_shape((ids.shape[0], *self._shape))
        labels.set_shape((ids.shape[0],))
        return features, labels

    def read_arrays(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        blocks = np.searchsorted(self._starts, ids, side="right") - 1
        features = np.empty((len(ids), *self._shape), self._dtype)
        for block, rows in self._kept.each(np.unique(blocks).tolist()):
            inside = np.flatnonzero(blocks == block)
            features[inside] = rows[ids[inside] - self._starts[block]]
        return features, self._labels[ids]

    def locate(self, example_id: int) -> str:
        return f"{self.name} row {example_id + 1}"

    def _read_blocks(self) -> pa.Schema:
        """Finds the blocks and returns what columns they have."""
        bundles = self._dataset.iter_internal_ref_bundles()
        counts = [entry.metadata.num_rows for bundle in bundles for entry in bundle.blocks]
        refs = self._dataset.to_arrow_refs()
        self._refs = [ref for ref, count in zip(refs, counts, strict=True) if count]
        if not self._refs:
            raise DataError(
                "There are no rows in the Ray Data set.",
                place=self.name,
                remedy="let the function return at least one example",
            )
        self._starts = np.cumsum([0, *(count for count in counts if count)])
        self.block_starts = self._starts
        self.num_examples = int(self._starts[-1])
        return self._ray.get(self._refs[0]).schema

    def _read_shape(self, schema: pa.Schema) -> None:
        """Finds out what features are: numbers, a column each, or one column of arrays."""
        for name in self._columns:
            column_type = schema.field(name).type
            if not _is_number(column_type) and not (_is_array(column_type) and len(self._columns) == 1):
                raise DataError(
                    f"The feature column {name!r} is neither numbers nor the one column of arrays of one shape.",
                    place=self.name,
                    received=str(column_type),
                    remedy="encode it in the function (map_batches), or leave it out with data.source.features",
                )
        first = schema.field(self._columns[0]).type
        self._holds_arrays = _is_array(first)
        self._shape: tuple[int, ...] = first.shape if self._holds_arrays else (len(self._columns),)
        self.feature_shape = self._shape
        self.feature_names = None if self._holds_arrays else self._columns
        stored = np.dtype(first.value_type.to_pandas_dtype()) if self._holds_arrays else np.dtype(np.float32)
        self._dtype = stored if stored.kind in "iu" else np.dtype(np.float32)
        self.feature_dtype = self._dtype.name

    def _check_sizes(self) -> None:
        largest = int(np.argmax(np.diff(self._starts)))
        num_rows = int(self._starts[largest + 1] - self._starts[largest])
        num_bytes = num_rows * math.prod(self._shape) * self._dtype.itemsize
        if num_bytes > CACHE_BYTES:
            raise DataError(
                f"A block takes {num_bytes / 2**30:.1f} GiB in memory; {CACHE_BYTES / 2**30:.0f} GiB is allowed.",
                place=f"{self.name}, block {largest}",
                received=f"{num_rows:,} rows",
                remedy="end the function with `return dataset.repartition(n)`, with n more blocks",
            )
        # At the border of two windows the blocks of both are in use.
        self.window_blocks = max(1, min(WINDOW_BLOCKS, CACHE_BYTES // 2 // max(1, num_bytes)))

    def _read_labels(self, name: str) -> Labels:
        """Fetches the label column alone, wherever its blocks are."""
        refs = self._dataset.select_columns([name]).to_arrow_refs()
        tables = [table for table in self._ray.get(refs) if table.num_rows]
        column = as_plain(pa.concat_tables(tables, promote_options="permissive").column(name))
        if not (_is_number(column.type) or _is_text(column.type)):
            raise DataError(
                f"The label column {name!r} is {column.type}, neither numbers nor text.",
                place=self.name,
                remedy="make labels integers, floats or strings",
            )
        return label_values(Table(pa.table({name: column}), column, name, self.locate))

    def _content(self, types: Sequence[Any]) -> str:
        content = hashlib.blake2b(f"ray_data/1/{self._columns}/{types}".encode(), digest_size=16)
        content.update(self._starts.astype("<i8").tobytes())
        content.update(self._labels.tobytes())
        content.update(repr(self.class_names).encode())
        return content.hexdigest()

    def _decode(self, block: int) -> np.ndarray:
        table = self._ray.get(self._refs[block])
        first = int(self._starts[block])
        if not self._holds_arrays:
            columns = table.select(list(self._columns))
            return feature_matrix(Table(columns, None, "", lambda row: self.locate(first + row)))
        return self._as_arrays(table, first)

    def _as_arrays(self, table: pa.Table, first: int) -> np.ndarray:
        accessor = importlib.import_module("ray.data.block").BlockAccessor
        arrays: np.ndarray = accessor.for_block(table).to_numpy(self._columns[0])
        if arrays.shape[1:] != self._shape or arrays.dtype.kind not in "iufb":
            raise DataError(
                f"The arrays of column {self._columns[0]!r} are not of shape {self._shape}.",
                place=self.locate(first),
                received=arrays.shape[1:],
                remedy="make all arrays of one shape in the function",
            )
        with np.errstate(over="ignore"):
            # A copy, for what Ray hands out is not kept from being spilled or moved.
            arrays = arrays.astype(self._dtype)
        is_bad = ~np.isfinite(arrays).reshape(len(arrays), -1).all(axis=1)
        if is_bad.any():
            raise DataError(
                f"An array of column {self._columns[0]!r} holds NaN, infinity or a number too large for float32.",
                place=self.locate(first + int(np.argmax(is_bad))),
                remedy="repair or remove that row",
            )
        return arrays


def _materialized(function: Any, name: str, data: Any) -> Any:
    try:
        dataset = function()
        if isinstance(dataset, data.Dataset):
            dataset.context.execution_options.preserve_order = True
            return dataset.materialize()
    except DistkerasError:
        raise
    except Exception as error:  # the user's code may raise anything, here or in a task
        raise DataError(
            f"The Ray Data set cannot be made: {_reason(error)}",
            place=f"data.source.function: {name}",
            remedy="mend the function, or what it reads",
        ) from error
    raise DataError(
        "The function of the data returned no Ray Data set.",
        place="data.source.function",
        received=f"{name} returned {type(dataset).__name__}",
        remedy="end it with `return dataset`, a ray.data.Dataset",
    )


def _reason(error: Exception) -> str:
    """Returns why making the data failed: what the user's code raised, whether here or in a task of Ray's."""
    # The text of a task's error holds a traceback, and after it what Ray says of that.
    raised = re.search(r"^[A-Za-z_][\w.]*: .*$", str(error), re.MULTILINE)
    return raised.group() if raised and raised.start() else error_text(error)


def _is_number(column_type: pa.DataType) -> bool:
    types = pa.types
    return types.is_integer(column_type) or types.is_floating(column_type) or types.is_boolean(column_type)


def _is_array(column_type: Any) -> bool:
    """Whether a column is Ray's kind of arrays, all of one shape, of numbers."""
    shape, value_type = getattr(column_type, "shape", None), getattr(column_type, "value_type", None)
    return isinstance(shape, tuple) and value_type is not None and _is_number(value_type)


def _is_text(column_type: pa.DataType) -> bool:
    return pa.types.is_string(column_type) or pa.types.is_large_string(column_type)
