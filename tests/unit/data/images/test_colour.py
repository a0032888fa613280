from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from distkeras.data.images.colour import (
    RandomColor,
    _spread,
    change_brightness,
    change_contrast,
    change_saturation,
    change_saturation_and_hue,
    channel_means,
)
from distkeras.errors import ConfigError

BATCH = 7
AMOUNTS = np.linspace(-0.5, 0.5, BATCH)


def pictures(channels: int = 3, height: int = 16) -> np.ndarray:
    """Noise, with greys, black, white and pure colours among it."""
    images = np.random.default_rng(0).integers(0, 256, (BATCH, height, 9, channels)).astype(np.uint8)
    images[:, 0] = images[:, 0, :, :1]
    images[:, 1, 0], images[:, 1, 1] = 0, 255
    images[:, 1, 2] = np.eye(channels, dtype=np.uint8)[0] * 255
    return images


def levels(images: tf.Tensor) -> np.ndarray:
    return np.clip(np.asarray(images, np.float64) * 255, 0, 255)


def scaled(images: np.ndarray) -> tf.Tensor:
    return tf.constant(images.astype(np.float32) / 255)


def test_brightness_equals_that_of_tensorflow():
    images = pictures()
    mine = change_brightness(tf.constant(images), 255 * tf.constant(AMOUNTS), 255)
    theirs = [
        tf.image.adjust_brightness(image, amount)
        for image, amount in zip(scaled(images), AMOUNTS, strict=True)
    ]
    assert np.abs(mine.numpy() - levels(tf.stack(theirs))).max() <= 0.51


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("height", [16, 13])
def test_contrast_equals_that_of_tensorflow(channels: int, height: int):
    images = pictures(channels, height)
    factors = 1 + AMOUNTS
    mine = change_contrast(tf.constant(images), tf.constant(factors), 255)
    theirs = [
        tf.image.adjust_contrast(image, factor)
        for image, factor in zip(scaled(images), 1 + AMOUNTS, strict=True)
    ]
    assert np.abs(mine.numpy() - levels(tf.stack(theirs))).max() <= 0.6


def test_saturation_equals_that_of_tensorflow():
    images = pictures()
    factors = 1 + 2 * AMOUNTS
    mine = change_saturation(tf.constant(images), tf.constant(factors), 255)
    unturned = change_saturation_and_hue(
        tf.constant(images), tf.constant(factors), tf.zeros(7, tf.float64), 255
    )
    assert np.array_equal(mine.numpy(), unturned.numpy())
    theirs = [
        tf.image.adjust_saturation(image, factor)
        for image, factor in zip(scaled(images), factors, strict=True)
    ]
    assert np.abs(mine.numpy() - levels(tf.stack(theirs))).max() <= 0.6


def test_hue_equals_that_of_tensorflow():
    images = pictures()
    mine = change_saturation_and_hue(tf.constant(images), tf.ones(7, tf.float64), tf.constant(AMOUNTS), 255)
    theirs = [tf.image.adjust_hue(image, turn) for image, turn in zip(scaled(images), AMOUNTS, strict=True)]
    # A turn is rounded to 1/4096 of the circle, by which a pure colour moves by up to 0.2 levels.
    assert np.abs(mine.numpy() - levels(tf.stack(theirs))).max() <= 0.75


def test_all_four_equal_those_of_tensorflow_in_their_order():
    images = pictures()
    numbers = np.random.default_rng(3).random((BATCH, 5), np.float32)
    mine = RandomColor(0.2, 0.4, 0.5, 0.3)(tf.constant(images), tf.constant(numbers)).numpy()
    for image, draws, changed in zip(scaled(images), 2 * numbers - 1, mine, strict=True):
        brighter = tf.clip_by_value(tf.image.adjust_brightness(image, 0.2 * draws[1]), 0, 1)
        spread = tf.clip_by_value(tf.image.adjust_contrast(brighter, 1 + 0.4 * draws[2]), 0, 1)
        saturated = tf.image.adjust_saturation(spread, 1 + 0.5 * draws[3])
        expected = levels(tf.image.adjust_hue(saturated, 0.3 * draws[4]))
        # Rounding after brightness and after contrast, which the saturation makes up to 1.5 times as large.
        assert np.abs(changed - expected).max() <= 3
        assert np.abs(changed - expected).mean() <= 0.6


