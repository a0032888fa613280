from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from distkeras.config.sections import InputSection
from distkeras.config.source_sections import ImageFolderSource as Section
from distkeras.config.transform_sections import ImageSection, ResizedCropSection
from distkeras.data.batches import BatchPlan
from distkeras.data.changes import RandomChanges
from distkeras.data.images.resizing import NUM_CROP_DRAWS, crop_boxes, resize
from distkeras.data.pipeline import training_dataset
from distkeras.data.preparation import prepare, with_mixable_labels
from distkeras.data.quarantine import Weightless
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.sources.base import Source, Subset
from distkeras.data.sources.image_folder import ImageFolderSource
from distkeras.data.sources.mixture import MixtureSource
from distkeras.data.training_order import training_order
from distkeras.errors import ConfigError
from distkeras.topology import Topology

NUM, BATCH = 24, 8
CROP = ImageSection(size=(6, 8), random_resized_crop=ResizedCropSection(), random_flip="horizontal")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs and PNGs of different sizes."""
    place = tmp_path_factory.mktemp("pictures")
    for index in range(NUM):
        kind = place / ("cat", "dog")[index % 2]
        kind.mkdir(exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (3, 3, 3)).astype("float32")
        smooth = tf.cast(tf.image.resize(pixels, (40 + index, 50 - index)), tf.uint8)
        if index % 3:
            (kind / f"{index:02d}.jpg").write_bytes(tf.io.encode_jpeg(smooth, quality=95).numpy())
        else:
            (kind / f"{index:02d}.png").write_bytes(tf.io.encode_png(smooth).numpy())
    return place


def opened(folder: Path, image: ImageSection) -> Source:
    source = ImageFolderSource(Section(kind="image_folder", path=folder))
    return with_mixable_labels(prepare(InputSection(image=image), source).apply(source), image, 2)


def by_position(
    source: Source, image: ImageSection, world_size: int = 1, num_steps: int = 3
) -> list[tuple[np.ndarray, ...]]:
    """The examples of some steps in the order of the global batches, from all workers."""
    changes = RandomChanges(image, num_classes=2)
    plan, order = BatchPlan(NUM, BATCH), training_order(source, InputSection(), 0)
    steps: list[list[Any]] = [[] for _ in range(num_steps)]
    for rank in range(world_size):
        topology = Topology(world_size=world_size, rank=rank)
        dataset = training_dataset(source, plan, order, topology, seed=3, start_step=0, changes=changes)
        for index, batch in enumerate(dataset.map(lambda *parts: changes.change(parts)).take(num_steps)):
            steps[index].append([np.asarray(part) for part in batch])
    return [tuple(np.concatenate(parts) for parts in zip(*step, strict=True)) for step in steps]


@pytest.mark.parametrize(
    "image",
    [
        CROP,
        CROP.model_copy(update={"augment_on": "device"}),
        ImageSection.model_validate(
            {
                "size": (6, 8),
                "random_crop": 1,
                "augment": [
                    {"kind": "rotation", "degrees": 20.0},
                    {"kind": "color_jitter", "brightness": 0.2, "hue": 0.1},
                    {"kind": "mixup"},
                    {"kind": "cutmix"},
                    {"kind": "rand_augment"},
                ],
            },
            strict=False,
        ),
    ],
)
def test_an_example_is_changed_in_the_same_way_at_any_number_of_workers(folder: Path, image: ImageSection):
    source = opened(folder, image)
    alone, on_two = by_position(source, image), by_position(source, image, 2)
    for one, two in zip(alone, on_two, strict=True):
        for part, other in zip(one, two, strict=True):
            np.testing.assert_array_equal(part, other)


def test_the_device_makes_the_changes_that_the_input_would_make(folder: Path):
    image = ImageSection.model_validate(
        {"size": (6, 8), "random_flip": "both", "augment": [{"kind": "cutout"}, {"kind": "mixup"}]},
        strict=False,
    )
    source = opened(folder, image)
    with_input = by_position(source, image)
    on_device = by_position(source, image.model_copy(update={"augment_on": "device"}))
    for one, two in zip(with_input, on_device, strict=True):
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_allclose(one[1], two[1], rtol=1e-6)


def test_only_the_part_that_is_wanted_is_decoded_and_it_is_that_part(folder: Path):
    source = opened(folder, CROP)
    changes = RandomChanges(CROP)
    draws = tf.constant(np.random.default_rng(0).uniform(size=(NUM, changes.num_draws)), tf.float32)
    for example_id in range(NUM):
        image, label = changes.read(source, tf.constant(example_id, tf.int64), draws[example_id])
        whole = tf.io.decode_image(source.read_encoded(tf.constant(example_id, tf.int64))[0], channels=3)
        top, left, height, width = crop_boxes(
            whole.shape[0], whole.shape[1], draws[example_id, :NUM_CROP_DRAWS], ResizedCropSection()
        ).numpy()
        expected = resize(whole[top : top + height, left : left + width], (6, 8))
        assert image.shape == (6, 8, 3)
        assert image.dtype == tf.uint8
        # Decoded at a half or a quarter of its size, a part is a mean where bilinear resizing takes samples.
        # Another part would be off by 40.
        assert np.abs(image.numpy().astype(int) - expected.numpy().astype(int)).mean() < 12
        assert label == source.labels()[example_id]


@pytest.mark.parametrize("size", [(6, 8), (30, 30)])
def test_parts_of_jpegs_are_chosen_before_they_are_read(folder: Path, tmp_path: Path, size: tuple[int, int]):
    for path in folder.rglob("*.jpg"):
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        (tmp_path / path.parent.name / path.name).hardlink_to(path)
    image = CROP.model_copy(update={"size": size})
    jpegs = opened(tmp_path, image)
    mixed = MixtureSource([jpegs, jpegs], [1.0, 1.0], None)
    some = Weightless(Subset(mixed, np.arange(mixed.num_examples)[::-3]), [1])
    changes = RandomChanges(image)
    ids = np.arange(some.num_examples)
    draws = tf.constant(np.random.default_rng(0).uniform(size=(len(ids), changes.num_draws)), tf.float32)
    boxes = changes.boxes(some, tf.constant(ids), draws)
    unknown = copy(some)
    unknown.jpeg_sizes = None
    assert boxes is not None
    assert changes.boxes(unknown, tf.constant(ids), draws) is None
    for example_id in ids.tolist():
        before = changes.read(some, tf.constant(example_id), draws[example_id], boxes[example_id])
        during = changes.read(unknown, tf.constant(example_id), draws[example_id])
        for one, other in zip(before, during, strict=True):
            np.testing.assert_array_equal(one, other)


def test_parts_of_a_folder_with_other_images_are_chosen_as_they_are_read(folder: Path):
    source = opened(folder, CROP)
    changes = RandomChanges(CROP)
    assert changes.boxes(source, tf.constant([0, 1]), tf.zeros((2, changes.num_draws))) is None


def test_images_in_memory_are_cropped_in_batches(folder: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (NUM, 20, 30, 3), np.uint8)
    source = ArraySource(pixels, np.arange(NUM) % 2)
    (images, labels), *_ = by_position(source, CROP.model_copy(update={"random_flip": "none"}))
    order = training_order(source, InputSection(), 0).visits(0, np.arange(BATCH)).ids
    assert images.shape == (BATCH, 6, 8, 3)
    assert labels.tolist() == (order % 2).tolist()
    middle = resize(tf.constant(pixels[order]), (6, 8)).numpy()
    assert (images != middle).any(axis=(1, 2, 3)).all()


def test_nothing_is_drawn_where_nothing_changes():
    changes = RandomChanges()
    assert changes.num_draws == 0
    assert not changes.need_tensorflow
    assert changes.apply(ArraySource(np.ones((1, 1)), np.ones(1)), (1, 2)) == (1, 2)


def test_colours_of_floats_need_the_value_of_white():
    pixels = np.random.default_rng(0).random((4, 6, 6, 3), np.float32)
    source = ArraySource(pixels, np.zeros(4, np.int64))
    image = ImageSection.model_validate(
        {"augment": [{"kind": "color_jitter", "brightness": 0.2}]}, strict=False
    )
    with pytest.raises(ConfigError, match="between 0 and 1, and white is 255") as caught:
        prepare(InputSection(image=image), source)
    assert caught.value.remedy == "set data.image.white: 1.0"
    small = image.model_copy(update={"white": 1.0})
    changes = prepare(InputSection(image=small), source).changes(2)
    draws = tf.constant(np.random.default_rng(1).random((4, changes.num_draws)), tf.float32)
    changed, _ = changes.apply(source, (tf.constant(pixels), tf.zeros(4)), draws)
    assert 0.02 < np.abs(changed.numpy() - pixels).mean() < 0.2


@pytest.mark.parametrize("name", ["saturation", "hue"])
def test_grey_images_have_no_colours_to_change(name: str):
    source = ArraySource(np.zeros((4, 6, 6, 1), np.uint8), np.zeros(4, np.int64))
    jitter = {"kind": "color_jitter", name: 0.3}
    image = ImageSection.model_validate({"augment": [jitter]}, strict=False)
    with pytest.raises(ConfigError, match="Saturation and hue are of colours, and these images have none"):
        prepare(InputSection(image=image), source)
