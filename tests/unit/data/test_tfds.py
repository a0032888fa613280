from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from distkeras.config.source_sections import TfdsSource as Section
from distkeras.data.bad_data import check_class_labels
from distkeras.data.sources.tfds import TfdsSource
from distkeras.errors import DataError

FORMATS = ["tfrecord", "array_record"]
NUM_EXAMPLES = {"train": 21, "test": 9}


def images(split: str) -> np.ndarray:
    rng = np.random.default_rng(len(split))
    return rng.integers(0, 256, (NUM_EXAMPLES[split], 8, 8, 3), dtype=np.uint8)


class Pets(tfds.core.GeneratorBasedBuilder):
    """Small pictures with every kind of feature that the source tells apart."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(8, 8, 3)),
                "photo": tfds.features.Image(shape=(None, None, 1)),
                "measures": tfds.features.Tensor(shape=(4,), dtype=np.float32),
                "packed": tfds.features.Tensor(shape=(2,), dtype=np.int32, encoding="zlib"),
                "ragged": tfds.features.Tensor(shape=(None,), dtype=np.float32),
                "weight": tfds.features.Scalar(dtype=np.float32),
                "label": tfds.features.ClassLabel(names=["cat", "dog", "eel"]),
                "unknown": tfds.features.ClassLabel(num_classes=5),
                "name": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, _: Any) -> dict[str, Any]:
        return {split: self._generate_examples(split) for split in NUM_EXAMPLES}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for i, image in enumerate(images(split)):
            yield (
                i,
                {
                    "image": image,
                    "photo": np.full((3 + i, 5, 1), i, np.uint8),
                    "measures": np.arange(4, dtype=np.float32) + i,
                    "packed": np.array([i, -i], np.int32),
                    "ragged": np.zeros(i, np.float32),
                    "weight": i / 2,
                    "label": i % 3,
                    "unknown": -1,
                    "name": f"pet {i}",
                },
            )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    tfds.disable_progress_bar()
    folders: dict[str, Path] = {}
    for file_format in FORMATS:
        builder = Pets(data_dir=tmp_path_factory.mktemp(file_format), file_format=file_format)
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(num_shards=2, try_download_gcs=False)
        )
        folders[file_format] = Path(builder.data_dir)
    return folders


@pytest.fixture(params=FORMATS)
def folder(request: pytest.FixtureRequest, prepared: dict[str, Path]) -> Path:
    return prepared[request.param]


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(folder, tmp_path / "1.0.0")


def section(folder: Path, **keys: object) -> Section:
    return Section.model_validate({"kind": "tfds", "path": folder, **keys})


def refusal(folder: Path, **keys: object) -> str:
    with pytest.raises(DataError) as caught:
        TfdsSource(section(folder, **keys))
    return str(caught.value)


def shards(folder: Path, split: str) -> list[Path]:
    return sorted(folder.glob(f"pets-{split}.*"))


class TestReading:
    def test_describes_the_split(self, folder: Path) -> None:
        source = TfdsSource(section(folder))
        assert (source.name, source.num_examples) == ("pets/1.0.0:train", 21)
        assert (source.feature_shape, source.feature_dtype) == ((8, 8, 3), "uint8")
        assert (source.granularity, source.class_names) == ("batch", ("cat", "dog", "eel"))
        assert source.locate(0) == f"{shards(folder, 'train')[0].name} record 1"
        assert source.locate(20).startswith(shards(folder, "train")[1].name)

    def test_reads_batches_in_any_order(self, folder: Path) -> None:
        source = TfdsSource(section(folder))
        ids = np.array([[20, 0, 7], [7, 7, 1]])
        dataset = tf.data.Dataset.from_tensor_slices(ids).map(source.read)
        assert dataset.element_spec == (
            tf.TensorSpec((None, 8, 8, 3), tf.uint8),
            tf.TensorSpec((None,), tf.int64),
        )
        for wanted, (features, labels) in zip(ids, dataset, strict=True):
            np.testing.assert_array_equal(features, images("train")[wanted])
            assert labels.numpy().tolist() == (wanted % 3).tolist()

    def test_reads_an_empty_batch(self, folder: Path) -> None:
        source = TfdsSource(section(folder))
        features, labels = tf.function(source.read)(tf.constant([], tf.int64))
        assert (features.shape, labels.shape) == ((0, 8, 8, 3), (0,))

    def test_reads_every_example_of_another_split(self, folder: Path) -> None:
        source = TfdsSource(section(folder, split="test"))
        np.testing.assert_array_equal(source.read(tf.range(9, dtype=tf.int64))[0], images("test"))
        assert source.labels().tolist() == [i % 3 for i in range(9)]

    @pytest.mark.parametrize(
        ("features", "first"), [("measures", [3, 4, 5, 6]), ("packed", [3, -3]), ("weight", 1.5)]
    )
    def test_reads_numbers(self, folder: Path, features: str, first: object) -> None:
        source = TfdsSource(section(folder, features=features, label="weight"))
        values, labels = source.read(tf.constant([3, 4], tf.int64))
        assert values.numpy().tolist()[0] == first
        assert labels.numpy().tolist() == [1.5, 2]
        assert source.class_names is None
        assert source.labels().dtype == np.float32

    def test_images_of_many_sizes_are_read_one_by_one(self, folder: Path) -> None:
        source = TfdsSource(section(folder, features="photo"))
        assert (source.granularity, source.feature_shape) == ("example", (None, None, 1))
        dataset = tf.data.Dataset.from_tensor_slices(np.int64([4, 0])).map(source.read)
        assert dataset.element_spec[0].shape.as_list() == [None, None, 1]
        assert [image.shape[0] for image, _ in dataset] == [7, 3]
        assert [int(label) for _, label in dataset] == [1, 0]

    def test_images_of_many_sizes_may_stay_encoded(self, folder: Path) -> None:
        source = TfdsSource(section(folder, features="photo"))
        assert source.has_encoded_images
        dataset = tf.data.Dataset.range(3)
        pairs = zip(dataset.map(source.read), dataset.map(source.read_encoded), strict=True)
        for (image, label), (content, same_label) in pairs:
            assert np.array_equal(tf.io.decode_image(content, channels=1), image)
            assert label == same_label

    def test_both_formats_hold_the_same_examples(self, prepared: dict[str, Path]) -> None:
        ids = tf.range(21, dtype=tf.int64)
        one, other = (TfdsSource(section(prepared[name])).read(ids)[0] for name in FORMATS)
        np.testing.assert_array_equal(one, other)

    def test_fingerprint_belongs_to_the_split_and_not_to_the_place(self, folder: Path, copied: Path) -> None:
        fingerprint = TfdsSource(section(folder)).fingerprint
        assert TfdsSource(section(copied)).fingerprint == fingerprint
        assert TfdsSource(section(folder, split="test")).fingerprint != fingerprint

    def test_unlabelled_examples_are_found(self, folder: Path) -> None:
        # TFDS marks what has no label, as in the test splits of competitions, with -1.
        source = TfdsSource(section(folder, label="unknown"))
        with pytest.raises(DataError, match="A class label lies outside") as caught:
            check_class_labels(source, 5)
        assert caught.value.received == -1


class TestRefusals:
    def test_not_a_prepared_directory(self, tmp_path: Path) -> None:
        text = refusal(tmp_path)
        assert "This is not a prepared TFDS directory: it has no dataset_info.json." in text
        assert "Prepare the data set with `tfds build`, or give its version directory" in text

    def test_the_directory_above(self, folder: Path) -> None:
        assert f"Did you mean {folder}?" in refusal(folder.parent)

    @pytest.mark.parametrize("content", ["", "{", '{"name": "pets"}'])
    def test_damaged_description(self, copied: Path, content: str) -> None:
        (copied / "dataset_info.json").write_text(content)
        assert "A TFDS directory cannot be opened." in refusal(copied)

    def test_unknown_split(self, folder: Path) -> None:
        text = refusal(folder, split="trian")
        assert "There is no split 'trian' in the data set." in text
        assert "Did you mean 'train'?" in text
        assert "Name one of: train, test." in refusal(folder, split="zzz")

    @pytest.mark.parametrize("key", ["features", "label"])
    def test_unknown_feature(self, folder: Path, key: str) -> None:
        text = refusal(folder, **{key: "imagee"})
        assert "There is no feature 'imagee' in the data set." in text
        assert "Did you mean 'image'?" in text

    @pytest.mark.parametrize("name", ["name", "ragged"])
    def test_features_that_are_neither_image_nor_numbers(self, folder: Path, name: str) -> None:
        text = refusal(folder, features=name)
        assert f"Feature {name!r} is neither an image nor numbers of one shape." in text
        assert "Name another feature as data.source.features." in text

    def test_label_that_is_an_image(self, folder: Path) -> None:
        text = refusal(folder, label="image")
        assert "Feature 'image' is not numbers of one shape." in text
        assert "Name another feature as data.source.label." in text

    def test_unknown_file_format(self, prepared: dict[str, Path], tmp_path: Path) -> None:
        copied = shutil.copytree(prepared["tfrecord"], tmp_path / "1.0.0")
        info = copied / "dataset_info.json"
        info.write_text(info.read_text().replace('"tfrecord"', '"riegeli"'))
        text = refusal(copied)
        assert "The data set is stored as riegeli, which has no reader here." in text
        assert "tfrecord, array_record" in text

    def test_missing_shard(self, copied: Path) -> None:
        shards(copied, "train")[1].unlink()
        text = refusal(copied)
        assert "cannot be read." in text or "An ArrayRecord file is missing or damaged." in text
        assert str(copied) in text

    def test_torn_shard(self, copied: Path) -> None:
        shard = shards(copied, "train")[0]
        shard.write_bytes(shard.read_bytes()[:-100])
        text = refusal(copied)
        assert "ends in the middle of a record" in text or "missing or damaged" in text
        assert str(shard) in text

    def test_files_that_do_not_hold_what_the_description_says(self, copied: Path) -> None:
        info = copied / "dataset_info.json"
        description = json.loads(info.read_text())
        for split in description["splits"]:
            split["shardLengths"][0] = "99"
        info.write_text(json.dumps(description))
        assert "Split 'train' has 21 records; dataset_info.json says" in refusal(copied)


def test_nothing_is_downloaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[object] = []

    def refuse(*arguments: object) -> None:
        attempts.append(arguments)
        raise OSError("the network is closed")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    assert TfdsSource(section(folder)).labels().size == 21
    assert attempts == []
