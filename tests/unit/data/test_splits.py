from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkeras.config.sections import DataSection, SplitSection
from distkeras.config.source_sections import CsvSource, SyntheticSource
from distkeras.data.apportioning import apportion
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.sources.base import Source
from distkeras.data.splits import Splits, open_splits, split_source
from distkeras.errors import ConfigError, DataError

SHARES = st.sampled_from([0.0, 0.01, 0.1, 0.15, 0.2, 0.25, 1 / 3, 0.4])


def numbered(labels: np.ndarray, **keys: object) -> ArraySource:
    """A source whose only feature is the example's id, so that a part shows which examples it holds."""
    return ArraySource(np.arange(len(labels), dtype=np.int64)[:, np.newaxis], labels, **keys)


def ids_of(part: Source | None) -> list[int]:
    if part is None:
        return []
    return np.asarray(part.read(np.arange(part.num_examples))[0])[:, 0].tolist()


def parts_of(splits: Splits) -> list[list[int]]:
    return [ids_of(part) for part in (splits.train, splits.validation, splits.test)]


def refusal(source: Source, section: SplitSection) -> str:
    with pytest.raises(DataError) as caught:
        split_source(source, section)
    return str(caught.value)


class TestParts:
    @given(st.integers(20, 300), SHARES, SHARES, st.integers(0, 2**32))
    def test_random_parts_are_disjoint_complete_and_exact(
        self, num_examples: int, validation: float, test: float, seed: int
    ) -> None:
        section = SplitSection(method="random", validation=validation, test=test, seed=seed)
        shares = (1 - validation - test, validation, test)
        if any(share * num_examples < 1 for share in shares if share):
            return
        parts = parts_of(split_source(numbered(np.zeros(num_examples)), section))
        assert sorted(chain.from_iterable(parts)) == list(range(num_examples))
        for part, share in zip(parts, shares, strict=True):
            assert abs(len(part) - share * num_examples) < 1

    @given(st.lists(st.integers(3, 40), min_size=1, max_size=30), SHARES, SHARES, st.integers(0, 2**32))
    def test_stratified_parts_are_exact_in_each_class_and_in_sum(
        self, class_sizes: list[int], validation: float, test: float, seed: int
    ) -> None:
        shares = (1 - validation - test, validation, test)
        if any(share * sum(class_sizes) < 2 for share in shares if share):
            return
        labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(class_sizes)), class_sizes))
        section = SplitSection(method="stratified", validation=validation, test=test, seed=seed)
        parts = parts_of(split_source(numbered(labels), section))
        assert sorted(chain.from_iterable(parts)) == list(range(len(labels)))
        for part, share in zip(parts, shares, strict=True):
            assert abs(len(part) - share * len(labels)) < 1.5
            counts = np.bincount(labels[part], minlength=len(class_sizes))
            assert np.all(np.abs(counts - share * np.array(class_sizes)) < 1)

    def test_many_small_classes_do_not_starve_a_part(self) -> None:
        # 10 x 0.15 is 1.5: rounding each class alone would give one of the parts 2000 and the other 1000.
        labels = np.repeat(np.arange(1000), 10)
        splits = split_source(numbered(labels), SplitSection(method="stratified"))
        assert [len(part) for part in parts_of(splits)] == [7000, 1500, 1500]

    def test_parts_keep_the_order_of_the_source(self) -> None:
        splits = split_source(numbered(np.arange(100) % 3), SplitSection())
        assert all(part == sorted(part) for part in parts_of(splits))

    @pytest.mark.parametrize("method", ["random", "stratified"])
    def test_a_split_is_the_same_every_time_and_another_for_another_seed(self, method: str) -> None:
        def parts(seed: int) -> list[list[int]]:
            section = SplitSection.model_validate({"method": method, "seed": seed})
            return parts_of(split_source(numbered(np.arange(100) % 3), section))

        assert parts(0) == parts(0)
        assert parts(0) != parts(1)

    def test_the_split_of_a_seed_never_changes(self) -> None:
        # These ids are a promise to saved runs: another split would test on what they were trained on.
        splits = split_source(numbered(np.arange(12) % 2), SplitSection(validation=0.25, test=0.25))
        assert parts_of(splits)[1:] == [[0, 10, 11], [3, 8, 9]]

    def test_other_data_gets_another_split(self) -> None:
        one, other = (
            parts_of(split_source(numbered(labels), SplitSection(method="random")))
            for labels in (np.zeros(100), np.ones(100))
        )
        assert one != other

    def test_without_shares_the_source_is_the_training_data(self) -> None:
        source = numbered(np.zeros(5))
        splits = split_source(source, SplitSection(validation=0.0, test=0.0))
        assert (splits.train, splits.validation, splits.test) == (source, None, None)

    def test_parts_say_where_they_come_from(self) -> None:
        splits = split_source(numbered(np.zeros(10), name="numbers"), SplitSection(method="random", test=0.0))
        assert (splits.train.name, splits.test) == ("numbers (train)", None)


