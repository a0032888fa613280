import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distkeras.data.recognition import inspect_arrays, inspect_columns, recognise
from distkeras.errors import DataError


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.csv", "csv"),
        ("a.TSV", "csv"),
        ("a.npz", "arrays"),
        ("a.parquet", "parquet"),
        ("a.JPG", "image_folder"),
    ],
)
def test_a_file_is_known_by_its_ending(tmp_path, name, kind):
    (tmp_path / name).touch()
    assert recognise(tmp_path / name) == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dataset_info.json", "tfds"),
        ("part.parquet", "parquet"),
        ("x.npy", "arrays"),
        ("cat.png", "image_folder"),
    ],
)
def test_a_folder_is_known_by_what_lies_in_it(tmp_path, name, kind):
    (tmp_path / name).touch()
    assert recognise(tmp_path) == kind


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
def test_the_label_decides_the_task(tmp_path, labels, task):
    pq.write_table(pa.table({"f": [1.0, 2.0], "label": labels}), tmp_path / "t.parquet")
    columns = inspect_columns(tmp_path / "t.parquet")
    assert (columns.task, columns.features, columns.label) == (task, ("f",), "label")


def test_a_table_without_numbers_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\nx,y\n")
    with pytest.raises(DataError, match="no numeric column beside 'b'"):
        inspect_columns(tmp_path / "t.csv")


def test_a_damaged_table_is_said_in_a_sentence(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 or not")
    with pytest.raises(DataError, match="The table cannot be read"):
        inspect_columns(tmp_path / "t.parquet")


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