@pytest.mark.parametrize("dtype", ["int32", "float32", "float16"])
def test_other_number_types_keep_theirs(dtype: str):
    images = pictures()
    numbers = tf.constant(np.random.default_rng(3).random((BATCH, 5), np.float32))
    whole = RandomColor(0.2, 0.4, 0.5, 0.3)(tf.constant(images), numbers).numpy().astype(float)
    changed = RandomColor(0.2, 0.4, 0.5, 0.3)(tf.constant(images.astype(dtype)), numbers)
    assert changed.dtype == dtype
    assert np.abs(changed.numpy().astype(float) - whole).max() <= (0 if dtype == "int32" else 3)


def test_floats_up_to_one_are_changed_as_bytes_are():
    images = pictures()
    numbers = tf.constant(np.random.default_rng(3).random((BATCH, 5), np.float32))
    small = RandomColor(0.2, 0.4, 0.5, 0.3, largest=1.0)(scaled(images), numbers).numpy()
    large = RandomColor(0.2, 0.4, 0.5, 0.3)(tf.constant(images.astype(np.float32)), numbers).numpy()
    assert small.max() <= 1
    assert np.abs(255 * small - large).max() <= 0.3


def test_what_is_not_chosen_stays_as_it_is():
    images = pictures()
    numbers = np.random.default_rng(3).random((BATCH, 5), np.float32)
    numbers[:, 0] = np.linspace(0.05, 0.95, BATCH)
    changed = RandomColor(0.3, 0.3, 0.3, 0.3, probability=0.5)(
        tf.constant(images), tf.constant(numbers)
    ).numpy()
    same = (changed == images).all(axis=(1, 2, 3))
    assert same.tolist() == (numbers[:, 0] >= 0.5).tolist()


def test_compiled_and_interpreted_results_are_equal_bit_for_bit():
    # So many pixels, because of parameters that are not exact two in a million would differ.
    rng = np.random.default_rng(5)
    images = tf.constant(rng.integers(0, 256, (BATCH, 400, 400, 3)).astype(np.uint8))
    factors, amounts = tf.constant(rng.uniform(0.5, 1.5, BATCH)), tf.constant(rng.uniform(-0.5, 0.5, BATCH))
    for change, arguments in (
        (change_brightness, (100 * amounts, 255.0)),
        (_spread, (channel_means(images), factors, 255.0)),
        (change_saturation, (factors, 255.0)),
        (change_saturation_and_hue, (factors, amounts, 255.0)),
    ):
        assert np.array_equal(
            change(images, *arguments).numpy(), change.__wrapped__(images, *arguments).numpy()
        )


def test_means_are_exact_where_single_precision_is_not():
    # Their sum is larger than the whole numbers that float32 holds.
    pixels = np.full((2, 512, 512, 1), 255, np.float32)
    pixels[1, 0, 0] = 254
    means = channel_means(tf.constant(pixels)).numpy()
    assert means[:, 0].tolist() == [255, 255 - 1 / 512**2]


def test_amounts_have_the_distributions_that_the_config_names():
    numbers = np.random.default_rng(6).random((20_000, 5), np.float32)
    grey = tf.fill([20_000, 1, 1, 1], 128.0)
    deltas = RandomColor(brightness=0.25)(grey, tf.constant(numbers)).numpy().ravel() - 128
    assert stats.kstest(deltas, stats.uniform(-63.75, 127.5).cdf).pvalue > 0.01
    pair = tf.tile(tf.constant([90.0, 110.0])[None, None, :, None], [20_000, 1, 1, 1])
    spread = RandomColor(contrast=0.4)(pair, tf.constant(numbers)).numpy()
    factors = (spread[:, 0, 1, 0] - spread[:, 0, 0, 0]) / 20
    assert stats.kstest(factors, stats.uniform(0.6, 0.8).cdf).pvalue > 0.01


def test_grey_images_have_no_saturation():
    numbers = tf.zeros((BATCH, 5))
    with pytest.raises(ConfigError, match=r"(?s)colour images, with three channels.*images with 1 channel"):
        RandomColor(saturation=0.1)(tf.constant(pictures(1)), numbers)
    assert RandomColor(brightness=0.1)(tf.constant(pictures(1)), numbers).shape == (BATCH, 16, 9, 1)
