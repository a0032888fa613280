from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from distkeras.config.source_sections import ImageFolderSource as ImageFolderSection
from distkeras.data.bad_data import check_class_labels, find_unreadable_example
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.sources.base import Source, Subset
from distkeras.data.sources.image_folder import ImageFolderSource
from distkeras.data.sources.mixture import MixtureSource
from distkeras.errors import DataError


def labelled(labels: list[float] | np.ndarray) -> ArraySource:
    return ArraySource(
        np.zeros((len(labels), 1)),
        np.asarray(labels),
        name="pets.csv",
        locate=lambda i: f"pets.csv row {i + 1}",
    )


def refusal(source: Source, num_classes: int) -> str:
    with pytest.raises(DataError) as caught:
        check_class_labels(source, num_classes)
    return str(caught.value)


class TestCheckClassLabels:
    @pytest.mark.parametrize("labels", [[0, 1, 2], [2.0, 0.0], np.array([2], np.uint8)])
    def test_accepts_whole_numbers_in_range(self, labels: list[float]) -> None:
        check_class_labels(labelled(labels), 3)

    @pytest.mark.parametrize("bad", [3, -1, 2**40])
    def test_label_out_of_range(self, bad: int) -> None:
        text = refusal(labelled([0, 1, bad, bad]), 3)
        assert "A class label lies outside [0, 3)." in text
        assert "where: pets.csv row 3 in pets.csv" in text
        assert f"received: {bad}" in text
        assert f"must be above the largest label, {max(1, bad)}." in text
        assert "2 of 4 labels are concerned." in text

    def test_label_that_is_not_whole(self) -> None:
        text = refusal(labelled([0.0, 1.5]), 3)
        assert "A class label is not a whole number." in text
        assert "where: pets.csv row 2 in pets.csv" in text
        assert "received: 1.5" in text

    def test_one_hot_labels(self) -> None:
        text = refusal(labelled(np.eye(3)), 3)
        assert "Class labels must be one number an example." in text
        assert "Give class indices instead of one-hot rows." in text

    def test_a_part_names_the_place_in_the_whole(self) -> None:
        part = Subset(labelled([0, 1, 7]), np.array([2, 0]), name="pets.csv (train)")
        assert "where: pets.csv row 3 in pets.csv (train)" in refusal(part, 3)


class TestFindUnreadableExample:
    @pytest.fixture
    def source(self, tmp_path: Path) -> ImageFolderSource:
        """Ten pictures, of which the last three were cut short after they were opened."""
        (tmp_path / "a").mkdir()
        for index in range(10):
            pixels = np.random.default_rng(index).integers(0, 256, (20, 20, 3), np.uint8)
            (tmp_path / "a" / f"{index}.png").write_bytes(tf.io.encode_png(pixels).numpy())
        source = ImageFolderSource(ImageFolderSection(kind="image_folder", path=tmp_path))
        for index in (7, 8, 9):
            path = tmp_path / "a" / f"{index}.png"
            path.write_bytes(path.read_bytes()[:400])
        return source

    def test_names_the_first_that_fails(self, source: ImageFolderSource) -> None:
        error = find_unreadable_example(source)
        assert error is not None
        assert error.problem == "An example cannot be read or decoded."
        assert error.place == f"a/7.png in {source.name}"

    def test_tries_the_ids_in_their_order(self, source: ImageFolderSource) -> None:
        error = find_unreadable_example(source, [0, 9, 8])
        assert error is not None
        assert error.place == f"a/9.png in {source.name}"

    def test_finds_nothing_where_all_can_be_read(self, source: ImageFolderSource) -> None:
        assert find_unreadable_example(source, range(7)) is None

    def test_errors_of_other_libraries_become_one_with_a_place(
        self, source: ImageFolderSource, tmp_path: Path
    ) -> None:
        (tmp_path / "a" / "4.png").unlink()
        error = find_unreadable_example(source, [4])
        assert error is not None
        assert error.problem == "An example cannot be read or decoded."
        assert error.place == f"a/4.png in {source.name}"
        assert "No such file or directory" in str(error.received)

    def test_the_names_of_nodes_are_left_out(self) -> None:
        class Undecodable(ImageFolderSource):
            def __init__(self) -> None:
                self.name = "pictures"
                self.num_examples = 1

            def read(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                return tf.io.decode_png(b"no picture"), ids

            def locate(self, example_id: int) -> str:
                return "a.png"

        error = find_unreadable_example(Undecodable())
        assert error is not None
        assert error.place == "a.png in pictures"
        assert str(error.received).startswith("Unknown image file format.")
        assert str(error.received).endswith("required.")


@pytest.mark.parametrize("mixed", [False, True])
def test_a_file_that_changed_since_it_was_opened_is_named(tmp_path: Path, mixed: bool) -> None:
    for index in range(4):
        kind = tmp_path / "ab"[index % 2]
        kind.mkdir(exist_ok=True)
        image = tf.io.encode_jpeg(np.full((20 + index, 30, 3), 99, np.uint8)).numpy()
        (kind / f"{index}.jpg").write_bytes(image)
    source: Source = ImageFolderSource(ImageFolderSection(kind="image_folder", path=tmp_path))
    source = Subset(MixtureSource([source, source], [1.0, 1.0]) if mixed else source, np.array([3, 1, 2]))
    assert find_unreadable_example(source) is None
    # A whole image, but a smaller one: a part that was chosen by its old size does not lie in it.
    (tmp_path / "b" / "3.jpg").write_bytes(tf.io.encode_jpeg(np.zeros((8, 8, 3), np.uint8)).numpy())
    error = find_unreadable_example(source)
    assert error is not None
    assert error.problem == "A file has changed since it was opened."
    assert error.place == str(tmp_path / "b" / "3.jpg")
