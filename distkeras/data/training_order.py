"""The order in which a source's examples are trained on: what its files, its mixture and the config make of it."""

from __future__ import annotations

import numpy as np

from distkeras.config.sections import InputSection
from distkeras.data.apportioning import apportion
from distkeras.data.order import ById, Mixed, Order, Share, Shuffled, ShuffledBlocks
from distkeras.data.permutation import Int64Array
from distkeras.data.sources.base import Source
from distkeras.errors import DataError


def training_order(source: Source, input: InputSection, seed: int) -> Order:
    """Returns the order of a run's training examples.

    Args:
        source: The training part.
        input: Whether to shuffle, and to balance.
        seed: The run's.

    Raises:
        DataError: If classes are to be balanced, and there are none.
    """
    if input.balance == "classes":
        return _balanced(source, input.shuffle, seed)
    if source.parts is not None:
        return _mixed(source, input.shuffle, seed)
    if not input.shuffle:
        return ById(source.num_examples)
    return _shuffled(source, source.num_examples, source.block_starts, source.fingerprint, seed)


def _shuffled(
    source: Source, num_examples: int, block_starts: Int64Array | None, fingerprint: str, seed: int
) -> Order:
    if block_starts is None:
        return Shuffled(num_examples, fingerprint, seed)
    return ShuffledBlocks(block_starts, fingerprint, seed, source.window_blocks)


def _mixed(source: Source, shuffle: bool, seed: int) -> Order:
    parts = source.parts or ()
    weights = np.array([part.num_positions for part in parts])
    counts = apportion(round(weights.sum()), weights / weights.sum(), np.zeros(len(parts)))
    shares: list[Share] = []
    for index, (part, count) in enumerate(zip(parts, counts.tolist(), strict=True)):
        ids = np.arange(part.first_id, part.first_id + part.num_examples)
        blocks = None if source.block_starts is None else _blocks_of(source.block_starts, ids)
        name = f"{source.fingerprint}/part {index}"
        order = _shuffled(source, len(ids), blocks, name, seed) if shuffle else ById(len(ids))
        shares.append(Share(order, ids, count))
    return Mixed(shares, source.fingerprint, seed)


def _blocks_of(block_starts: Int64Array, ids: Int64Array) -> Int64Array | None:
    """The blocks that a run of ids lies in, numbered from its first id; None where each is one example."""
    blocks = np.unique(np.searchsorted(ids, block_starts))
    return None if len(blocks) > len(ids) else blocks


def _balanced(source: Source, shuffle: bool, seed: int) -> Order:
    labels = source.labels()
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            "Only classes can be balanced: one whole number an example.",
            place="data.balance",
            received=f"labels of type {labels.dtype}, shape {labels.shape}",
            remedy="set data.balance: none",
        )
    classes = np.unique(labels)
    equal = np.full(len(classes), 1 / len(classes))
    counts = apportion(source.num_examples, equal, np.zeros(len(classes)))
    shares: list[Share] = []
    for label, count in zip(classes.tolist(), counts.tolist(), strict=True):
        ids = np.flatnonzero(labels == label)
        name = f"{source.fingerprint}/class {label}"
        order = Shuffled(len(ids), name, seed) if shuffle else ById(len(ids))
        shares.append(Share(order, ids, count))
    return Mixed(shares, source.fingerprint, seed)
