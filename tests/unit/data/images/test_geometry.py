from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from distkeras.data.images.geometry import (
    AffineChanges,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomTranslation,
    RandomZoom,
    crop_after_padding,
    flip,
)

TYPES = ["uint8", "int32", "float32", "float16"]
MANY = np.random.default_rng(2).random((20_000, 3), np.float32)


def pictures(dtype: str, shape: tuple[int, ...] = (6, 5, 7, 3)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def draws(num: int, batch: int = 6) -> np.ndarray:
    return np.random.default_rng(1).random((batch, num), np.float32)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("padding", [1, 3])
def test_a_random_crop_equals_that_of_tensorflow(dtype: str, padding: int):
    images, numbers = pictures(dtype), draws(2)
    cropped = RandomCrop(padding)(tf.constant(images), tf.constant(numbers))
    assert cropped.dtype == dtype
    for image, (down, right), changed in zip(images, numbers, cropped, strict=True):
        padded = tf.image.pad_to_bounding_box(image, padding, padding, 5 + 2 * padding, 7 + 2 * padding)
        top, left = int(down * (2 * padding + 1)), int(right * (2 * padding + 1))
        expected = tf.image.crop_to_bounding_box(padded, top, left, 5, 7)
        assert np.array_equal(changed.numpy(), expected.numpy())


def test_a_random_crop_reaches_every_place_and_no_other():
    images = np.ones((9, 4, 4, 1), np.uint8)
    edges = np.array([0, 0.5, np.nextafter(np.float32(1), np.float32(0))], np.float32)
    numbers = np.stack(np.meshgrid(edges, edges), axis=-1).reshape(9, 2)
    cropped = crop_after_padding(tf.constant(images), 1, tf.constant(numbers)).numpy()
    assert cropped.sum(axis=(1, 2, 3)).tolist() == [9, 12, 9, 12, 16, 12, 9, 12, 9]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("axis", [1, 2])
def test_a_flip_equals_that_of_tensorflow(dtype: str, axis: int):
    images = pictures(dtype)
    numbers = np.array([0, 0.49, 0.5, 0.51, 0.99, 0.1], np.float32)
    flipped = RandomFlip(axis)(tf.constant(images), tf.constant(numbers[:, None]))
    assert np.array_equal(flipped.numpy(), flip(tf.constant(images), axis, tf.constant(numbers)).numpy())
    mirror = tf.image.flip_up_down if axis == 1 else tf.image.flip_left_right
    assert flipped.dtype == dtype
    expected = np.where((numbers < 0.5)[:, None, None, None], mirror(images).numpy(), images)
    assert np.array_equal(flipped.numpy(), expected)


def in_batch(layer: keras.Layer, images: np.ndarray) -> np.ndarray:
    return np.asarray(layer(images.astype(np.float32), training=True))


# A Keras layer whose range is a point changes every image by exactly that; so does a draw of one half.
@pytest.mark.parametrize("degrees", [-33.0, 20.0])
def test_a_rotation_equals_that_of_keras(degrees: float):
    images = pictures("uint8")
    layer = keras.layers.RandomRotation((degrees / 360, degrees / 360), "constant", fill_value=0.0)
    numbers = np.full((6, 2), (1 + degrees / 180) / 2, np.float32)
    turned = RandomRotation(180)(tf.constant(images), tf.constant(numbers)).numpy()
    assert np.abs(turned - in_batch(layer, images)).max() <= 0.7


def test_a_translation_equals_that_of_keras():
    images = pictures("uint8")
    layer = keras.layers.RandomTranslation((0.3, 0.3), (-0.2, -0.2), "constant", fill_value=0.0)
    numbers = np.tile(np.array([0, 0.8, 0.3], np.float32), (6, 1))
    moved = RandomTranslation(0.5, 0.5)(tf.constant(images), tf.constant(numbers)).numpy()
    assert np.abs(moved - in_batch(layer, images)).max() <= 0.7


@pytest.mark.parametrize("factor", [0.5, 1.6])
def test_a_zoom_equals_that_of_keras(factor: float):
    images = pictures("uint8")
    # Keras names the size of what is seen, so that a negative number zooms in.
    layer = keras.layers.RandomZoom((1 / factor - 1, 1 / factor - 1), None, "constant", fill_value=0.0)
    numbers = np.tile(np.array([0, factor / 2], np.float32), (6, 1))
    zoomed = RandomZoom(0, 2)(tf.constant(images), tf.constant(numbers)).numpy()
    assert np.abs(zoomed - in_batch(layer, images)).max() <= 0.7


def test_parameters_have_the_distributions_that_the_config_names():
    numbers = tf.constant(MANY)
    turns = RandomRotation(30).matrices(numbers[:, :2], 9, 9).numpy()
    angles = np.degrees(np.arctan2(turns[:, 1, 0], turns[:, 0, 0]))
    assert stats.kstest(angles, stats.uniform(-30, 60).cdf).pvalue > 0.01
    moves = RandomTranslation(0.1, 0.25).matrices(numbers, 50, 40).numpy()
    assert stats.kstest(-moves[:, 1, 2], stats.uniform(-5, 10).cdf).pvalue > 0.01
    assert stats.kstest(-moves[:, 0, 2], stats.uniform(-10, 20).cdf).pvalue > 0.01
    factors = 1 / RandomZoom(0.8, 1.2).matrices(numbers[:, :2], 9, 9).numpy()[:, 0, 0]
    assert stats.kstest(factors, stats.uniform(0.8, 0.4).cdf).pvalue > 0.01


@pytest.mark.parametrize(
    "change", [RandomRotation(30, 0.3), RandomTranslation(0.2, 0.2, 0.3), RandomZoom(0.5, 0.9, 0.3)]
)
def test_a_share_of_the_images_changes(change: RandomRotation | RandomTranslation | RandomZoom):
    matrices = change.matrices(tf.constant(MANY[:, : change.num_draws]), 9, 9).numpy()
    changed = (matrices != np.eye(3)).any(axis=(1, 2))
    assert np.array_equal(changed, MANY[:, 0] < 0.3)
    assert stats.binomtest(int(changed.sum()), len(changed), 0.3).pvalue > 0.01


def test_changes_made_at_once_equal_those_made_one_after_the_other_inside_of_the_image():
    smooth = np.add.outer(np.arange(40), np.arange(50))[None, :, :, None] * np.array([1.0, 2.0, 0.5])
    images = tf.constant(np.tile(smooth, (4, 1, 1, 1)).astype(np.float32))
    numbers = tf.constant(draws(7, batch=4))
    changes = (RandomRotation(20), RandomTranslation(0.05, 0.05), RandomZoom(1.0, 1.2))
    at_once = AffineChanges(changes)(images, numbers)
    one_by_one = images
    for change, columns in zip(changes, ((0, 2), (2, 5), (5, 7)), strict=True):
        one_by_one = change(one_by_one, numbers[:, slice(*columns)])
    assert AffineChanges(changes).num_draws == 7
    difference = (at_once - one_by_one).numpy()[:, 15:-15, 15:-15]
    # Planes are interpolated without error.
    assert np.abs(difference).max() < 0.05
    assert np.abs((at_once - images).numpy()[:, 15:-15, 15:-15]).max() > 1
