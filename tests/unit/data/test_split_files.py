"""Parts written as files: rows as they are, each in one part."""

from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from distkeras.config.sections import DataSection
from distkeras.data.split_files import check_splittable, write_parts
from distkeras.data.splits import open_splits
from distkeras.errors import ConfigError, ResourceError


def data(source, **keys):
    return DataSection.model_validate_json(json.dumps({"source": source, **keys}))


def written(section, out, **keys):
    return write_parts(section.source, open_splits(section), out, **keys)


def rows_of(part):
    return part.origin(np.arange(part.num_examples))[1]


class TestTables:
    def test_csv_rows_are_copied_byte_for_byte(self, tmp_path):
        rows = [f'{row},"text, with ""quotes""\r\nand a break {row}",{"xy"[row % 2]}' for row in range(40)]
        content = "\r\n".join(["﻿a,note,kind", *rows[:20], "", *rows[20:]])
        (tmp_path / "t.csv").write_bytes(content.encode())
        source = {"kind": "csv", "path": str(tmp_path / "t.csv"), "label": "kind", "features": ["a"]}
        section = data(source)
        parts = written(section, tmp_path / "out")
        splits = open_splits(section)
        for name, part in (("train", splits.train), ("validation", splits.validation), ("test", splits.test)):
            expected = ["a,note,kind", *(rows[row] for row in rows_of(part))]
            assert parts[name].path.read_bytes() == ("\r\n".join(expected) + "\r\n").encode()
            assert parts[name].num_examples == part.num_examples
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
            "test.csv",
            "train.csv",
            "validation.csv",
        ]

    def test_the_written_parts_are_the_data_of_a_run(self, tmp_path):
        rows = "".join(f"{row},{row % 7},{'xy'[row % 2]}\n" for row in range(60))
        (tmp_path / "t.csv").write_text("a,who,kind\n" + rows)
        source = {"kind": "csv", "path": str(tmp_path / "t.csv"), "label": "kind"}
        section = data(source, split={"method": "group", "column": "who"})
        parts = written(section, tmp_path / "out")
        own = {name: source | {"path": str(one.path), "features": ["a"]} for name, one in parts.items()}
        again = open_splits(data(own["train"], validation=own["validation"], test=own["test"]))
        splits = open_splits(section)
        for name in ("train", "validation", "test"):
            one, other = getattr(splits, name), getattr(again, name)
            ids = np.arange(one.num_examples)
            assert all(
                np.array_equal(a, b)
                for a, b in zip(one.read_arrays(ids), other.read_arrays(ids), strict=True)
            )

    def test_parquet_keeps_columns_types_and_order(self, tmp_path):
        frame = pd.DataFrame(
            {
                "day": pd.date_range("2024-01-01", periods=90),
                "a": np.arange(90.0),
                "tags": [["x"] * (row % 3) for row in range(90)],
                "kind": ["x", "y", "z"] * 30,
            }
        )
        table = pa.Table.from_pandas(frame)
        (tmp_path / "t").mkdir()
        pq.write_table(table.slice(0, 40), tmp_path / "t" / "0.parquet", row_group_size=13)
        pq.write_table(table.slice(40), tmp_path / "t" / "1.parquet", row_group_size=13)
        source = {"kind": "parquet", "path": str(tmp_path / "t"), "label": "kind", "features": ["a"]}
        section = data(source, split={"method": "time", "column": "day", "validation": 0.0, "test": 0.2})
        parts = written(section, tmp_path / "out")
        assert list(parts) == ["train", "test"]
        train, test = (pq.read_table(parts[name].path) for name in ("train", "test"))
        assert train.schema.equals(table.schema)
        assert pa.concat_tables([train, test]).equals(table)
        assert (train.num_rows, test.num_rows) == (72, 18)

    def test_json_lines(self, tmp_path):
        lines = [
            json.dumps({"text": f"text {row}", "label": row % 2, "more": {"a": [row]}}) for row in range(40)
        ]
        (tmp_path / "t.jsonl").write_text("\n".join([*lines[:10], "", " " + lines[10], *lines[11:]]))
        section = data({"kind": "jsonl", "path": str(tmp_path / "t.jsonl")})
        parts = written(section, tmp_path / "out")
        splits = open_splits(section)
        for name, part in (("train", splits.train), ("validation", splits.validation), ("test", splits.test)):
            assert parts[name].path.read_text().splitlines() == [lines[row] for row in rows_of(part)]

    def test_a_part_of_its_own_is_left_where_it_is(self, tmp_path):
        for name in ("t", "own"):
            (tmp_path / f"{name}.csv").write_text(
                "a,kind\n" + "".join(f"{row},{row % 2}\n" for row in range(40))
            )
        source = {"kind": "csv", "path": str(tmp_path / "t.csv"), "label": "kind"}
        section = data(source, test=source | {"path": str(tmp_path / "own.csv")})
        assert list(written(section, tmp_path / "out")) == ["train", "validation"]


