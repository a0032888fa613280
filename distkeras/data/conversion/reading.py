"""Examples in the order of their ids, read by several threads a little ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from distkeras.data.bad_data import find_unreadable_example
from distkeras.data.conversion.layout import Content
from distkeras.data.lazy_tensorflow import tf
from distkeras.data.permutation import Int64Array
from distkeras.data.sources.base import Source
from distkeras.errors import DataError

NUM_THREADS = 8
BLOCKS_AHEAD = 16
MAX_BLOCK_EXAMPLES = 1024
# Examples that are read one by one are as a rule images, which are large.
MAX_BLOCK_IMAGES = 32


@dataclass(frozen=True)
class Block:
    """Some consecutive examples.

    Attributes:
        features: One value an example: an array, or a list of bytes, or a mapping from columns to arrays.
        labels: Shape (num_examples, ...).
    """

    features: Any
    labels: np.ndarray


def blocks(source: Source, content: Content, ids: range) -> Iterator[Block]:
    """Yields some examples in order, as their format wants them.

    Args:
        source: The examples.
        content: Encoded images and pixels are given as bytes, everything else as `Source.read_arrays` does.
        ids: Which.

    Raises:
        DataError: If an example cannot be read; it names its place.
    """
    size = MAX_BLOCK_EXAMPLES if source.granularity == "batch" else MAX_BLOCK_IMAGES
    starts = iter(range(ids.start, ids.stop, size))
    waiting: deque[Future[Block]] = deque()
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        try:
            while True:
                for start in starts:
                    chunk = np.arange(start, min(start + size, ids.stop))
                    waiting.append(pool.submit(_read, source, content, chunk))
                    if len(waiting) >= BLOCKS_AHEAD:
                        break
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _read(source: Source, content: Content, ids: Int64Array) -> Block:
    try:
        if content == "encoded":
            return _read_encoded(source, ids)
        if content == "image":
            return _read_pixels(source, ids)
        features, labels = source.read_arrays(ids)
        return Block(features, labels)
    except DataError:
        raise
    except Exception as error:  # Any library below may fail in its own way; what is wanted is the record.
        explained = find_unreadable_example(source, ids)
        raise explained or error from error


def _read_encoded(source: Source, ids: Int64Array) -> Block:
    with tf.device("CPU:0"):
        pairs = [source.read_encoded(tf.constant(example_id, tf.int64)) for example_id in ids.tolist()]
    return Block([content.numpy() for content, _ in pairs], np.array([label.numpy() for _, label in pairs]))


def _read_pixels(source: Source, ids: Int64Array) -> Block:
    """Pixels as PNG files, which lose nothing."""
    groups = [ids] if source.granularity == "batch" else np.split(ids, len(ids))
    examples = [source.read_arrays(group) for group in groups]
    with tf.device("CPU:0"):
        contents = [tf.io.encode_png(pixels).numpy() for features, _ in examples for pixels in features]
    return Block(contents, np.concatenate([labels for _, labels in examples]))
