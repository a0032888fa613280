"""Examples kept as the model sees them, so that later epochs neither read, nor decode, nor compute them again."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from distkeras.config.transform_sections import CacheSection
from distkeras.data.lazy_tensorflow import tf
from distkeras.data.pipeline import evaluation_dataset
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.sources.base import Source, Wrapped
from distkeras.errors import DataError, ResourceError
from distkeras.observability.atomic_files import explained, write_json
from distkeras.topology import Topology

# Examples that are read at once while the cache is filled.
BATCH = 64
# Part of the free memory or disk that a cache may take.
MOST_OF_FREE = 0.8

Say = Callable[[str], None]


class Cached(Wrapped):
    """A source whose examples were read before.

    Args:
        source: The source.
        arrays: Its examples, by id.
    """

    def __init__(self, source: Source, arrays: ArraySource) -> None:
        super().__init__(source)
        self.granularity = "batch"
        self.needs_tensorflow = False
        self.has_encoded_images = False
        self.jpeg_sizes = None
        self._arrays = arrays

    def read(self, ids: tf.Tensor) -> tuple[Any, ...]:
        return self._arrays.read(ids)

    def finish(self, features: Any) -> Any:
        return features

    def read_arrays(self, ids: np.ndarray) -> tuple[Any, ...]:
        return self._arrays.read_arrays(ids)


def cached(source: Source, section: CacheSection, folder: Path, state: Any, say: Say) -> Source:
    """Returns the source with its examples in memory, or in memory-mapped files that later runs find again.

    Args:
        source: The examples as the model sees them, without random changes; of one shape.
        section: Where they are kept.
        folder: Where files are kept if the section names no folder.
        state: What was learnt of the data, and all else that the examples depend on beside the source; JSON values.
        say: Where a person is told how large it gets.

    Raises:
        ResourceError: If memory or disk is too small.
        DataError: If an example cannot be read.
    """
    specs = _specs(source)
    num_bytes = source.num_examples * sum(math.prod(shape) * dtype.itemsize for shape, dtype in specs)
    if section.where == "memory":
        _require_room(num_bytes, _free_memory(), "memory", "data.cache")
        say(f"keeping {source.num_examples:,} examples in memory: {num_bytes / 2**20:,.0f} MiB")
        arrays = [np.empty((source.num_examples, *shape), dtype) for shape, dtype in specs]
        _fill(arrays, source)
    else:
        base = section.folder or folder
        arrays = _on_disk(base / _key(source, specs, state), source, specs, num_bytes, say)
    return Cached(source, _as_source(arrays, source))


def _on_disk(
    place: Path, source: Source, specs: list[tuple[tuple[int, ...], np.dtype[Any]]], num_bytes: int, say: Say
) -> list[np.ndarray]:
    with explained("keep examples", place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
    # Of the workers of a machine one fills it; the others wait, and find it full.
    with _locked(place.with_suffix(".lock")), explained("keep examples", place):
        if not (place / "complete.json").is_file():
            shutil.rmtree(place, ignore_errors=True)
            free = shutil.disk_usage(place.parent).free
            _require_room(num_bytes, free, "disk", str(place.parent))
            say(f"keeping {source.num_examples:,} examples in {place}: {num_bytes / 2**20:,.0f} MiB")
            place.mkdir()
            shapes = [((source.num_examples, *shape), dtype) for shape, dtype in specs]
            arrays = [
                np.lib.format.open_memmap(_file(place, index), "w+", dtype, shape)
                for index, (shape, dtype) in enumerate(shapes)
            ]
            _fill(arrays, source)
            for array in arrays:
                array.flush()
            write_json(place / "complete.json", {"source": source.name, "num_examples": source.num_examples})
        return [np.load(_file(place, index), mmap_mode="r") for index in range(len(specs))]


def _file(place: Path, index: int) -> Path:
    return place / f"{index}.npy"


def _fill(arrays: list[Any], source: Source) -> None:
    start = 0
    for batch in _batches(source):
        leaves: list[np.ndarray] = tf.nest.flatten(batch)
        for array, leaf in zip(arrays, leaves, strict=True):
            array[start : start + len(leaf)] = leaf
        start += len(leaves[0])


def _batches(source: Source) -> Iterator[Any]:
    if source.needs_tensorflow:
        with tf.device("CPU:0"):
            yield from evaluation_dataset(source, Topology(), global_batch_size=BATCH).as_numpy_iterator()
        return
    for start in range(0, source.num_examples, BATCH):
        yield source.read_arrays(np.arange(start, min(start + BATCH, source.num_examples)))


def _as_source(arrays: list[np.ndarray], source: Source) -> ArraySource:
    """Puts the arrays into the structure that the source's examples have."""
    features, label, *weight = tf.nest.pack_sequence_as(_structure(source), arrays)
    return ArraySource(features, label, *weight, name=source.name, locate=source.locate)


def _structure(source: Source) -> Any:
    return source.read_arrays(np.array([0]))


def _specs(source: Source) -> list[tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shape and type of each part of one example."""
    leaves: list[np.ndarray] = tf.nest.flatten(_structure(source))
    for leaf in leaves:
        if leaf.dtype.kind not in "biuf":
            raise DataError(
                "Only numbers can be kept.",
                place=f"data.cache: {source.name}",
                received=leaf.dtype,
                remedy="leave data.cache out",
            )
    return [(leaf.shape[1:], leaf.dtype) for leaf in leaves]


def _key(source: Source, specs: list[tuple[tuple[int, ...], np.dtype[Any]]], state: Any) -> str:
    """Names what is kept: the content, what was made of it, and its types."""
    described = [source.fingerprint, [[list(shape), dtype.str] for shape, dtype in specs], state]
    return hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=12).hexdigest()


def _require_room(needed: int, free: int | None, what: str, place: str) -> None:
    if free is not None and needed > MOST_OF_FREE * free:
        raise ResourceError(
            f"The examples do not fit into the {what}.",
            place=place,
            received=f"{needed / 2**20:,.0f} MiB, and {free / 2**20:,.0f} MiB are free",
            remedy="set a smaller data.image.size, cache on a larger disk (data.cache.where, data.cache.folder), "
            "or leave data.cache out",
        )


def _free_memory() -> int | None:
    """Memory that can be had without swapping, in bytes; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable")]
    return int(found[0]) * 1024 if found else None


@contextmanager
def _locked(path: Path) -> Generator[None]:
    with explained("lock the cache", path), path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