def write_images(folder):
    for name in ("cats", "dogs"):
        (folder / "images" / name / "deep").mkdir(parents=True)
        for index in range(10):
            pixels = tf.zeros((4 + index, 4, 3), tf.uint8)
            content = tf.io.encode_png(pixels).numpy()
            (folder / "images" / name / ("deep" if index % 2 else ".") / f"{index}.png").write_bytes(content)
    return {"kind": "image_folder", "path": str(folder / "images")}


class TestFolders:
    def test_a_list_names_each_file_once(self, tmp_path):
        section = data(write_images(tmp_path))
        parts = written(section, tmp_path / "out")
        with parts["train"].path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        found = sorted(
            path.relative_to(tmp_path / "images").as_posix() for path in (tmp_path / "images").rglob("*.png")
        )
        assert sorted(row["path"] for row in rows) == found
        assert all(row["path"].startswith(row["class"]) for row in rows)
        counts = {name: sum(row["part"] == name for row in rows) for name in parts}
        assert (
            counts
            == {name: one.num_examples for name, one in parts.items()}
            == {"train": 14, "validation": 3, "test": 3}
        )
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["parts.csv"]

    def test_copies_are_linked_and_are_data_of_their_own(self, tmp_path):
        source = write_images(tmp_path)
        parts = written(data(source), tmp_path / "out", copy=True)
        again = open_splits(
            data(
                source | {"path": str(parts["train"].path)},
                validation=source | {"path": str(parts["validation"].path)},
                test=source | {"path": str(parts["test"].path)},
            )
        )
        assert (again.train.num_examples, again.validation.num_examples, again.test.num_examples) == (
            14,
            3,
            3,
        )
        some = next((tmp_path / "out" / "train").rglob("*.png"))
        assert some.stat().st_nlink == 2


class TestRefusals:
    @pytest.mark.parametrize(
        ("source", "remedy"),
        [
            ({"kind": "synthetic", "shape": [2]}, "data convert --part train writes a part of any source"),
            ({"kind": "arrays", "path": "a.npz"}, "data convert --part train writes a part of any source"),
            (
                {"kind": "time_series", "path": "t.csv", "target": "y", "window": 3},
                "neighbouring windows share rows, so a part is no table",
            ),
        ],
    )
    def test_what_has_no_rows_of_its_own(self, source, remedy):
        with pytest.raises(
            ConfigError, match=f"Parts of a source of kind {source['kind']} are not written"
        ) as caught:
            check_splittable(data(source).source, copy=False)
        assert remedy in str(caught.value)

    def test_copy_of_a_table(self):
        section = data({"kind": "csv", "path": "t.csv", "label": "y"})
        with pytest.raises(ConfigError, match="--copy is for folders of files"):
            check_splittable(section.source, copy=True)
        check_splittable(section.source, copy=False)

    def test_a_folder_that_is_not_empty(self, tmp_path):
        section = data(write_images(tmp_path))
        with pytest.raises(ConfigError, match="There are files in the folder already"):
            written(section, tmp_path / "images")

    def test_a_place_that_cannot_be_written(self, tmp_path):
        section = data(write_images(tmp_path))
        (tmp_path / "out").write_text("a file")
        with pytest.raises(ResourceError, match="The files cannot be written: File exists"):
            written(section, tmp_path / "out")
