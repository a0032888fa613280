"""Arrays on the disk, `x.npy` and `y.npy`, which a run maps into memory; filled stretch by stretch."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from distkeras.data.conversion.reading import Block
from distkeras.data.sources.base import Source

FEATURES, LABELS = "x.npy", "y.npy"


class MemmapFiles:
    """The two arrays while they are filled: under temporary names, at their full size from the start.

    Args:
        folder: Where they are.
        source: The examples, for their number, shapes and types.

    Raises:
        OSError: If the disk has no room for them.
    """

    def __init__(self, folder: Path, source: Source) -> None:
        labels = source.labels()
        shape: Any = source.feature_shape
        rows = source.num_examples
        self._features = _open(
            _partial(folder, FEATURES), np.dtype(str(source.feature_dtype)), (rows, *shape)
        )
        self._labels = _open(_partial(folder, LABELS), labels.dtype, (rows, *labels.shape[1:]))

    def write(self, first_row: int, block: Block) -> int:
        """Puts examples into their rows, and returns the row after them."""
        end = first_row + len(block.labels)
        self._features[first_row:end] = block.features
        self._labels[first_row:end] = block.labels
        return end

    def flush(self) -> None:
        """Brings what was written to the disk."""
        self._features.flush()
        self._labels.flush()

    def digest(self, rows: range) -> str:
        """Returns the SHA-256 of some rows, features first."""
        return digest_of(self._features, self._labels, rows)


def finish(folder: Path) -> None:
    """Gives the arrays of a folder their names, unless they have them; nothing must be written afterwards."""
    for name in (FEATURES, LABELS):
        if _partial(folder, name).exists():
            _partial(folder, name).rename(folder / name)


def digest_of(features: np.ndarray, labels: np.ndarray, rows: range) -> str:
    """Returns the SHA-256 of some rows of two arrays, features first."""
    content = hashlib.sha256()
    for array in (features, labels):
        content.update(np.ascontiguousarray(array[rows.start : rows.stop]).data)
    return content.hexdigest()


def _open(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """Opens an array that was begun, or begins it."""
    if not _is_begun(path, dtype, shape):
        np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    # A hole in the file would only be found out when its page cannot be written, which ends the process.
    with path.open("r+b") as stream:
        os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return np.load(path, mmap_mode="r+", allow_pickle=False)


def _is_begun(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> bool:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return found.dtype == dtype and found.shape == shape


def _partial(folder: Path, name: str) -> Path:
    return folder / f".{name}.partial"
