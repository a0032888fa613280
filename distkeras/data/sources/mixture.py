"""Several sources as one: their examples numbered on, and how many of each an epoch has."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distkeras.config.source_sections import MixtureSource as MixtureSection
from distkeras.config.transform_sections import TabularSection
from distkeras.data.lazy_tensorflow import tf
from distkeras.data.sources.base import Part, Source
from distkeras.errors import DataError


class MixtureSource(Source):
    """Sources whose examples have the same shape, type and classes.

    The order of an epoch takes as many examples of each as its weight asks for (`order.Mixed`); evaluation sees every
    example once.

    Args:
        sources: The sources.
        weights: Share of each in an epoch, relative to the others.
        num_positions: Examples of an epoch; None: as many as the sources have together.

    Raises:
        DataError: If the sources' examples differ in kind.
    """

    def __init__(
        self, sources: Sequence[Source], weights: Sequence[float], num_positions: int | None = None
    ) -> None:
        first = sources[0]
        for other in sources[1:]:
            _require_same_kind(first, other)
        self._sources = tuple(sources)
        self._first_ids = np.cumsum([0, *(source.num_examples for source in sources)])
        self.name = " + ".join(source.name for source in sources)
        self.num_examples = int(self._first_ids[-1])
        self.granularity = "example" if any(one.granularity == "example" for one in sources) else "batch"
        self.feature_shape = _common_shape(sources)
        self.feature_dtype = first.feature_dtype
        self.class_names = first.class_names
        self.feature_names = first.feature_names
        self.needs_tensorflow = any(source.needs_tensorflow for source in sources)
        self.has_encoded_images = all(source.has_encoded_images for source in sources)
        sizes = [source.jpeg_sizes for source in sources if source.jpeg_sizes is not None]
        self.jpeg_sizes = np.concatenate(sizes) if len(sizes) == len(sources) else None
        self.block_starts = self._blocks()
        # Windows of all parts are at hand at once.
        self.window_blocks = max(1, min(one.window_blocks for one in sources) // len(sources))
        total = num_positions or self.num_examples
        shares = np.array(weights) / sum(weights)
        self.parts = tuple(
            Part(int(first_id), source.num_examples, float(total * share))
            for first_id, source, share in zip(self._first_ids, sources, shares, strict=False)
        )
        content = hashlib.blake2b(str((total, list(weights))).encode(), digest_size=16)
        for source in sources:
            content.update(f"\n{source.fingerprint}".encode())
        self.fingerprint = content.hexdigest()

    def labels(self) -> np.ndarray:
        return np.concatenate([source.labels() for source in self._sources])

    def read(self, ids: tf.Tensor) -> tuple[Any, ...]:
        if self.granularity == "example":
            return self._from_one(ids, _one_example)
        return self._from_many(ids)

    def read_encoded(self, ids: tf.Tensor) -> tuple[Any, ...]:
        return self._from_one(ids, lambda source, inner: source.read_encoded(inner))

    def require_unchanged(self, example_id: int) -> None:
        index = int(self._place(np.array([example_id]))[0])
        inner_id = np.array([example_id - self._first_ids[index]])
        origin, [own_id] = self._sources[index].origin(inner_id)
        origin.require_unchanged(int(own_id))

    def read_arrays(self, ids: np.ndarray) -> tuple[Any, ...]:
        places = self._place(ids)
        parts: list[Any] = []
        rows: list[np.ndarray] = []
        for index in np.unique(places).tolist():
            chosen = np.flatnonzero(places == index)
            parts.append(self._sources[index].read_arrays(ids[chosen] - self._first_ids[index]))
            rows.append(chosen)
        back = np.argsort(np.concatenate(rows), kind="stable")
        return tf.nest.map_structure(lambda *pieces: np.concatenate(pieces)[back], *parts)

    def locate(self, example_id: int) -> str:
        index = int(self._place(np.array([example_id]))[0])
        source = self._sources[index]
        return f"{source.locate(example_id - int(self._first_ids[index]))} in {source.name}"

    def _place(self, ids: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._first_ids, ids, side="right") - 1

    def _from_one(self, example_id: tf.Tensor, read: Callable[[Source, tf.Tensor], Any]) -> tuple[Any, ...]:
        """Reads one example from the source that has it."""
        index = tf.searchsorted(self._first_ids[1:], tf.reshape(example_id, [1]), side="right")[0]
        branches = [
            lambda source=source, first=first: read(source, example_id - first)
            for source, first in zip(self._sources, self._first_ids, strict=False)
        ]
        return tf.switch_case(index, branches)

    def _from_many(self, ids: tf.Tensor) -> tuple[Any, ...]:
        """Reads a block of examples, each source's together, and puts them back into their order."""
        index = tf.searchsorted(self._first_ids[1:], ids, side="right")
        groups = tf.dynamic_partition(tf.range(tf.size(ids)), index, len(self._sources))
        parts = [
            source.read(tf.gather(ids, group) - first)
            for source, group, first in zip(self._sources, groups, self._first_ids, strict=False)
        ]
        back = tf.argsort(tf.concat(groups, axis=0))
        return tf.nest.map_structure(lambda *pieces: tf.gather(tf.concat(pieces, axis=0), back), *parts)

    def _blocks(self) -> np.ndarray | None:
        if all(source.block_starts is None for source in self._sources):
            return None
        starts: list[np.ndarray] = []
        for source, first in zip(self._sources, self._first_ids, strict=False):
            blocks = source.block_starts
            # A source without blocks costs the same anywhere, so each of its examples is a block.
            starts.append(first + (np.arange(source.num_examples) if blocks is None else blocks[:-1]))
        return np.append(np.concatenate(starts), self.num_examples)


