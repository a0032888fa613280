"""Reading the data of training without its labels."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from distkeras.config.source_sections import (
    ArraysSource,
    CsvSource,
    ImageFolderSource,
    ParquetSource,
    SyntheticSource,
)
from distkeras.data.sources import open_source
from distkeras.data.sources.arrays import ArraySource
from distkeras.errors import DataError

TRAINED_ON = ArraySource(np.zeros((1, 2), np.float32), np.zeros(1, np.int64), feature_names=("a", "b"))


def features(source):
    return source.read(tf.range(source.num_examples, dtype=tf.int64))[0].numpy()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_gives_the_columns_of_training_in_their_order(tmp_path, kind):
    path = tmp_path / f"new.{kind}"
    if kind == "csv":
        path.write_text("name,b,a\nx,2,1\ny,4,3\n")
        section = CsvSource(kind=kind, path=path, label="gone")
    else:
        pq.write_table(pa.table({"name": ["x", "y"], "b": [2, 4], "a": [1, 3]}), path)
        section = ParquetSource(kind=kind, path=str(path), label="gone")
    source = open_source(section, labelled=False, like=TRAINED_ON)
    np.testing.assert_array_equal(features(source), [[1, 2], [3, 4]])
    np.testing.assert_array_equal(source.labels(), [0, 0])
    assert source.locate(1) == f"new.{kind} row 2"


def test_a_column_of_training_that_is_missing_is_named(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("a,c\n1,2\n")
    with pytest.raises(DataError, match="There is no feature column 'b'"):
        open_source(CsvSource(kind="csv", path=path, label="gone"), labelled=False, like=TRAINED_ON)


def test_arrays_need_no_labels(tmp_path):
    np.savez(tmp_path / "new.npz", x=np.eye(3, dtype=np.float32))
    source = open_source(ArraysSource(kind="arrays", path=tmp_path / "new.npz"), labelled=False)
    np.testing.assert_array_equal(features(source), np.eye(3))
    np.testing.assert_array_equal(source.labels(), [0, 0, 0])


def test_images_need_no_classes(tmp_path):
    (tmp_path / "deeper").mkdir()
    for name in ("b.png", "deeper/a.png"):
        (tmp_path / name).write_bytes(tf.io.encode_png(np.zeros((2, 3, 3), np.uint8)).numpy())
    source = open_source(ImageFolderSource(kind="image_folder", path=tmp_path), labelled=False)
    assert [source.locate(index) for index in range(source.num_examples)] == ["b.png", "deeper/a.png"]
    assert source.class_names is None


def test_a_folder_without_images_says_so(tmp_path):
    with pytest.raises(DataError, match=r"The folder has no images\."):
        open_source(ImageFolderSource(kind="image_folder", path=tmp_path), labelled=False)


def test_other_sources_are_read_as_they_are():
    section = SyntheticSource(kind="synthetic", num_examples=5, shape=[2])
    assert open_source(section, labelled=False).num_examples == 5