class TestApportion:
    @pytest.mark.parametrize(
        ("total", "shares", "owed", "counts"),
        [
            (10, (0.7, 0.15, 0.15), (0, 0, 0), (7, 2, 1)),
            (10, (0.7, 0.15, 0.15), (0, -0.5, 0.5), (7, 1, 2)),
            (3, (0.7, 0.15, 0.15), (0, 0, 0), (2, 1, 0)),
            (100, (1 - 0.7 - 0.2, 0.7, 0.2), (0, 0, 0), (10, 70, 20)),
            (7, (0.5, 0.5, 0.0), (-0.9, -0.9, 0), (4, 3, 0)),
            (0, (0.7, 0.15, 0.15), (0, 0, 0), (0, 0, 0)),
        ],
    )
    def test_largest_remainders(
        self, total: int, shares: tuple[float, ...], owed: tuple[float, ...], counts: tuple[int, ...]
    ) -> None:
        assert apportion(total, np.array(shares), np.array(owed)).tolist() == list(counts)


class TestRefusals:
    def test_nothing_to_train_on(self) -> None:
        with pytest.raises(ConfigError, match="The split leaves nothing to train on") as caught:
            split_source(numbered(np.zeros(10)), SplitSection(validation=0.5, test=0.5))
        assert caught.value.place == "data.split"

    def test_empty_part(self) -> None:
        text = refusal(numbered(np.zeros(3), name="three"), SplitSection(method="random", test=0.0))
        assert "The split leaves no examples for validation: there are 3 in all." in text
        assert "Give more data, or another share as data.split.validation." in text

    @pytest.mark.parametrize("labels", [np.linspace(0, 1, 50), np.eye(50, dtype=np.int64)])
    def test_labels_that_are_not_classes(self, labels: np.ndarray) -> None:
        text = refusal(numbered(labels), SplitSection())
        assert "A stratified split needs one class label an example." in text
        assert "Set data.split.method: random." in text

    def test_small_class(self) -> None:
        labels = np.array([0] * 20 + [1] * 2)
        text = refusal(numbered(labels, class_names=("cat", "eel")), SplitSection())
        assert "Class 'eel' has 2 examples for 3 parts." in text
        assert "Add examples, remove the class, or set data.split.method: random." in text
        assert "Class 1 has 2 examples for 3 parts." in refusal(numbered(labels), SplitSection())

    def test_a_class_needs_only_as_many_examples_as_there_are_parts(self) -> None:
        labels = np.array([0] * 20 + [1] * 2)
        splits = split_source(numbered(labels), SplitSection(test=0.0, validation=0.5))
        assert [len(part) for part in parts_of(splits)] == [11, 11, 0]
        text = refusal(numbered(labels[:-1]), SplitSection(test=0.0, validation=0.5))
        assert "Class 1 has 1 example for 2 parts." in text


class TestOpenSplits:
    def csv(self, folder: Path, name: str, header: str, labels: str) -> CsvSource:
        path = folder / name
        path.write_text(header + "\n" + "".join(f"{i},{-i},{label}\n" for i, label in enumerate(labels)))
        return CsvSource(kind="csv", path=path, label="kind")

    def test_splits_one_source(self) -> None:
        splits = open_splits(
            DataSection(source=SyntheticSource(kind="synthetic", num_examples=200, shape=[3]))
        )
        sizes = [part.num_examples for part in (splits.train, splits.validation, splits.test) if part]
        assert sum(sizes) == 200
        assert len(sizes) == 3

    def test_a_source_of_its_own_takes_nothing_from_the_training_data(self, tmp_path: Path) -> None:
        source = self.csv(tmp_path, "train.csv", "a,b,kind", "xyxyxyxyxy" * 2)
        own = self.csv(tmp_path, "test.csv", "a,b,kind", "xy")
        splits = open_splits(DataSection(source=source, test=own))
        assert splits.validation is not None
        assert splits.test is not None
        assert splits.train.num_examples + splits.validation.num_examples == 20
        assert splits.test.name == str(own.path)
        both = open_splits(DataSection(source=source, test=own, validation=own))
        assert both.train.num_examples == 20

    def test_other_classes(self, tmp_path: Path) -> None:
        source = self.csv(tmp_path, "train.csv", "a,b,kind", "xyz" * 10)
        own = self.csv(tmp_path, "test.csv", "a,b,kind", "xz")
        with pytest.raises(DataError, match="The test source has other class names than") as caught:
            open_splits(DataSection(source=source, test=own))
        assert "They must be the same, in the same order: ('x', 'y', 'z')." in str(caught.value)
        assert caught.value.received == ("x", "z")

    def test_other_columns(self, tmp_path: Path) -> None:
        source = self.csv(tmp_path, "train.csv", "a,b,kind", "xy" * 10)
        own = self.csv(tmp_path, "test.csv", "b,c,kind", "xy")
        with pytest.raises(DataError, match="There is no feature column 'a'"):
            open_splits(DataSection(source=source, validation=own))

    def test_columns_of_a_source_of_its_own_are_found_by_name(self, tmp_path: Path) -> None:
        source = self.csv(tmp_path, "train.csv", "a,b,kind", "xy" * 10)
        own = self.csv(tmp_path, "test.csv", "b,a,kind", "xy")
        validation = open_splits(DataSection(source=source, validation=own)).validation
        assert validation is not None
        assert validation.feature_names == ("a", "b")
