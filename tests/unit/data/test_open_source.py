from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from pydantic import TypeAdapter

from distkeras.config import source_sections
from distkeras.data.bad_data import check_class_labels
from distkeras.data.sources import open_source
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.sources.base import Source
from distkeras.data.sources.image_folder import ImageFolderSource
from distkeras.data.sources.synthetic import SyntheticSource
from distkeras.errors import DataError

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "configs" / "data"


def opened(**keys: object) -> Source:
    return open_source(TypeAdapter(source_sections.Source).validate_python(keys))


def test_opens_arrays() -> None:
    assert isinstance(opened(kind="arrays", path=SHIPPED / "digits.npz"), ArraySource)


def test_opens_images(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    tf.io.write_file(str(tmp_path / "cats" / "1.png"), tf.io.encode_png(tf.zeros((2, 3, 3), tf.uint8)))
    assert isinstance(opened(kind="image_folder", path=tmp_path), ImageFolderSource)


def test_opens_synthetic_data() -> None:
    assert isinstance(opened(kind="synthetic", shape=[2]), SyntheticSource)


def test_opens_tfds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="This is not a prepared TFDS directory"):
        opened(kind="tfds", path=tmp_path)


class TestShippedData:
    def test_digits(self) -> None:
        source = opened(kind="arrays", path=SHIPPED / "digits.npz")
        images, labels = source.read(tf.range(source.num_examples, dtype=tf.int64))
        assert (source.num_examples, source.feature_shape, source.feature_dtype) == (1797, (8, 8, 1), "uint8")
        assert (images.numpy().min(), images.numpy().max()) == (0, 16)
        assert np.bincount(labels).min() > 170
        check_class_labels(source, 10)

    def test_breast_cancer(self) -> None:
        source = opened(kind="csv", path=SHIPPED / "breast_cancer.csv", label="diagnosis")
        assert (source.num_examples, source.feature_shape) == (569, (30,))
        assert source.class_names == ("benign", "malignant")
        assert source.feature_names is not None
        assert source.feature_names[:2] == ("mean_radius", "mean_texture")
        assert np.bincount(source.labels()).tolist() == [357, 212]

    def test_diabetes(self) -> None:
        source = opened(kind="parquet", path=str(SHIPPED / "diabetes.parquet"), label="progression")
        features, _ = source.read(tf.range(source.num_examples, dtype=tf.int64))
        assert (source.num_examples, source.feature_shape) == (442, (10,))
        assert source.feature_names is not None
        assert source.feature_names[:3] == ("age", "sex", "bmi")
        assert (features.numpy()[:, 0].min(), features.numpy()[:, 0].max()) == (19, 79)
        assert (source.labels().min(), source.labels().max()) == (25, 346)

    def test_the_recipe_gives_the_shipped_files(self, tmp_path: Path) -> None:
        for folder in ("one", "two"):
            recipe = [sys.executable, str(SHIPPED / "make.py"), str(tmp_path / folder)]
            subprocess.run(recipe, check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        one, two = tmp_path / "one", tmp_path / "two"
        tables = ("breast_cancer.csv", "made_up_weather.csv", "wine_gaps.csv")
        for name in (*tables, "diabetes.parquet", "digits.npz"):
            assert (one / name).read_bytes() == (two / name).read_bytes()
        # Compressed bytes depend on the versions of zlib and Arrow; the content must not.
        for name in tables:
            assert (one / name).read_bytes() == (SHIPPED / name).read_bytes()
        assert pq.read_table(one / "diabetes.parquet") == pq.read_table(SHIPPED / "diabetes.parquet")
        with np.load(one / "digits.npz") as made, np.load(SHIPPED / "digits.npz") as shipped:
            assert sorted(made) == sorted(shipped) == ["x", "y"]
            for name in made:
                np.testing.assert_array_equal(made[name], shipped[name])
                assert made[name].dtype == shipped[name].dtype

    def test_the_files_are_small(self) -> None:
        assert sum(path.stat().st_size for path in SHIPPED.iterdir() if path.is_file()) < 400_000


def test_the_data_room_imports_no_tensorflow_by_itself() -> None:
    code = "import sys, distkeras.data; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_table_is_opened_without_tensorflow_datasets() -> None:
    assert importlib.util.find_spec("tensorflow_datasets") is not None
    code = (
        "import sys; from pathlib import Path; from distkeras.config.source_sections import CsvSource\n"
        "from distkeras.data.sources import open_source\n"
        f"path = Path({str(SHIPPED / 'breast_cancer.csv')!r})\n"
        "open_source(CsvSource(kind='csv', path=path, label='diagnosis'))\n"
        "sys.exit('tensorflow_datasets' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
