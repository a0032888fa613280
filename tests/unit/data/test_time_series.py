"""Windows of a table that is ordered in time."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from distkeras.config.source_sections import TimeSeriesSource as TimeSeriesSection
from distkeras.data.sources.time_series import TimeSeriesSource
from distkeras.errors import DataError

CO2 = "month,co2,wind\n" + "".join(f"2024-{month:02},{400 + month},{month}\n" for month in range(1, 11))
SHOPS = "shop,day,sold\na,1,10\nb,1,20\na,2,11\nb,2,21\na,3,12\nb,3,22\nb,4,23\n"
SHOPS_APART = "shop,day,sold\na,1,10\na,2,11\na,3,12\nb,1,20\nb,2,21\nb,3,22\nb,4,23\n"


def section(path: Path, **keys: object) -> TimeSeriesSection:
    return TimeSeriesSection.model_validate(
        {"kind": "time_series", "path": path, "target": "co2", "window": 3, **keys}
    )


def csv_section(folder: Path, text: str, **keys: object) -> TimeSeriesSection:
    path = folder / "co2.csv"
    path.write_text(text)
    return section(path, **keys)


def refused(folder: Path, text: str, **keys: object) -> DataError:
    with pytest.raises(DataError) as caught:
        TimeSeriesSource(csv_section(folder, text, **keys))
    return caught.value


def test_windows_and_what_follows_them(tmp_path: Path) -> None:
    source = TimeSeriesSource(csv_section(tmp_path, CO2, time="month", horizon=2, stride=2))
    assert (source.feature_shape, source.feature_dtype) == ((3, 2), "float32")
    assert source.feature_names == ("co2", "wind")
    assert (source.num_examples, source.granularity, source.needs_tensorflow) == (3, "batch", False)
    features, labels = source.read_arrays(np.array([1, 0]))
    assert features.tolist() == [[[403, 3], [404, 4], [405, 5]], [[401, 1], [402, 2], [403, 3]]]
    assert labels.tolist() == [[406, 407], [404, 405]]
    assert (features.dtype, labels.dtype) == (np.float32, np.float32)
    assert source.labels().tolist() == [[404, 405], [406, 407], [408, 409]]
    assert source.starts.tolist() == [0, 2, 4]
    assert source.last_rows.tolist() == [4, 6, 8]
    assert source.locate(1) == "co2.csv rows 3 to 7"


def test_graphs_read_what_numpy_reads(tmp_path: Path) -> None:
    source = TimeSeriesSource(csv_section(tmp_path, CO2, time="month", columns=["wind"], horizon=2))
    batches = tf.data.Dataset.range(source.num_examples).batch(4, drop_remainder=False).map(source.read)
    assert [tuple(spec.shape) for spec in batches.element_spec] == [(None, 3, 1), (None, 2)]
    parts = list(batches.as_numpy_iterator())
    features, labels = source.read_arrays(np.arange(source.num_examples))
    np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), features)
    np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), labels)
    np.testing.assert_array_equal(labels, source.labels())


def test_the_last_row_is_forecast_and_no_row_after_it(tmp_path: Path) -> None:
    source = TimeSeriesSource(csv_section(tmp_path, CO2, time="month"))
    assert source.num_examples == 7
    assert source.labels()[-1].tolist() == [410]


def test_the_target_need_not_be_shown(tmp_path: Path) -> None:
    source = TimeSeriesSource(csv_section(tmp_path, CO2, columns=["wind"]))
    features, labels = source.read_arrays(np.array([0]))
    assert (features.tolist(), labels.tolist()) == ([[[1], [2], [3]]], [[404]])


@pytest.mark.parametrize("text", [SHOPS, SHOPS_APART])
def test_no_window_crosses_from_one_series_into_another(tmp_path: Path, text: str) -> None:
    source = TimeSeriesSource(
        csv_section(tmp_path, text, target="sold", series="shop", time="day", window=2, columns=["sold"])
    )
    features, labels = source.read_arrays(np.arange(source.num_examples))
    assert features[..., 0].tolist() == [[10, 11], [20, 21], [21, 22]]
    assert labels.tolist() == [[12], [22], [23]]
    assert source.column("shop").tolist() == ["a", "b", "b"]
    assert source.column("day").tolist() == [3, 3, 4]


def test_an_example_of_a_mixed_table_is_found_again(tmp_path: Path) -> None:
    source = TimeSeriesSource(csv_section(tmp_path, SHOPS, target="sold", series="shop", window=2))
    assert source.locate(2) == "co2.csv rows 4 to 7"
    assert source.feature_names == ("day", "sold")


def test_formats_give_one_fingerprint(tmp_path: Path) -> None:
    months = [datetime.date(2024, month, 1) for month in range(1, 11)]
    columns = {"month": months, "co2": [401.0 + i for i in range(10)], "wind": [1 + i for i in range(10)]}
    pq.write_table(pa.table(columns), tmp_path / "co2.parquet")
    workbook = openpyxl.Workbook()
    workbook.active.append(list(columns))
    for row in zip(*columns.values(), strict=True):
        workbook.active.append(row)
    workbook.save(tmp_path / "co2.xlsx")
    csv = TimeSeriesSource(csv_section(tmp_path, CO2, time="month"))
    parquet = TimeSeriesSource(section(tmp_path / "co2.parquet", time="month", columns=["co2", "wind"]))
    excel = TimeSeriesSource(section(tmp_path / "co2.xlsx", time="month"))
    assert csv.fingerprint == parquet.fingerprint == excel.fingerprint
    assert parquet.locate(0) == "co2.parquet rows 1 to 4"
    assert excel.locate(0) == "co2.xlsx sheet 'Sheet' rows 2 to 5"
    assert parquet.column("month")[0] == np.datetime64("2024-04-01")
    other = TimeSeriesSource(csv_section(tmp_path, CO2, time="month", stride=2))
    assert other.fingerprint != csv.fingerprint


def test_without_labels_the_last_window_ends_with_the_last_row(tmp_path: Path) -> None:
    given_section = csv_section(tmp_path, "wind\n1\n2\n3\n4\n", horizon=2)
    source = TimeSeriesSource(given_section, labelled=False, feature_names=("wind",))
    features, labels = source.read_arrays(np.arange(2))
    assert features[..., 0].tolist() == [[1, 2, 3], [2, 3, 4]]
    assert labels.tolist() == [[0, 0], [0, 0]]
    tensors = source.read(tf.range(2, dtype=tf.int64))
    np.testing.assert_array_equal(tensors[0], features)
    np.testing.assert_array_equal(tensors[1], labels)
    assert source.locate(1) == "co2.csv rows 2 to 4"
    assert source.column("wind").tolist() == [3, 4]


@given(
    lengths=st.lists(st.integers(4, 12), min_size=1, max_size=4),
    window=st.integers(1, 3),
    stride=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_windows_are_those_of_each_series_alone(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], window: int, stride: int, seed: int
) -> None:
    rows = [(name, day) for name, length in enumerate(lengths) for day in range(length)]
    keys = np.random.default_rng(seed).random(len(rows))
    # A random mixture of the series that keeps each one's own order.
    names = np.array([name for name, _ in rows])[np.argsort(keys)]
    days = dict.fromkeys(range(len(lengths)), 0)
    text = "name,co2\n"
    for name in names.tolist():
        text += f"s{name},{1000 * name + days[name]}\n"
        days[name] += 1
    folder = tmp_path_factory.mktemp("windows")
    source = TimeSeriesSource(csv_section(folder, text, series="name", window=window, stride=stride))
    features, labels = source.read_arrays(np.arange(source.num_examples))
    seen = {tuple(map(int, (*values[:, 0], *label))) for values, label in zip(features, labels, strict=True)}
    expected = {
        tuple(1000 * name + start + step for step in range(window + 1))
        for name, length in enumerate(lengths)
        for start in range(0, length - window, stride)
    }
    assert seen == expected
    assert source.num_examples == len(expected)


class TestRefusals:
    def test_time_that_goes_back(self, tmp_path: Path) -> None:
        error = refused(tmp_path, CO2.replace("2024-05", "2023-05"), time="month")
        assert error.problem == "Time goes back to 2023-05 from 2024-04."
        assert error.place == "co2.csv row 5, column 'month'"

    def test_months_and_days_are_one_time(self, tmp_path: Path) -> None:
        text = CO2.replace("2024-05,", "2024-05-03T10:00:00,")
        assert TimeSeriesSource(csv_section(tmp_path, text, time="month")).num_examples == 7

    def test_time_goes_on_within_each_series_alone(self, tmp_path: Path) -> None:
        keys = {"target": "sold", "window": 1, "time": "day"}
        assert TimeSeriesSource(csv_section(tmp_path, SHOPS, series="shop", **keys)).num_examples == 5
        error = refused(tmp_path, SHOPS.replace("b,3,22", "b,1,22"), series="shop", **keys)
        assert error.problem == "Time goes back to 1.0 from 2.0."
        assert error.place == "co2.csv row 6, column 'day'"
        error = refused(tmp_path, SHOPS.replace("a,3,12", "a,1,12"), columns=["sold"], **keys)
        assert error.place == "co2.csv row 5, column 'day'"

    @pytest.mark.parametrize(
        ("old", "new", "row"), [("2024-05,", "5.2024,", 5), ("2024-05,", "2024-05-01T00:00Z,", 1)]
    )
    def test_text_that_tells_no_time(self, tmp_path: Path, old: str, new: str, row: int) -> None:
        error = refused(tmp_path, CO2.replace(old, new), time="month")
        assert (
            error.problem == "Column 'month' is text that tells no time, or only some of it has a time zone."
        )
        assert error.place == f"co2.csv row {row}, column 'month'"
        assert "day and month first do not sort" in str(error.remedy)

    @pytest.mark.parametrize("column", ["month", "co2"])
    def test_empty_cells(self, tmp_path: Path, column: str) -> None:
        cells = {"month": "2024-03,403", "co2": ",403"}
        text = CO2.replace(cells[column], ",403" if column == "month" else ",")
        error = refused(tmp_path, text, time="month")
        assert error.problem == f"Column {column!r} has 1 empty cell."
        assert error.place == f"co2.csv row 3, column {column!r}"
        assert error.remedy == "Fill or remove the rows with empty cells."

    def test_empty_series(self, tmp_path: Path) -> None:
        error = refused(tmp_path, SHOPS.replace("b,2", ",2"), target="sold", series="shop", window=1)
        assert error.problem == "Column 'shop' has 1 empty cell."

    def test_too_few_rows(self, tmp_path: Path) -> None:
        error = refused(tmp_path, CO2, window=8, horizon=3)
        assert error.problem == "The table has 10 rows; a window with what is forecast takes 11."
        assert TimeSeriesSource(csv_section(tmp_path, CO2, window=8, horizon=2)).num_examples == 1

    def test_too_few_rows_in_one_series(self, tmp_path: Path) -> None:
        error = refused(tmp_path, SHOPS, target="sold", series="shop")
        assert error.problem == "The series 'a' has 3 rows; a window with what is forecast takes 4."
        assert error.place == str(tmp_path / "co2.csv")

    def test_missing_columns(self, tmp_path: Path) -> None:
        error = refused(tmp_path, CO2, target="co")
        assert (error.problem, error.remedy) == ("There is no column 'co'.", "Did you mean 'co2'?")
        assert refused(tmp_path, CO2, target="zzz").remedy == "Name one of: month, co2, wind."
        assert refused(tmp_path, CO2, columns=["wnd"]).problem == "There is no feature column 'wnd'."

    def test_text_among_the_numbers(self, tmp_path: Path) -> None:
        error = refused(tmp_path, CO2, columns=["month"])
        assert error.problem == "A cell of column 'month' is not a number."
        assert error.place == "co2.csv row 1, column 'month'"

    def test_text_among_the_numbers_of_parquet(self, tmp_path: Path) -> None:
        path = tmp_path / "co2.parquet"
        pq.write_table(pa.table({"co2": ["a", "b"], "wind": [1, 2]}), path)
        with pytest.raises(DataError, match="Column 'co2' is text; windows and what is forecast are numbers"):
            TimeSeriesSource(section(path, window=1))

    def test_files_of_another_kind(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"A time series is read from a \.csv, \.parquet or \.xlsx file"):
            TimeSeriesSource(section(tmp_path / "co2.json"))
