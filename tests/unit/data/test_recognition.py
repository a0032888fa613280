"""What kind of source a path is taken for, and what a table's columns."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distkeras.data.inspection import inspect_section, section_for
from distkeras.data.recognition import inspect_arrays, judge_columns, recognise
from distkeras.errors import DataError


def judged(path, label=None):
    return judge_columns(inspect_section(section_for(path, label)))


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", "csv"),
        ("a.TSV", "csv"),
        ("a.npz", "arrays"),
        ("a.parquet", "parquet"),
        ("a.xlsx", "excel"),
        ("a.jsonl", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("a.JPG", "image_folder"),
        ("a.txt", "text_folder"),
        ("a.wav", "audio_folder"),
        ("a.tfrecord", "tfrecord"),
        ("a.tfrecords", "tfrecord"),
        ("all.tfrecord-00000-of-00002", "tfrecord"),
        ("all.array_record-00000-of-00002", "array_record"),
    ],
)
def test_a_file_is_known_by_its_ending(tmp_path, name, kind):
    (tmp_path / name).touch()
    assert recognise(tmp_path / name) == kind


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["dataset_info.json", "mnist-train.tfrecord-00000-of-00001"], "tfds"),
        (["part.parquet"], "parquet"),
        (["x.npy", "y.npy", "conversion.json"], "arrays"),
        (["a.jsonl", "b.jsonl"], "jsonl"),
        (["all.tfrecord-00000-of-00001", "conversion.json", ".distkeras/a.npz"], "tfrecord"),
        (["all.array_record-00000-of-00001"], "array_record"),
        (["cat.png", "notes.txt", "dog.png", "cow.png"], "image_folder"),
        (["README.txt", "cats/a.png", "dogs/deep/b.JPG"], "image_folder"),
        (["good/1.txt", "bad/1.txt"], "text_folder"),
        (["yes/1.wav", "yes/2.wav", "yes/notes.txt", "no/1.wav", ".hidden/1.png"], "audio_folder"),
    ],
)
def test_a_folder_is_known_by_what_lies_in_it(tmp_path, names, kind):
    assert recognise(touch(tmp_path, *names)) == kind


@pytest.mark.parametrize(
    ("names", "received"),
    [
        (["cats/a.png", "dogs/a.wav"], "1 for audio_folder, 1 for image_folder"),
        (["cats/a.png", "cats/b.png", "cats/a.txt"], "2 for image_folder, 1 for text_folder"),
        (["a.tfrecord", "b.array_record"], "1 for array_record, 1 for tfrecord"),
    ],
)
def test_a_folder_of_several_kinds_is_refused(tmp_path, names, received):
    with pytest.raises(DataError, match="files of several kinds") as caught:
        recognise(touch(tmp_path, *names))
    assert (caught.value.place, caught.value.received) == (str(tmp_path), received)
    assert "in a folder of their own" in caught.value.remedy


def test_a_folder_with_nothing_to_read_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="The folder is empty"):
        recognise(tmp_path / "empty")
    with pytest.raises(DataError, match="holds nothing that a source reads"):
        recognise(touch(tmp_path / "b", "a.doc", "cats/.hidden.png"))
    with pytest.raises(DataError, match="holds nothing that a source reads") as caught:
        recognise(touch(tmp_path / "c", "2024/part.parquet"))
    assert caught.value.remedy == f"did you mean {tmp_path / 'c' / '2024'}?"


def test_a_missing_path_gets_a_suggestion(tmp_path):
    (tmp_path / "data.csv").touch()
    with pytest.raises(DataError, match="There is no such file or folder") as caught:
        recognise(tmp_path / "dta.csv")
    assert caught.value.remedy == f"did you mean {tmp_path / 'data.csv'}?"


@pytest.mark.parametrize(
    ("labels", "task"),
    [
        (["a", "b"], "tabular_classification"),
        ([0, 1], "tabular_classification"),
        ([True, False], "tabular_classification"),
        ([0, 1000], "tabular_regression"),
        ([-1, 1], "tabular_regression"),
        ([0.5, 1.5], "tabular_regression"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".xlsx"])
def test_the_label_decides_the_task(tmp_path, suffix, labels, task):
    path = tmp_path / f"t{suffix}"
    frame = pd.DataFrame({"f": [1.0, 2.0], "y": labels})
    frame.to_excel(path, index=False) if suffix == ".xlsx" else None
    frame.to_csv(path, index=False) if suffix == ".csv" else None
    frame.to_parquet(path, index=False) if suffix == ".parquet" else None
    columns = judged(path)
    assert (columns.task, columns.features, columns.label) == (task, ("f",), "y")


def test_columns_that_need_more_than_numbers_do(tmp_path):
    rows = 6
    table = {
        "": range(rows),
        "name": [f"n{row}" for row in range(rows)],
        "size": [1.5, None, float("nan"), 2.5, 1.0, 2.0],
        "city": ["Rome", None, "Oslo", "Rome", "Oslo", "Oslo"],
        "day": pd.date_range("2024-01-01", periods=rows).date,
        "nothing": [None] * rows,
        "legs": [4, 2, 4, 2, 4, 2],
        "is_new": [True, False] * 3,
        "kind": ["a", "b"] * 3,
    }
    pd.DataFrame(table).to_csv(tmp_path / "t.csv", index=False)
    columns = judged(tmp_path / "t.csv")
    assert columns.features == ("size", "city", "legs", "is_new")
    assert (columns.categories, columns.gaps) == (("city", "is_new"), ("size",))
    assert columns.left_out == {
        "": "it has no name",
        "name": "another text in every row",
        "day": "date32[day]",
        "nothing": "it is empty",
    }
    stored = pa.table(
        {name: pa.array(list(values), from_pandas=name != "size") for name, values in table.items()}
    )
    pq.write_table(stored, tmp_path / "t.parquet")
    columns = judged(tmp_path / "t.parquet")
    # Parquet knows truth values, and an empty cell from one that is NaN: both are gaps.
    assert (columns.categories, columns.gaps) == (("city",), ("size",))


def test_numbers_with_text_among_them_are_neither_numbers_nor_names(tmp_path):
    cells = [*(str(row / 3) for row in range(11)), "NA"]
    pd.DataFrame({"a": cells, "size": ["S", "M", "L", "38"] * 3, "b": range(12), "y": [0, 1] * 6}).to_csv(
        tmp_path / "t.csv", index=False
    )
    columns = judged(tmp_path / "t.csv")
    assert (columns.features, columns.categories) == (("size", "b"), ("size",))
    assert columns.left_out == {"a": "numbers with text among them"}


def test_an_empty_label_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n1,x\n2,\n3,\n")
    with pytest.raises(DataError, match="The label 'y' has 2 empty cells"):
        judged(tmp_path / "t.csv")


def test_a_table_with_nothing_to_learn_from_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\nx,y\n")
    with pytest.raises(DataError, match="no column beside 'b' that a model could learn from") as caught:
        judged(tmp_path / "t.csv")
    assert caught.value.received == {"a": "another text in every row"}
    (tmp_path / "t.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="The table has no rows"):
        judged(tmp_path / "t.csv")


def test_arrays_are_told_apart_by_their_size(tmp_path):
    np.savez(tmp_path / "a.npz", targets=np.zeros(4), pixels=np.zeros((4, 9)))
    arrays = inspect_arrays(tmp_path / "a.npz")
    assert (arrays.features, arrays.label, arrays.task) == ("pixels", "targets", "tabular_regression")


def test_a_lone_array_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(DataError, match="an array of features and one of labels"):
        inspect_arrays(tmp_path)


def test_damaged_arrays_are_said_in_a_sentence(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK not really")
    with pytest.raises(DataError, match="The arrays cannot be read"):
        inspect_arrays(tmp_path / "a.npz")
