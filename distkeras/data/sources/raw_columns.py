"""Columns of numbers and text, each an input of its own: what `data.tabular` makes features of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distkeras.data.lazy_tensorflow import tf
from distkeras.data.sources.arrays import MAX_TENSOR_BYTES
from distkeras.data.sources.base import Source
from distkeras.data.sources.columns import Labels, RawType, Table, raw_type, refuse_cells
from distkeras.errors import DataError


class RawColumnsSource(Source):
    """A table in memory whose features are a mapping from each column's name to a number or a text.

    Empty cells are NaN in columns of numbers, float32, and "" in columns of text, which NumPy has as UTF-8 in
    `bytes` objects. The fingerprint is a hash of names and content.

    Args:
        table: The columns.
        labels: Their labels.
        types: What columns must be; those that are not named are what they are stored as.
        name: What the source is called in logs and errors.

    Raises:
        DataError: If a column is neither numbers nor text, not what it must be, or has a number that is
            infinite or too large for float32.
    """

    def __init__(
        self, table: Table, labels: Labels, *, types: Mapping[str, RawType] | None = None, name: str
    ) -> None:
        wanted = types or {}
        self.name = name
        self.num_examples = table.features.num_rows
        self.granularity = "batch"
        self.needs_tensorflow = False
        self.class_names = labels.class_names
        self.feature_names = tuple(table.features.column_names)
        self.feature_shape = dict.fromkeys(self.feature_names, ())
        self.feature_dtype = {
            column: wanted.get(column) or raw_type(table, column) for column in self.feature_names
        }
        # Two blocks rather than many columns: a batch is gathered by few operations, however many there are.
        self._numbers = _numbers(
            table, [key for key, kind in self.feature_dtype.items() if kind == "float32"]
        )
        self._codes, self._texts = _texts(
            table, [key for key, kind in self.feature_dtype.items() if kind == "string"]
        )
        self._labels = labels.values
        self._locate = table.locate
        self._tensors: list[tf.Tensor] = []
        self.fingerprint = self._hash()

    def labels(self) -> np.ndarray:
        return self._labels

    def read(self, ids: tf.Tensor) -> tuple[Any, ...]:
        if self._fits_tensors:
            numbers, codes, texts, labels = self._as_tensors()
            numbers, labels = tf.gather(numbers, ids), tf.gather(labels, ids)
            texts = tf.gather(texts, tf.gather(codes, ids))
        else:
            types = (tf.float32, tf.string, self._labels.dtype)
            numbers, texts, labels = tf.numpy_function(self._gather, [ids], types)
            numbers.set_shape((ids.shape[0], self._numbers.shape[1]))
            texts.set_shape((ids.shape[0], self._codes.shape[1]))
            labels.set_shape(ids.shape)
        return self._by_name(tf.unstack(numbers, axis=1), tf.unstack(texts, axis=1)), labels

    def read_arrays(self, ids: np.ndarray) -> tuple[Any, ...]:
        numbers, texts, labels = self._gather(ids)
        return self._by_name(numbers.T, texts.T), labels

    def locate(self, example_id: int) -> str:
        return self._locate(example_id)

    @property
    def _fits_tensors(self) -> bool:
        text_bytes = sum(map(len, self._texts)) + self._texts.nbytes
        return self._numbers.nbytes + self._codes.nbytes + text_bytes <= MAX_TENSOR_BYTES

    def _gather(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._numbers[ids], self._texts[self._codes[ids]], self._labels[ids]

    def _as_tensors(self) -> list[tf.Tensor]:
        if not self._tensors:
            # Eager and on the CPU: pipelines capture these tensors rather than embed a copy in each graph.
            with tf.init_scope(), tf.device("CPU:0"):
                arrays = (self._numbers, self._codes, self._texts, self._labels)
                self._tensors = [tf.constant(array) for array in arrays]
        return self._tensors

    def _by_name(self, numbers: Iterable[Any], texts: Iterable[Any]) -> dict[str, Any]:
        parts = {"float32": iter(numbers), "string": iter(texts)}
        return {name: next(parts[kind]) for name, kind in self.feature_dtype.items()}

    def _hash(self) -> str:
        content = hashlib.blake2b(digest_size=16)
        content.update(repr(self.feature_dtype).encode())
        lengths = np.array([len(text) for text in self._texts.tolist()], "<i8")
        for array in (self._numbers, self._codes, lengths, self._labels):
            content.update(np.ascontiguousarray(array).tobytes())
        content.update(b"".join(self._texts.tolist()))
        return content.hexdigest()


def _numbers(table: Table, names: Sequence[str]) -> np.ndarray:
    """Returns columns of numbers, float32, shape (num_rows, num_columns), NaN where cells are empty."""
    block = np.empty((table.features.num_rows, len(names)), np.float32)
    for position, name in enumerate(names):
        column = table.features.column(name)
        if raw_type(table, name) == "string":
            row = int(np.argmax(column.is_valid().to_numpy()))
            raise DataError(
                f"Column {name!r} is text; the model was trained on numbers.",
                place=f"{table.locate(row)}, column {name!r}",
                received=column[row].as_py(),
                remedy="Write the column as numbers.",
            )
        with np.errstate(over="ignore"):  # Too large becomes infinite, which is refused just below.
            block[:, position] = pc.cast(column, pa.float64()).to_numpy()
        refuse_cells(table, name, column, np.isinf(block[:, position]))
    return block


def _texts(table: Table, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns columns of text: int32 codes, shape (num_rows, num_columns), and the texts that they stand for."""
    codes = np.empty((table.features.num_rows, len(names)), np.int32)
    texts: list[bytes] = []
    for position, name in enumerate(names):
        column = pc.fill_null(pc.cast(table.features.column(name), pa.string()), "")
        encoded = column.combine_chunks().dictionary_encode()
        codes[:, position] = encoded.indices.to_numpy() + len(texts)
        texts += [text.encode() for text in encoded.dictionary.to_pylist()]
    vocabulary = np.empty(len(texts), object)
    vocabulary[:] = texts
    return codes, vocabulary
