"""What every data source is: a numbered collection of examples with labels."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from distkeras.data.lazy_tensorflow import tf
from distkeras.errors import DataError

Shape = tuple[int | None, ...]


class Source(ABC):
    """A collection of examples, each known by its id in `[0, num_examples)`.

    A source knows nothing of order, batches or workers: it reads the ids it is asked for, in any order.

    Attributes:
        name: What the source is called in logs and errors.
        num_examples: Number of examples, at least 1.
        fingerprint: Changes when the content changes; part of the order of examples.
        granularity: Whether `read` takes a vector of ids ("batch") or one id ("example").
        feature_shape: Shape of one example's features, without the batch. A mapping or a tuple of shapes
            where an example has several inputs.
        feature_dtype: TensorFlow's name of the features' type; same structure as `feature_shape`.
        class_names: Names of the classes by index, where the source has them.
        feature_names: Names of the features along the last axis, where the source has them.
        needs_tensorflow: Whether examples are read by TensorFlow's operations.
    """

    name: str
    num_examples: int
    fingerprint: str
    granularity: Literal["batch", "example"]
    feature_shape: Shape | Mapping[str, Shape] | tuple[Shape, ...]
    feature_dtype: str | Mapping[str, str] | tuple[str, ...]
    class_names: tuple[str, ...] | None = None
    feature_names: tuple[str, ...] | None = None
    needs_tensorflow: bool = True

    @abstractmethod
    def labels(self) -> np.ndarray:
        """Returns the labels of all examples, shape (num_examples, ...), without reading any features."""

    @abstractmethod
    def read(self, ids: tf.Tensor) -> tuple[Any, ...]:
        """Reads examples; called while a TensorFlow graph is traced.

        Args:
            ids: int64; shape (n,) with granularity "batch", a scalar with "example".

        Returns:
            (features, label) or (features, label, sample_weight), each with a leading n with granularity
            "batch".
        """

    def read_arrays(self, ids: np.ndarray) -> tuple[Any, ...]:
        """Reads examples now, as NumPy arrays: the values of `read`, with a leading n at any granularity.

        Args:
            ids: int64, shape (n,).

        Raises:
            DataError: If they are read one by one and differ in shape.
        """
        with tf.device("CPU:0"):
            if self.granularity == "batch":
                return tf.nest.map_structure(np.asarray, self.read(tf.constant(ids, tf.int64)))
            examples = [self.read(tf.constant(example_id, tf.int64)) for example_id in ids]
            return tf.nest.map_structure(
                lambda *parts: np.stack([np.asarray(part) for part in parts]), *examples
            )

    @abstractmethod
    def locate(self, example_id: int) -> str:
        """Returns where a person finds the example: "data.csv row 17", "cats/3.jpg"."""


class Subset(Source):
    """Some examples of another source, renumbered from 0.

    Args:
        source: The source to take examples from.
        ids: Their ids in `source`, in the order they are renumbered; shape (num_examples,).
        name: What the part is called; None: as the source.

    Raises:
        DataError: If there are no ids, or one is not in the source.
    """

    def __init__(self, source: Source, ids: np.ndarray, *, name: str | None = None) -> None:
        ids = np.array(ids, dtype=np.int64)
        if ids.size == 0:
            raise DataError("A part of a source has no examples.", place=name or source.name)
        if ids.min() < 0 or ids.max() >= source.num_examples:
            raise DataError(
                f"A part of a source asks for examples outside [0, {source.num_examples}).",
                place=name or source.name,
                received=int(ids.min() if ids.min() < 0 else ids.max()),
            )
        self.name = name or source.name
        self.num_examples = len(ids)
        content = hashlib.blake2b(ids.astype("<i8").tobytes(), digest_size=16)
        content.update(source.fingerprint.encode())
        self.fingerprint = content.hexdigest()
        self.granularity = source.granularity
        self.feature_shape = source.feature_shape
        self.feature_dtype = source.feature_dtype
        self.class_names = source.class_names
        self.feature_names = source.feature_names
        self.needs_tensorflow = source.needs_tensorflow
        self._source = source
        self._ids = ids
        self._id_table: tf.Tensor | None = None

    def labels(self) -> np.ndarray:
        return self._source.labels()[self._ids]

    def read(self, ids: tf.Tensor) -> tuple[Any, ...]:
        if self._id_table is None:
            # Eager and on the CPU, so that pipelines capture one tensor rather than embed a copy in each graph.
            with tf.init_scope(), tf.device("CPU:0"):
                self._id_table = tf.constant(self._ids)
        return self._source.read(tf.gather(self._id_table, ids))

    def read_arrays(self, ids: np.ndarray) -> tuple[Any, ...]:
        return self._source.read_arrays(self._ids[ids])

    def locate(self, example_id: int) -> str:
        return self._source.locate(int(self._ids[example_id]))
