"""Splits by groups and by time: what no run must ever see in two parts."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkeras.config.sections import SplitSection
from distkeras.data.column_splits import SplitColumn, split_by_group, split_by_time
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.splits import split_source
from distkeras.errors import ConfigError, DataError

SHARES = st.sampled_from([(0.7, 0.15, 0.15), (0.5, 0.25, 0.25), (0.9, 0.0, 0.1), (0.34, 0.33, 0.33)])


def column(values, name="who"):
    values = np.asarray(values)
    source = ArraySource(np.arange(len(values))[:, np.newaxis], np.zeros(len(values)), name="numbers")
    return SplitColumn(source, name, values)


def refusal(split):
    with pytest.raises(DataError) as caught:
        split()
    return str(caught.value)


class TestGroups:
    @given(st.lists(st.integers(0, 40), min_size=60, max_size=200), SHARES, st.integers(0, 2**31))
    def test_no_group_is_in_two_parts_and_parts_are_the_whole(self, values, shares, seed):
        if len(set(values)) < np.count_nonzero(shares):
            return
        parts = split_by_group(column(values), np.array(shares), seed)
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(values)))
        groups = [set(np.array(values)[part].tolist()) for part in parts]
        assert all(not one & other for one, other in combinations(groups, 2))
        assert [bool(len(part)) for part in parts] == [share > 0 for share in shares]

    @given(st.lists(st.integers(0, 60), min_size=100, max_size=300), SHARES, st.integers(0, 99))
    def test_sizes_miss_the_shares_by_less_than_the_largest_group(self, values, shares, seed):
        sizes = np.bincount(values)
        if np.count_nonzero(sizes) < 9:
            return
        parts = split_by_group(column(values), np.array(shares), seed)
        wanted = np.array(shares) * len(values)
        assert np.abs(np.array([len(part) for part in parts]) - wanted).max() <= sizes.max()

    @given(st.permutations(list(range(50))), st.integers(0, 99))
    def test_another_order_of_rows_gives_the_same_groups_to_each_part(self, order, seed):
        values = np.repeat(np.arange(20), np.arange(20) % 4 + 1)[:50]
        shares = np.array([0.6, 0.2, 0.2])
        groups = [set(values[part]) for part in split_by_group(column(values), shares, seed)]
        shuffled = values[order]
        assert [set(shuffled[part]) for part in split_by_group(column(shuffled), shares, seed)] == groups

    def test_the_seed_decides(self):
        values = np.repeat(np.arange(40), 3)
        parts = [
            split_by_group(column(values), np.array([0.5, 0.25, 0.25]), seed)[2].tolist() for seed in range(3)
        ]
        assert parts[0] != parts[1] != parts[2]
        assert parts[0] == split_by_group(column(values), np.array([0.5, 0.25, 0.25]), 0)[2].tolist()

    def test_the_split_of_a_seed_never_changes(self):
        # A promise to saved runs: another split would test on what they were trained on.
        values = np.repeat(["ann", "bob", "cid", "dot", "eve", "fay"], [3, 1, 2, 4, 2, 1])
        parts = split_by_group(column(values), np.array([0.5, 0.25, 0.25]), 0)
        assert [sorted(set(values[part].tolist())) for part in parts] == [
            ["ann", "dot"],
            ["eve", "fay"],
            ["bob", "cid"],
        ]

    def test_a_large_group_goes_where_there_is_room_for_it(self):
        values = np.repeat(np.arange(6), [50, 10, 10, 10, 10, 10])
        parts = split_by_group(column(values), np.array([0.7, 0.15, 0.15]), 3)
        assert sorted(len(part) for part in parts) == [10, 20, 70]
        assert 0 in values[parts[0]]

    def test_fewer_groups_than_parts(self):
        text = refusal(lambda: split_by_group(column(["a", "b"] * 5), np.array([0.7, 0.15, 0.15]), 0))
        assert "Column 'who' has 2 groups for 3 parts." in text
        assert "name another column as data.split.column" in text
        text = refusal(lambda: split_by_group(column(["a"] * 5), np.array([0.8, 0.0, 0.2]), 0))
        assert "Column 'who' has 1 group for 2 parts." in text

    @pytest.mark.parametrize(
        ("values", "cells"),
        [
            (np.array(["a", None, "c", None], object), "2 empty cells"),
            (np.array(["a", "b", "c", ""]), "1 empty cell."),
            (np.array([1.0, 2.0, 3.0, np.nan]), "1 empty cell."),
            (np.array(["2024-01-01", "NaT", "2024-01-02", "2024-01-03"], "datetime64[D]"), "1 empty cell."),
        ],
    )
    def test_empty_cells(self, values, cells):
        text = refusal(lambda: split_by_group(column(values), np.array([0.6, 0.4, 0.0]), 0))
        assert f"The split's column 'who' has {cells}" in text
        assert "record 3, column 'who'" in text or "record 1, column 'who'" in text


class TestTime:
    @given(st.lists(st.integers(0, 60), min_size=20, max_size=200), SHARES)
    def test_no_example_of_a_part_is_later_than_one_of_the_next(self, values, shares):
        if len(set(values)) < np.count_nonzero(shares):
            return
        parts = split_by_time(column(values), np.array(shares))
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(values)))
        filled = [np.array(values)[part] for part in parts if len(part)]
        assert len(filled) == np.count_nonzero(shares)
        assert all(first.max() < second.min() for first, second in pairwise(filled))

    def test_sizes_are_exact_where_no_moment_is_shared(self):
        values = np.random.default_rng(0).permutation(200)
        parts = split_by_time(column(values), np.array([0.7, 0.15, 0.15]))
        assert [len(part) for part in parts] == [140, 30, 30]

    def test_one_long_moment_leaves_the_others_something(self):
        values = [0] * 97 + [1, 2, 3]
        assert [len(part) for part in split_by_time(column(values), np.array([0.7, 0.15, 0.15]))] == [
            97,
            1,
            2,
        ]
        values = [0, 1, 2] + [3] * 97
        assert [len(part) for part in split_by_time(column(values), np.array([0.7, 0.15, 0.15]))] == [
            2,
            1,
            97,
        ]

    @pytest.mark.parametrize(
        "write",
        [
            lambda day: day.isoformat(),
            lambda day: day.date().isoformat(),
            lambda day: f"{day.isoformat()}Z",
            lambda day: f"{day.isoformat()}+02:00",
            lambda day: f"{day:%Y-%m-%d %H:%M}",
        ],
    )
    def test_text_is_a_time_as_iso_8601_has_it(self, write):
        days = [
            datetime(2023, 12, 1) + timedelta(days=int(day))
            for day in np.random.default_rng(1).permutation(60)
        ]
        parts = split_by_time(column(np.array([write(day) for day in days])), np.array([0.5, 0.25, 0.25]))
        assert max(days[row] for row in parts[0]) < min(days[row] for row in parts[1])
        assert max(days[row] for row in parts[1]) < min(days[row] for row in parts[2])

    def test_months_are_times(self):
        parts = split_by_time(
            column(["2024-03", "2023-12", "2024-01", "2024-02"]), np.array([0.5, 0.25, 0.25])
        )
        assert [part.tolist() for part in parts] == [[1, 2], [3], [0]]

    def test_numbers_do_not_sort_as_text(self):
        parts = split_by_time(column([10, 9, 100, 1]), np.array([0.5, 0.25, 0.25]))
        assert [part.tolist() for part in parts] == [[1, 3], [0], [2]]

    @pytest.mark.parametrize("text", ["31/12/2023", "soon", "2024-02-30"])
    def test_text_that_is_no_time(self, text):
        told = refusal(
            lambda: split_by_time(column(["2024-01-01", "2024-01-02", text]), np.array([0.5, 0.25, 0.25]))
        )
        assert "The split's column 'who' is text that tells no time" in told
        assert "record 2, column 'who'" in told
        assert f"received: '{text}'" in told

    def test_fewer_moments_than_parts(self):
        text = refusal(lambda: split_by_time(column([1, 1, 2, 2]), np.array([0.5, 0.25, 0.25])))
        assert "Column 'who' has 2 moments for 3 parts." in text


class TestSplitSource:
    def test_a_method_that_needs_a_column_says_so(self):
        source = ArraySource(np.arange(10)[:, np.newaxis], np.arange(10))
        with pytest.raises(ConfigError, match="A split by group goes by a column"):
            split_source(source, SplitSection(method="group"))

    def test_a_source_without_columns_says_so(self):
        source = ArraySource(np.arange(10)[:, np.newaxis], np.arange(10), name="digits")
        with pytest.raises(DataError, match="The source has no columns to split by") as caught:
            split_source(source, SplitSection(method="time", column="day"))
        assert "data.split.column: digits" in str(caught.value)
        assert "received: 'day'" in str(caught.value)
