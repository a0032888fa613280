from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from distkeras.config.source_sections import ImageFolderSource as Section
from distkeras.data.quarantine import LeftOut, Weightless, find_bad_records, without
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.sources.image_folder import ImageFolderSource
from distkeras.data.splits import Splits
from distkeras.errors import DataError

NUM = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures, of which three are bad: one empty, one whose middle is damaged, one that claims to be huge."""
    (tmp_path / "a").mkdir()
    for index in range(NUM):
        pixels = np.random.default_rng(index).integers(0, 256, (32, 32, 3), np.uint8)
        (tmp_path / "a" / f"{index:02d}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    (tmp_path / "a" / "03.png").write_bytes(b"")
    middle = bytearray((tmp_path / "a" / "07.png").read_bytes())
    middle[200:260] = bytes(60)
    (tmp_path / "a" / "07.png").write_bytes(bytes(middle))
    huge = bytearray((tmp_path / "a" / "10.png").read_bytes())
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    (tmp_path / "a" / "10.png").write_bytes(bytes(huge))
    return tmp_path


def opened(folder: Path, budget: int) -> ImageFolderSource:
    return ImageFolderSource(Section(kind="image_folder", path=folder), max_bad_records=budget)


def found(source, budget: int, rank: int = 0, world_size: int = 1, everyone=None) -> list[LeftOut]:
    exchange = (lambda value: [value]) if everyone is None else everyone
    return find_bad_records(Splits(source, None, None), budget, exchange, rank, world_size)


def test_without_a_budget_the_first_bad_file_is_an_error(folder: Path):
    with pytest.raises(DataError, match=r"An image file is empty\. 1 more cannot be used\."):
        opened(folder, 0)


def test_within_the_budget_bad_records_are_named(folder: Path):
    source = opened(folder, 3)
    assert source.num_examples == NUM
    records = found(source, 3)
    assert [(record.example_id, Path(record.place.split(" in ")[0]).name) for record in records] == [
        (3, "03.png"),
        (7, "07.png"),
        (10, "10.png"),
    ]
    assert "claims 3,600,000,000 pixels" in records[2].problem


def test_beyond_the_budget_they_are_an_error(folder: Path):
    with pytest.raises(DataError, match="3 records cannot be read") as caught:
        found(opened(folder, 2), 2)
    assert "03.png" in caught.value.place
    assert caught.value.remedy == "mend or remove them; data.max_bad_records allows 2"


def test_workers_share_the_reading_and_know_the_same(folder: Path):
    source = opened(folder, 3)
    shares: list = []
    for rank in range(2):
        found(source, 3, rank, 2, everyone=lambda value: [shares.append(value) or value])
    assert sorted(len(share) for share in shares) == [1, 2]
    together = [found(source, 3, rank, 2, everyone=lambda _: shares) for rank in range(2)]
    assert together[0] == together[1] == found(source, 3)


def test_in_training_they_weigh_nothing_and_elsewhere_they_are_left_out(folder: Path):
    source = opened(folder, 3)
    records = [LeftOut(part, index, "", "") for part in ("train", "validation") for index in (3, 7, 10)]
    splits = without(Splits(source, source, source), records)
    assert isinstance(splits.train, Weightless)
    images, _, weights = splits.train.read_arrays(np.arange(NUM))
    assert weights.tolist() == [0.0 if index in (3, 7, 10) else 1.0 for index in range(NUM)]
    np.testing.assert_array_equal(images[7], images[0])
    assert splits.train.fingerprint == source.fingerprint
    content, _, weight = splits.train.read_encoded(tf.constant(10, tf.int64))
    assert tf.io.decode_png(content).shape == (32, 32, 3)
    assert float(weight) == 0
    assert splits.validation.num_examples == NUM - 3
    splits.validation.read_arrays(np.arange(NUM - 3))
    assert splits.test is source


def test_weights_of_the_source_are_kept():
    source = ArraySource(np.arange(4.0)[:, np.newaxis], np.arange(4), np.array([0.5, 0.5, 2.0, 2.0]))
    _, _, weights = Weightless(source, [1, 2]).read(tf.constant([0, 1, 2, 3]))
    assert weights.numpy().tolist() == [0.5, 0, 0, 2.0]


def test_where_nothing_can_be_read_it_says_so():
    with pytest.raises(DataError, match="No record can be read"):
        Weightless(ArraySource(np.ones((2, 1)), np.ones(2)), [0, 1])
