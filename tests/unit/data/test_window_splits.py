"""Splits of time series: nothing that is tested is seen in training."""

from __future__ import annotations

import json
import logging
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distkeras.config.sections import DataSection, SplitSection
from distkeras.data.sources import open_source
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.splits import open_splits, split_source
from distkeras.data.window_splits import split_windows
from distkeras.errors import ConfigError, DataError


def write(folder, series=("a",), num_rows=100, days=None):
    rows = [
        f"{days(row, name) if days else row},{name},{row}"
        for name in series
        for row in range(num_rows if isinstance(num_rows, int) else num_rows[name])
    ]
    (folder / "t.csv").write_text("\n".join(["day,who,value", *rows]) + "\n")
    return str(folder / "t.csv")


def data(path, method="time", shares=(0.15, 0.15), **keys):
    source = {
        "kind": "time_series",
        "path": path,
        "target": "value",
        "columns": ["value"],
        "window": 5,
        **keys,
    }
    split = {"method": method, "validation": shares[0], "test": shares[1]}
    return DataSection.model_validate_json(json.dumps({"source": source, "split": split}))


def forecast(splits, horizon):
    """Rows that each part is asked for, and rows that it shows, as (series, row); `value` is the row's number."""
    parts = [part for part in (splits.train, splits.validation, splits.test) if part is not None]
    shown = [part.read_arrays(np.arange(part.num_examples))[0][..., 0] for part in parts]
    asked = [part.labels() for part in parts]
    return shown, asked


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    horizon=st.integers(1, 6),
    stride=st.integers(1, 4),
    shares=st.sampled_from([(0.15, 0.15), (0.0, 0.2), (0.3, 0.0), (0.25, 0.25)]),
)
def test_no_earlier_part_holds_a_row_that_a_later_one_forecasts(tmp_path, horizon, stride, shares):
    splits = open_splits(data(write(tmp_path), shares=shares, horizon=horizon, stride=stride))
    shown, asked = forecast(splits, horizon)
    for index, (rows, labels) in enumerate(zip(shown, asked, strict=True)):
        later = {row for more in asked[index + 1 :] for row in more.ravel().tolist()}
        assert not later & {*rows.ravel().tolist(), *labels.ravel().tolist()}
        assert not later or labels.max() < min(later)


def test_without_overlap_no_window_is_lost(tmp_path):
    splits = open_splits(data(write(tmp_path), window=4, horizon=1, stride=5))
    parts = (splits.train, splits.validation, splits.test)
    assert [part.num_examples for part in parts] == [14, 3, 3]


def test_windows_between_parts_are_left_out_and_the_log_says_so(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        splits = open_splits(data(write(tmp_path), horizon=3))
    # 93 windows; of the 65 before validation the last two reach into what it forecasts first, and so on.
    assert [part.num_examples for part in (splits.train, splits.validation, splits.test)] == [63, 12, 14]
    assert "4 windows are in no part: they hold rows that a later part forecasts" in caplog.text


def test_each_series_is_divided_by_its_rows(tmp_path):
    path = write(tmp_path, ("a", "b"), {"a": 105, "b": 45})
    splits = open_splits(data(path, series="who"))
    source = open_source(data(path, series="who").source)
    names = source.column("who")
    for part, a, b in ((splits.train, 70, 28), (splits.validation, 15, 6), (splits.test, 15, 6)):
        found = names[part.origin(np.arange(part.num_examples))[1]].tolist()
        assert (found.count("a"), found.count("b")) == (a, b)


def test_a_column_of_time_divides_all_series_at_one_moment(tmp_path):
    # Series b begins 50 days later, so that most of it is validated and tested.
    path = write(tmp_path, ("a", "b"), 100, days=lambda row, name: row + 50 * (name == "b"))
    section = data(path, series="who", time="day")
    splits = open_splits(section)
    days = open_source(section.source).column("day")
    moments = [
        days[part.origin(np.arange(part.num_examples))[1]]
        for part in (splits.train, splits.validation, splits.test)
    ]
    assert all(first.max() < second.min() for first, second in pairwise(moments))
    assert moments[2].min() > 99


@pytest.mark.parametrize("method", ["random", "stratified", "group"])
def test_other_methods_name_the_leak(tmp_path, method):
    with pytest.raises(ConfigError, match="Windows of a time series share rows") as caught:
        open_splits(data(write(tmp_path), method=method))
    assert f"split by {method}, a model would be tested on rows that it was trained on" in str(caught.value)
    assert "set data.split.method: time" in str(caught.value)


def test_without_a_split_the_method_does_not_matter(tmp_path):
    splits = open_splits(data(write(tmp_path), method="random", shares=(0.0, 0.0)))
    assert (splits.train.num_examples, splits.validation, splits.test) == (95, None, None)


def test_a_part_that_loses_all_windows(tmp_path):
    with pytest.raises(DataError, match="The split leaves no examples for validation"):
        open_splits(data(write(tmp_path, num_rows=40), horizon=6))


def test_what_is_no_time_series(tmp_path):
    section = data(write(tmp_path)).source
    source = ArraySource(np.zeros((9, 1)), np.zeros(9), name="digits")
    with pytest.raises(DataError, match="Only windows of a time series are split as such"):
        split_windows(source, section, SplitSection(method="time"), np.array([0.5, 0.25, 0.25]))
    with pytest.raises(DataError, match="Only windows of a time series are split as such"):
        split_source(source, SplitSection(method="time"), section)
