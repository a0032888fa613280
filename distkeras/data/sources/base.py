"""What every data source is: a numbered collection of examples with labels."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from distkeras.data.lazy_tensorflow import tf
from distkeras.data.order import WINDOW_BLOCKS
from distkeras.errors import DataError

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Part:
    """One source of a mixture.

    Attributes:
        first_id: Id of its first example.
        num_examples: Its examples, numbered on from there.
        num_positions: How many examples of it every epoch has.
    """

    first_id: int
    num_examples: int
    num_positions: float


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
        has_encoded_images: Whether `read_encoded` can give images as the bytes of their files.
        jpeg_sizes: Height and width in pixels by example id, int32, shape (num_examples, 2), where `read_encoded` gives
            nothing but JPEGs and opening has looked at them all. None: what an image is shows when it is read.
        block_starts: First id of each block of examples that lie together on the disk and cost as much to read as one
            of them, and the number of examples; int64, shape (num_blocks + 1,). None: there are none.
        window_blocks: Blocks whose examples are shuffled together; so many must fit into memory decoded.
        parts: The sources of a mixture, or None.
        unreadable: What opening found that cannot be read, by example id; only where the config has a budget for it.
            Of a stream: where reading failed.
        is_stream: Whether examples come one after the other, as many as are asked for: they have no number, and
            `num_examples` is only more than any run reads.
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
    has_encoded_images: bool = False
    jpeg_sizes: np.ndarray | None = None
    block_starts: np.ndarray | None = None
    window_blocks: int = WINDOW_BLOCKS
    parts: tuple[Part, ...] | None = None
    unreadable: Mapping[int, DataError] = MappingProxyType({})
    is_stream: bool = False

    @abstractmethod
    def labels(self) -> np.ndarray:
        """Returns the labels of all examples, shape (num_examples, ...), without reading any features."""

    @abstractmethod
    def read(self, ids: tf.Tensor) -> tuple[Any, ...]:
        """Reads examples; called while a TensorFlow graph is traced, without AutoGraph: `tf.cond`, not Python's `if`.

        Args:
            ids: int64; shape (n,) with granularity "batch", a scalar with "example".

        Returns:
            (features, label) or (features, label, sample_weight), each with a leading n with granularity
            "batch".
        """

    def finish(self, features: Any) -> Any:
        """Returns a batch of what `read` gave as the model gets it: what is cheaper done by the batch."""
        return features

    def read_encoded(self, ids: tf.Tensor) -> tuple[Any, ...]:
        """Reads examples as `read` does, but leaves images encoded, for the pipeline to decode what it needs of them.

        Args:
            ids: int64, a scalar.

        Returns:
            (content, label) or (content, label, sample_weight): the bytes of an image file, a string scalar.
        """
        raise TypeError(f"{type(self).__name__} has no encoded images")

    def read_arrays(self, ids: np.ndarray) -> tuple[Any, ...]:
        """Reads examples now, as NumPy arrays and finished, with a leading n at any granularity.

        Args:
            ids: int64, shape (n,).

        Raises:
            DataError: If they are read one by one and differ in shape.
        """
        with tf.device("CPU:0"):
            if self.granularity == "batch":
                examples = self.read(tf.constant(ids, tf.int64))
            else:
                one_by_one = [self.read(tf.constant(example_id, tf.int64)) for example_id in ids]
                examples = tf.nest.map_structure(
                    lambda *parts: np.stack([np.asarray(p) for p in parts]), *one_by_one
                )
            return tf.nest.map_structure(np.asarray, (self.finish(examples[0]), *examples[1:]))

    def in_order(self, end: int) -> Source:
        """Returns the source for one reading by rising ids up to `end`: a stream is then read on, not anew."""
        return self

    @abstractmethod
    def locate(self, example_id: int) -> str:
        """Returns where a person finds the example: "data.csv row 17", "cats/3.jpg"."""

    def origin(self, ids: np.ndarray) -> tuple[Source, np.ndarray]:
        """Returns the source that some examples were taken from at first, and their ids in it; shape (n,)."""
        return self, ids

    def require_unchanged(self, example_id: int) -> None:
        """Looks at an example again as opening did, where that is more than reading it; for the source of `origin`.

        Raises:
            DataError: If it is not what it was.
        """
        return

    def file_of(self, ids: np.ndarray) -> np.ndarray | None:
        """Returns the index of the file that each example lies in, shape (n,); None: there are not several."""
        return None

    def bytes_of(self, ids: np.ndarray) -> np.ndarray | None:
        """Returns how many bytes on the disk each example takes, shape (n,); None: that is not known."""
        return None

    def column(self, name: str) -> np.ndarray:
        """Returns the values of a column that may be no feature, shape (num_examples,): numbers, dates or text.

        Raises:
            DataError: If there is no such column.
        """
        raise DataError(
            "The source has no columns to split by.",
            place=f"data.split.column: {self.name}",
            received=name,
            remedy="choose random or stratified as data.split.method, or store the examples as a table",
        )


class Wrapped(Source):
    """Another source, changed in some way: what a subclass does not define is the other's.

    Args:
        source: The other source.
    """

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self.num_examples = source.num_examples
        self.fingerprint = source.fingerprint
        self.granularity = source.granularity
        self.feature_shape = source.feature_shape
        self.feature_dtype = source.feature_dtype
        self.class_names = source.class_names
        self.feature_names = source.feature_names
        self.needs_tensorflow = source.needs_tensorflow
        self.has_encoded_images = source.has_encoded_images
        self.jpeg_sizes = source.jpeg_sizes
        self.block_starts = source.block_starts
        self.window_blocks = source.window_blocks
        self.parts = source.parts
        self.unreadable = source.unreadable
        self.is_stream = source.is_stream
        self.wrapped = source

    def labels(self) -> np.ndarray:
        return self.wrapped.labels()

    def read(self, ids: tf.Tensor) -> tuple[Any, ...]:
        return self.wrapped.read(ids)

    def finish(self, features: Any) -> Any:
        return self.wrapped.finish(features)

    def read_encoded(self, ids: tf.Tensor) -> tuple[Any, ...]:
        return self.wrapped.read_encoded(ids)

    def in_order(self, end: int) -> Source:
        if not self.is_stream:
            return self
        reader = copy(self)
        reader.wrapped = self.wrapped.in_order(end)
        return reader

    def locate(self, example_id: int) -> str:
        return self.wrapped.locate(example_id)

    def origin(self, ids: np.ndarray) -> tuple[Source, np.ndarray]:
        return self.wrapped.origin(ids)

    def column(self, name: str) -> np.ndarray:
        return self.wrapped.column(name)


class Subset(Wrapped):
    """Some examples of another source, renumbered from 0.

    Args:
        source: The source to take examples from.
        ids: Their ids in `source`, in the order they are renumbered; shape (num_examples,).
        name: What the part is called; None: as the source.

    Raises:
        DataError: If there are no ids, or one is not in the source.
    """

    def __init__(self, source: Source, ids: np.ndarray, *, name: str | None = None) -> None:
        super().__init__(source)
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
        is_sorted = bool((np.diff(ids) > 0).all())
        self.block_starts = _block_starts_of(ids, source.block_starts) if is_sorted else None
        self.parts = _parts_of(ids, source.parts) if is_sorted else None
        self.jpeg_sizes = None if source.jpeg_sizes is None else source.jpeg_sizes[ids]
        own = {int(outer): index for index, outer in enumerate(ids)} if source.unreadable else {}
        self.unreadable = {own[key]: error for key, error in source.unreadable.items() if key in own}
        self._ids = ids
        self._id_table: tf.Tensor | None = None

    def labels(self) -> np.ndarray:
        return self.wrapped.labels()[self._ids]

    def read(self, ids: tf.Tensor) -> tuple[Any, ...]:
        return self.wrapped.read(self._renumbered(ids))

    def read_encoded(self, ids: tf.Tensor) -> tuple[Any, ...]:
        return self.wrapped.read_encoded(self._renumbered(ids))

    def read_arrays(self, ids: np.ndarray) -> tuple[Any, ...]:
        return self.wrapped.read_arrays(self._ids[ids])

    def locate(self, example_id: int) -> str:
        return self.wrapped.locate(int(self._ids[example_id]))

    def origin(self, ids: np.ndarray) -> tuple[Source, np.ndarray]:
        return self.wrapped.origin(self._ids[ids])

    def column(self, name: str) -> np.ndarray:
        return self.wrapped.column(name)[self._ids]

    def _renumbered(self, ids: tf.Tensor) -> tf.Tensor:
        if self._id_table is None:
            # Eager and on the CPU, so that pipelines capture one tensor rather than embed a copy in each graph.
            with tf.init_scope(), tf.device("CPU:0"):
                self._id_table = tf.constant(self._ids)
        return tf.gather(self._id_table, ids)


def _block_starts_of(ids: np.ndarray, block_starts: np.ndarray | None) -> np.ndarray | None:
    """The blocks that some sorted ids lie in, numbered as the ids are; empty ones are left out."""
    return None if block_starts is None else np.unique(np.searchsorted(ids, block_starts))


def _parts_of(ids: np.ndarray, parts: tuple[Part, ...] | None) -> tuple[Part, ...] | None:
    """What is left of each part of a mixture; it keeps its share of the positions."""
    if parts is None:
        return None
    left: list[Part] = []
    for part in parts:
        first, end = np.searchsorted(ids, [part.first_id, part.first_id + part.num_examples]).tolist()
        if end > first:
            kept = len(ids) / sum(one.num_examples for one in parts)
            left.append(Part(first, end - first, part.num_positions * kept))
    return tuple(left)
