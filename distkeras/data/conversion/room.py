"""How much room a conversion needs, and what is said when there is none."""

from __future__ import annotations

import errno
import math
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from distkeras.data.conversion.layout import Content
from distkeras.data.conversion.reading import blocks
from distkeras.data.sources.base import Source
from distkeras.errors import DataError, ResourceError

NUM_SAMPLED = 64
# A tf.train.Example around its values: names, lengths, checksums.
RECORD_OVERHEAD = 80


def estimate(source: Source, content: Content) -> int:
    """Returns about how many bytes the result takes; for compressed formats an upper bound."""
    ids = np.unique(np.linspace(0, source.num_examples - 1, NUM_SAMPLED).astype(np.int64))
    origin, origin_ids = source.origin(np.arange(source.num_examples))
    if content == "encoded":
        sizes = origin.bytes_of(origin_ids)
        if sizes is not None:
            return int(sizes.sum()) + RECORD_OVERHEAD * source.num_examples
    read = [block for one in ids.tolist() for block in blocks(source, content, range(one, one + 1))]
    sizes = [_size_of(block.features) + block.labels.nbytes for block in read]
    overhead = 0 if content in ("numbers", "columns") else RECORD_OVERHEAD
    return math.ceil((sum(sizes) / len(sizes) + overhead) * source.num_examples)


def _size_of(features: Any) -> int:
    if isinstance(features, dict):
        return sum(_size_of(values) for values in features.values())
    if isinstance(features, np.ndarray) and features.dtype.kind in "biuf":
        return features.nbytes
    return sum(len(value) for value in features)


def check_room(folder: Path, needed: int) -> None:
    """Refuses to begin what would fill the disk.

    Args:
        folder: Where the result will be.
        needed: Bytes that are still to be written.

    Raises:
        ResourceError: If fewer are free; it names the path and both numbers.
    """
    free = _free_bytes(folder)
    if needed > free:
        raise _full(folder, needed, free)


def _free_bytes(folder: Path) -> int:
    existing = next(place for place in (folder, *folder.resolve().parents) if place.exists())
    return shutil.disk_usage(existing).free


def _full(folder: Path, needed: int | None, free: int) -> ResourceError:
    wanted = "" if needed is None else f"what is left to write needs about {needed:,} bytes, and "
    return ResourceError(
        f"The disk is full: {wanted}{free:,} bytes are free.",
        place=str(folder),
        remedy="free some space and repeat the command; a conversion goes on where it stopped; or name another --out",
    )


@contextmanager
def explained_writing(folder: Path, needed: int | None = None) -> Generator[None]:
    """Says in our words why nothing could be written: each library has its own error for a full disk.

    Args:
        folder: Where the block writes.
        needed: Bytes that it needs; None: not known.

    Raises:
        ResourceError: If the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except (DataError, ResourceError):
        raise
    except Exception as error:  # OSError, and what TensorFlow and ArrayRecord have instead.
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
            raise _full(folder, needed, _free_bytes(folder)) from error
        if isinstance(error, OSError):
            raise ResourceError(
                f"The files cannot be written: {error.strerror or error}.",
                place=str(error.filename or folder),
                remedy="change the folder's permissions, or name another --out",
            ) from error
        raise
