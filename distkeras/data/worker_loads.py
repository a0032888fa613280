"""How many files, blocks and bytes a worker has to read for its share of the examples."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from distkeras.data.permutation import Int64Array
from distkeras.data.sources.base import Source


@dataclass(frozen=True)
class WorkerShare:
    """What one worker reads in the first epoch that is audited.

    Attributes:
        num_examples: Examples, counted as often as they are read.
        num_files: Files that it opens; None: the source does not say which file an example is in.
        num_blocks: Blocks, such as row groups of Parquet files, that it reads; None: the source has none.
        num_bytes: Bytes of these examples; None: not known without reading them.
    """

    num_examples: int
    num_files: int | None
    num_blocks: int | None
    num_bytes: int | None


class Loads:
    """Adds up what examples cost to read.

    Args:
        source: Where the examples are.
    """

    def __init__(self, source: Source) -> None:
        origin, ids = source.origin(np.arange(source.num_examples))
        self._files = origin.file_of(ids)
        self._bytes = origin.bytes_of(ids)
        if self._bytes is None and (size := _array_bytes(source)):
            self._bytes = np.full(source.num_examples, size)
        self._starts = source.block_starts if self._files is None else None
        self._reset()

    def add(self, ids: Int64Array) -> None:
        """Adds examples, each as often as its id stands there."""
        self._num_examples += len(ids)
        if self._files is not None and self._opened is not None:
            self._opened[self._files[ids]] = True
        if self._starts is not None and self._opened is not None:
            self._opened[np.searchsorted(self._starts, ids, side="right") - 1] = True
        if self._bytes is not None:
            self._num_bytes += int(self._bytes[ids].sum())

    def share(self) -> WorkerShare:
        """Returns what was added since the last call."""
        opened = None if self._opened is None else int(np.count_nonzero(self._opened))
        share = WorkerShare(
            num_examples=self._num_examples,
            num_files=None if self._files is None else opened,
            num_blocks=None if self._starts is None else opened,
            num_bytes=None if self._bytes is None else self._num_bytes,
        )
        self._reset()
        return share

    def _reset(self) -> None:
        self._num_examples = self._num_bytes = 0
        self._opened = None
        if self._files is not None:
            self._opened = np.zeros(int(self._files.max()) + 1, bool)
        elif self._starts is not None:
            self._opened = np.zeros(len(self._starts) - 1, bool)


def _array_bytes(source: Source) -> int | None:
    """The bytes of one example in memory, where all are numbers of one shape; None: they are not."""
    shape, dtype = source.feature_shape, source.feature_dtype
    if not isinstance(shape, tuple) or not isinstance(dtype, str) or dtype in ("string", "bfloat16"):
        return None
    sizes = [size for size in shape if isinstance(size, int)]
    return prod(sizes) * np.dtype(dtype).itemsize if len(sizes) == len(shape) else None
