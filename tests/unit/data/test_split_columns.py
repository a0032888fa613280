"""The column that a split goes by, in real files of each format."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf  # noqa: F401 (it sets environment variables when it is imported)

from distkeras.config.sections import DataSection, SplitSection
from distkeras.data.sources import open_source
from distkeras.data.split_columns import column_values, without_column
from distkeras.data.splits import open_splits
from distkeras.errors import DataError

NUM_ROWS = 60
PATIENTS = [f"p{row % 12:02d}" for row in range(NUM_ROWS)]
# Seconds since 1970 differ by less than float32 can tell.
SECONDS = [1_700_000_000 + 7 * row % NUM_ROWS for row in range(NUM_ROWS)]


def frame():
    numbers = np.random.default_rng(0).normal(size=(NUM_ROWS, 2)).round(4)
    return pd.DataFrame(
        {
            "a": numbers[:, 0],
            "who": PATIENTS,
            "seconds": SECONDS,
            "b": numbers[:, 1],
            "kind": ["x", "y"] * (NUM_ROWS // 2),
        }
    )


def csv(folder):
    frame().to_csv(folder / "t.csv", index=False)
    return {"kind": "csv", "path": str(folder / "t.csv"), "label": "kind"}


def excel(folder):
    frame().to_excel(folder / "t.xlsx", index=False)
    return {"kind": "excel", "path": str(folder / "t.xlsx"), "label": "kind"}


def parquet(folder, **keys):
    (folder / "t").mkdir()
    table = pa.Table.from_pandas(frame())
    pq.write_table(table.slice(0, 25), folder / "t" / "0.parquet", row_group_size=10)
    pq.write_table(table.slice(25), folder / "t" / "1.parquet", row_group_size=10)
    return {"kind": "parquet", "path": str(folder / "t"), "label": "kind", **keys}


def row_groups(folder):
    return parquet(folder, in_memory=False)


def jsonl(folder):
    rows = frame().to_dict("records")
    lines = [json.dumps({"text": f"{row['a']}", **row}) for row in rows]
    (folder / "t.jsonl").write_text("\n".join(lines) + "\n")
    return {"kind": "jsonl", "path": str(folder / "t.jsonl"), "label": "kind"}


FORMATS = pytest.mark.parametrize("write", [csv, excel, parquet, row_groups, jsonl])


def data(source, **split):
    return DataSection.model_validate_json(json.dumps({"source": source, "split": split}))


def rows_of(part):
    return part.origin(np.arange(part.num_examples))[1]


@FORMATS
def test_groups_stay_together_and_are_no_feature(tmp_path, write):
    splits = open_splits(data(write(tmp_path), method="group", column="who"))
    parts = (splits.train, splits.validation, splits.test)
    groups = [{PATIENTS[row] for row in rows_of(part)} for part in parts]
    assert sum(map(len, groups)) == len(set(PATIENTS)) == len(set.union(*groups))
    assert all("who" not in (part.feature_names or ()) for part in parts)
    if splits.train.feature_names:
        assert splits.train.feature_names == ("a", "seconds", "b")


@FORMATS
def test_time_goes_by_exact_values(tmp_path, write):
    splits = open_splits(
        data(
            write(tmp_path) | ({"features": ["a"]} if write is not jsonl else {}),
            method="time",
            column="seconds",
        )
    )
    times = [
        [SECONDS[row] for row in rows_of(part)] for part in (splits.train, splits.validation, splits.test)
    ]
    assert [len(part) for part in times] == [42, 9, 9]
    assert max(times[0]) < min(times[1]) <= max(times[1]) < min(times[2])


@FORMATS
def test_a_misspelt_column_gets_a_suggestion(tmp_path, write):
    with pytest.raises(DataError, match="There is no column 'secnds' to split by") as caught:
        open_splits(data(write(tmp_path), method="time", column="secnds"))
    assert "did you mean 'seconds'?" in str(caught.value)


def test_a_column_like_none_gets_a_list(tmp_path):
    with pytest.raises(DataError, match="There is no column 'zzz' to split by") as caught:
        open_splits(data(csv(tmp_path), method="time", column="zzz"))
    assert "name one of: a, who, seconds, b, kind" in str(caught.value)


def test_a_file_that_is_not_there_is_said_by_its_source(tmp_path):
    section = {"kind": "csv", "path": str(tmp_path / "none.csv"), "label": "kind"}
    with pytest.raises(DataError, match="A CSV file cannot be read"):
        open_splits(data(section, method="time", column="seconds"))


def test_a_column_of_json_that_is_of_two_kinds(tmp_path):
    lines = [
        json.dumps({"text": str(row), "label": row % 2, "day": row if row else "one"}) for row in range(20)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    with pytest.raises(DataError, match="The split's column 'day' is not all numbers, or all text"):
        open_splits(data({"kind": "jsonl", "path": str(tmp_path / "t.jsonl")}, method="time", column="day"))


def test_an_empty_cell_is_named(tmp_path):
    rows = frame()
    rows.loc[7, "who"] = None
    rows.to_csv(tmp_path / "t.csv", index=False)
    section = {"kind": "csv", "path": str(tmp_path / "t.csv"), "label": "kind"}
    with pytest.raises(DataError, match="The split's column 'who' has 1 empty cell") as caught:
        open_splits(data(section, method="group", column="who"))
    assert "t.csv row 8, column 'who'" in str(caught.value)


def test_parts_of_their_own_have_the_same_features(tmp_path):
    source = csv(tmp_path)
    (tmp_path / "own").mkdir()
    own = csv(tmp_path / "own")
    section = data(source, method="group", column="who").model_copy(update={"test": data(own).source})
    splits = open_splits(section)
    assert splits.test.feature_names == splits.train.feature_names == ("a", "seconds", "b")
    assert splits.train.num_examples + splits.validation.num_examples == NUM_ROWS


def test_other_sources_are_left_as_they_are():
    section = data({"kind": "synthetic", "shape": [2]}).source
    assert without_column(section, "who") is section
    with pytest.raises(DataError, match="The source has no columns to split by"):
        column_values(section, open_source(section), "who")
    assert SplitSection().column is None