def open_mixture(section: MixtureSection, tabular: TabularSection | None = None) -> MixtureSource:
    """Opens the sources of a mixture.

    Raises:
        DataError: As `open_source`, or if the sources' examples differ in kind.
    """
    from distkeras.data.sources import open_source

    first = open_source(section.sources[0].source, tabular=tabular)
    others = [open_source(one.source, tabular=tabular, like=first) for one in section.sources[1:]]
    weights = [one.weight for one in section.sources]
    return MixtureSource([first, *others], weights, section.num_examples)


def _one_example(source: Source, example_id: tf.Tensor) -> tuple[Any, ...]:
    if source.granularity == "example":
        return source.read(example_id)
    batch = source.read(tf.reshape(example_id, [1]))
    return tf.nest.map_structure(lambda part: tf.gather(part, 0), batch)


def _common_shape(sources: Sequence[Source]) -> Any:
    shapes: list[Any] = [source.feature_shape for source in sources]
    first: Any = shapes[0]
    if all(shape == first for shape in shapes):
        return first
    # Images of different sizes, which are brought to one size later.
    return tuple(
        size if all(shape[axis] == size for shape in shapes) else None for axis, size in enumerate(first)
    )


def _require_same_kind(first: Source, other: Source) -> None:
    for what, one, two in (
        ("types of features", first.feature_dtype, other.feature_dtype),
        ("shapes of features", _rank(first.feature_shape), _rank(other.feature_shape)),
        ("classes", first.class_names, other.class_names),
        ("columns", first.feature_names, other.feature_names),
        ("kinds of labels", _kind_of_labels(first), _kind_of_labels(other)),
    ):
        if one != two:
            raise DataError(
                f"The sources of a mixture have different {what}.",
                place=f"data.source.sources: {other.name}",
                received=two,
                remedy=f"they must be those of {first.name}: {one}",
            )


def _rank(shape: Any) -> Any:
    """An image's channels alone, for its size may change; else the shape."""
    is_image = isinstance(shape, tuple) and len(shape) == 3 and not isinstance(shape[0], tuple)
    return (None, None, shape[2]) if is_image else shape


def _kind_of_labels(source: Source) -> Any:
    labels = source.labels()
    return labels.dtype.kind, labels.shape[1:]
