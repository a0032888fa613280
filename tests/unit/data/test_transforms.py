from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from distkeras.config.transform_sections import ImageSection
from distkeras.data.transforms import Augmentation, Flip, augmentation_from, crop_after_padding, flip, resize

TYPES = ["uint8", "int32", "float32", "float16"]


def pictures(dtype: str, shape: tuple[int, ...] = (6, 5, 7, 3)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def draws(num: int, batch: int = 6) -> np.ndarray:
    return np.random.default_rng(1).random((batch, num), np.float32)


def crop_by_hand(images: np.ndarray, padding: int, numbers: np.ndarray) -> np.ndarray:
    _, height, width, _ = images.shape
    cropped: list[np.ndarray] = []
    for image, (down, right) in zip(images, numbers, strict=True):
        padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
        top, left = int(down * (2 * padding + 1)), int(right * (2 * padding + 1))
        cropped.append(padded[top : top + height, left : left + width])
    return np.stack(cropped)


def resize_by_hand(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, with pixel centres at one half and edges repeated."""

    def weights(old: int, new: int) -> np.ndarray:
        matrix = np.zeros((new, old))
        for row in range(new):
            centre = (row + 0.5) * old / new - 0.5
            low = int(np.floor(centre))
            matrix[row, np.clip(low, 0, old - 1)] += 1 - (centre - low)
            matrix[row, np.clip(low + 1, 0, old - 1)] += centre - low
        return matrix

    return np.einsum("ri,ijc,sj->rsc", weights(image.shape[0], height), image, weights(image.shape[1], width))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("padding", [1, 3])
def test_a_random_crop_equals_the_same_by_hand(dtype: str, padding: int):
    images, numbers = pictures(dtype), draws(2)
    cropped = crop_after_padding(tf.constant(images), padding, tf.constant(numbers))
    assert cropped.dtype == dtype
    assert np.array_equal(cropped.numpy(), crop_by_hand(images, padding, numbers))


def test_a_random_crop_reaches_every_place_and_no_other():
    images = np.ones((9, 4, 4, 1), np.uint8)
    edges = np.array([0, 0.5, np.nextafter(np.float32(1), np.float32(0))], np.float32)
    numbers = np.stack(np.meshgrid(edges, edges), axis=-1).reshape(9, 2)
    cropped = crop_after_padding(tf.constant(images), 1, tf.constant(numbers)).numpy()
    assert cropped.sum(axis=(1, 2, 3)).tolist() == [9, 12, 9, 12, 16, 12, 9, 12, 9]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("axis", [1, 2])
def test_a_flip_equals_the_same_by_hand(dtype: str, axis: int):
    images = pictures(dtype)
    numbers = np.array([0, 0.49, 0.5, 0.51, 0.99, 0.1], np.float32)
    flipped = flip(tf.constant(images), axis, tf.constant(numbers))
    by_hand = [
        np.flip(image, axis - 1) if number < 0.5 else image
        for image, number in zip(images, numbers, strict=True)
    ]
    assert flipped.dtype == dtype
    assert np.array_equal(flipped.numpy(), np.stack(by_hand))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [(3, 4), (10, 14), (5, 7), (8, 3)])
def test_resizing_equals_the_same_by_hand(dtype: str, size: tuple[int, int]):
    images = pictures(dtype)
    resized = resize(tf.constant(images), size)
    by_hand = np.stack([resize_by_hand(image.astype(float), *size) for image in images])
    assert resized.dtype == dtype
    assert resized.shape == (6, *size, 3)
    # Whole pixels may fall to either side of one half; half floats have ten bits.
    tolerance = {"float32": 1e-3, "float16": 0.2}.get(dtype, 0.5 + 1e-3)
    assert np.abs(resized.numpy().astype(float) - by_hand).max() <= tolerance
    assert np.array_equal(resize(tf.constant(images[0]), size).numpy(), resized.numpy()[0])


def test_resizing_rounds_rather_than_cuts():
    images = np.array([[[[0]], [[3]]]], np.uint8).reshape(1, 1, 2, 1)
    assert resize(tf.constant(images), (1, 4)).numpy().ravel().tolist() == [0, 1, 2, 3]


def test_resizing_works_where_sizes_are_known_only_when_it_runs():
    @tf.function(input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)])
    def run(image: tf.Tensor) -> tf.Tensor:
        return resize(image, (3, 4))

    image = pictures("uint8")[0]
    assert run.get_concrete_function().output_shapes == (3, 4, 3)
    assert np.array_equal(run(tf.constant(image)).numpy(), resize(tf.constant(image), (3, 4)).numpy())


@pytest.mark.parametrize(
    ("padding", "flips", "num_draws"),
    [
        (0, "none", 0),
        (2, "none", 2),
        (0, "horizontal", 1),
        (0, "vertical", 1),
        (2, "horizontal", 3),
        (2, "both", 4),
    ],
)
def test_augmentation_applies_crop_then_vertical_then_horizontal_flip(
    padding: int, flips: Flip, num_draws: int
):
    augmentation = augmentation_from(ImageSection(random_crop=padding, random_flip=flips))
    assert augmentation.num_draws == num_draws
    images, numbers = pictures("uint8"), draws(num_draws)
    expected = crop_by_hand(images, padding, numbers[:, :2]) if padding else images
    used = 2 if padding else 0
    for axis in {"none": [], "vertical": [1], "horizontal": [2], "both": [1, 2]}[flips]:
        mirrored = numbers[:, used] < 0.5
        expected = np.where(mirrored[:, None, None, None], np.flip(expected, axis), expected)
        used += 1
    assert np.array_equal(augmentation(tf.constant(images), tf.constant(numbers)).numpy(), expected)


def test_an_example_is_changed_alike_in_any_batch():
    augmentation = Augmentation(padding=2, flips="both")
    images, numbers = pictures("uint8"), draws(4)
    together = augmentation(tf.constant(images), tf.constant(numbers)).numpy()
    alone = [augmentation(images[i : i + 1], numbers[i : i + 1]).numpy()[0] for i in range(len(images))]
    assert np.array_equal(together, np.stack(alone))


def test_augmentation_keeps_static_shapes_in_a_graph():
    @tf.function(
        input_signature=[tf.TensorSpec((None, 5, 7, 3), tf.uint8), tf.TensorSpec((None, 4), tf.float32)]
    )
    def run(images: tf.Tensor, numbers: tf.Tensor) -> tf.Tensor:
        return Augmentation(padding=2, flips="both")(images, numbers)

    assert run.get_concrete_function().output_shapes.as_list() == [None, 5, 7, 3]
    assert run(np.zeros((0, 5, 7, 3), np.uint8), np.zeros((0, 4), np.float32)).shape == (0, 5, 7, 3)
