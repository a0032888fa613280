from __future__ import annotations

import numpy as np
import pytest

from distkeras.config.sections import InputSection
from distkeras.data.order import ById, Mixed, Shuffled, ShuffledBlocks
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.sources.base import Subset
from distkeras.data.sources.mixture import MixtureSource
from distkeras.data.training_order import training_order
from distkeras.errors import DataError


def numbered(num_examples: int, first: int = 0, num_classes: int = 2) -> ArraySource:
    ids = np.arange(first, first + num_examples)
    return ArraySource(ids.astype("float32")[:, np.newaxis], ids % num_classes, name=f"from {first}")


def epoch_of(source, input: InputSection, epoch: int = 0) -> np.ndarray:
    order = training_order(source, input, 7)
    return order.visits(epoch, np.arange(order.num_examples)).ids


@pytest.mark.parametrize(("shuffle", "kind"), [(True, Shuffled), (False, ById)])
def test_a_plain_source_is_shuffled_as_a_whole(shuffle: bool, kind: type):
    assert type(training_order(numbered(9), InputSection(shuffle=shuffle), 0)) is kind


def test_a_source_of_blocks_is_shuffled_by_them_and_so_is_a_part_of_it():
    source = numbered(100)
    source.block_starts = np.arange(0, 101, 10)
    assert type(training_order(source, InputSection(), 0)) is ShuffledBlocks
    part = Subset(source, np.arange(5, 95, 2))
    assert part.block_starts is not None
    assert part.block_starts.tolist() == [0, 3, 8, 13, 18, 23, 28, 33, 38, 43, 45]
    assert sorted(epoch_of(part, InputSection()).tolist()) == list(range(45))


def test_classes_are_balanced():
    labels = np.array([0] * 90 + [1] * 9 + [2])
    source = ArraySource(np.arange(100.0)[:, np.newaxis], labels)
    seen = [epoch_of(source, InputSection(balance="classes"), epoch) for epoch in range(9)]
    for ids in seen:
        counts = np.bincount(labels[ids], minlength=3)
        assert counts.sum() == 100
        assert counts.max() - counts.min() <= 1
    # Over the epochs nothing of the large class is forgotten, and nothing seen twice before all were seen once.
    times = np.bincount(np.concatenate(seen), minlength=100)[:90]
    assert times.max() - times.min() <= 1


def test_what_has_no_classes_cannot_be_balanced():
    source = ArraySource(np.ones((4, 1)), np.linspace(0, 1, 4))
    with pytest.raises(DataError, match="Only classes can be balanced"):
        training_order(source, InputSection(balance="classes"), 0)


def test_a_mixture_takes_its_shares_and_so_does_a_part_of_it():
    mixture = MixtureSource([numbered(300), numbered(100, 300)], [1.0, 3.0])
    order = training_order(mixture, InputSection(), 0)
    assert type(order) is Mixed
    ids = epoch_of(mixture, InputSection())
    assert ((ids < 300).sum(), (ids >= 300).sum()) == (100, 300)
    part = Subset(mixture, np.arange(0, 400, 2))
    ids = epoch_of(part, InputSection())
    assert ((ids < 150).sum(), (ids >= 150).sum()) == (50, 150)


def test_a_mixture_keeps_the_blocks_of_a_source_that_has_them():
    blocked = numbered(100)
    blocked.block_starts = np.arange(0, 101, 10)
    mixture = MixtureSource([numbered(30), blocked], [1.0, 1.0])
    assert mixture.block_starts is not None
    assert mixture.block_starts.tolist() == [*range(30), *range(30, 131, 10)]
    shares = training_order(mixture, InputSection(), 0)._shares
    assert [type(share.order) for share in shares] == [Shuffled, ShuffledBlocks]
