"""Reads and decodes every example once, and lists all that cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np

from distkeras.data.bad_data import find_unreadable_example
from distkeras.data.permutation import Int64Array
from distkeras.data.sources.base import Source
from distkeras.errors import DataError

NUM_THREADS = 16
EXAMPLES_PER_CHUNK = 256
# Chunks that are read at the same time or wait for it: a bound on memory.
CHUNKS_AHEAD = 4 * NUM_THREADS

Stage = Literal["read", "parse", "decode"]


@dataclass(frozen=True)
class BadRecord:
    """An example that cannot be trained on.

    Attributes:
        place: File and record number, as the source calls them.
        stage: What failed: the disk ("read"), the record's form ("parse"), or its content ("decode").
        reason: What is wrong, in a sentence.
        example_id: Its id in the source; None: opening did not make an example of it.
    """

    place: str
    stage: Stage
    reason: str
    example_id: int | None = None


def bad_records(
    source: Source, advance: Callable[[int], None] = lambda _: None, *, ids: Int64Array | None = None
) -> list[BadRecord]:
    """Returns all examples that cannot be read or decoded.

    Args:
        source: The examples.
        advance: Told after every chunk how many examples were read.
        ids: Those to read, in this order, shape (n,); None: all.
    """
    wanted = np.arange(source.num_examples) if ids is None else ids
    chunks = [wanted[i : i + EXAMPLES_PER_CHUNK] for i in range(0, len(wanted), EXAMPLES_PER_CHUNK)]
    found: list[BadRecord] = []
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for first in range(0, len(chunks), CHUNKS_AHEAD):
            some = chunks[first : first + CHUNKS_AHEAD]
            for chunk, bad in zip(some, pool.map(lambda ids: list(_bad_in(source, ids)), some), strict=True):
                found += bad
                advance(len(chunk))
    return found


def _bad_in(source: Source, ids: Int64Array) -> Iterator[BadRecord]:
    # What opening refused, such as an image that claims gigabytes of pixels, is not tried.
    known = [index for index in ids.tolist() if index in source.unreadable]
    yield from (_record(source, index, source.unreadable[index]) for index in known)
    ids = np.setdiff1d(ids, known)
    if not ids.size:
        return
    # Examples that are read one by one may differ in shape, which is no error before they make a batch.
    groups = [ids] if source.granularity == "batch" else np.split(ids, len(ids))
    yield from chain.from_iterable(_bad_among(source, group) for group in groups)


def _bad_among(source: Source, ids: Int64Array) -> Iterator[BadRecord]:
    """Halves what cannot be read until single examples are left."""
    try:
        source.read_arrays(ids)
    except (
        Exception
    ) as error:  # Any library below may fail in its own way; the sentence is made further down.
        if len(ids) > 1:
            for half in np.array_split(ids, 2):
                yield from _bad_among(source, half)
            return
        yield _record(source, int(ids[0]), error)


def _record(source: Source, example_id: int, error: Exception) -> BadRecord:
    explained = error if isinstance(error, DataError) else find_unreadable_example(source, [example_id])
    place = source.locate(example_id)
    if explained is None:
        # It could be read the second time: the disk or the network failed for a moment.
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        return BadRecord(place, "read", reason, example_id)
    received = "" if explained.received is None else f" ({explained.received})"
    reason = f"{explained.problem}{received}".replace("\n", " ")
    return BadRecord(place, _stage(error), reason, example_id)


def _stage(error: Exception) -> Stage:
    if isinstance(error, DataError):
        return "parse"
    # TensorFlow's errors for files; the module is not imported for sources that read without it.
    is_file = isinstance(error, OSError) or type(error).__name__ in (
        "NotFoundError",
        "PermissionDeniedError",
        "UnavailableError",
    )
    return "read" if is_file else "decode"
