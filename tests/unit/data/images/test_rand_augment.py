from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats

from distkeras.data.images.rand_augment import (
    COLOUR_CHANGES,
    KINDS,
    PLACE_CHANGES,
    RandAugmentation,
    change_levels,
)
from distkeras.data.images.resampling import resample, rotations, shears, translations

STRENGTHS = (-1.0, -0.4, 0.0, 0.7, 1.0)
SIZE = (36, 44)


def pictures(channels: int = 3) -> np.ndarray:
    """Noise of several ranges, an image of one level, and one with few."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, *SIZE, channels)).astype(np.uint8)
    images[1] = images[1] // 3 + 40
    images[2] = 77
    images[3] = images[3] // 64 * 64
    images[4, ..., 0] = 9
    return images


def enhanced(enhancer: Callable[..., ImageEnhance.Brightness]) -> Callable[[Image.Image, float], Image.Image]:
    return lambda image, strength: enhancer(image).enhance(1 + 0.9 * strength)


BY_PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "autocontrast": lambda image, strength: ImageOps.autocontrast(image),
    "equalize": lambda image, strength: ImageOps.equalize(image),
    "solarize": lambda image, strength: ImageOps.solarize(image, 255 - 255 * abs(strength)),
    "color": enhanced(ImageEnhance.Color),
    "posterize": lambda image, strength: ImageOps.posterize(image, 8 - round(4 * abs(strength))),
    "contrast": enhanced(ImageEnhance.Contrast),
    "brightness": enhanced(ImageEnhance.Brightness),
    "sharpness": enhanced(ImageEnhance.Sharpness),
}


def by_function(images: np.ndarray, kind: str) -> np.ndarray:
    """One colour change of all images, as TensorFlow makes it without XLA."""
    return COLOUR_CHANGES[kind](tf.constant(images), tf.constant(STRENGTHS, tf.float64)).numpy()


def changed(images: np.ndarray, kind: str, strengths: tuple[float, ...] = STRENGTHS) -> np.ndarray:
    kinds = tf.fill([len(images), 1], KINDS.index(kind))
    return change_levels(tf.constant(images), kinds, tf.constant(strengths, tf.float64)[:, None]).numpy()


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("kind", list(COLOUR_CHANGES))
def test_colour_changes_equal_those_of_pillow(kind: str, channels: int):
    images = pictures(channels)
    assert set(BY_PILLOW) == set(COLOUR_CHANGES)
    for shift in range(5):
        # Each image with each strength.
        rolled = np.roll(images, shift, axis=0)
        pairs = zip(rolled, STRENGTHS, strict=True)
        by_pillow = [
            np.asarray(BY_PILLOW[kind](Image.fromarray(image.squeeze()), strength))
            for image, strength in pairs
        ]
        difference = by_function(rolled, kind).astype(int) - np.stack(by_pillow).reshape(rolled.shape)
        assert np.abs(difference).max() <= 1
        # Both drop fractions, and factors are rounded to 1/4096: products near a whole number fall below it.
        assert (difference != 0).mean() <= 0.05


@pytest.mark.parametrize("kind", list(COLOUR_CHANGES))
def test_compiled_colour_changes_equal_interpreted_ones_bit_for_bit(kind: str):
    assert np.array_equal(changed(pictures(), kind), by_function(pictures(), kind))


@pytest.mark.parametrize("kind", PLACE_CHANGES)
def test_changes_of_place_are_affine(kind: str):
    images, strengths = pictures(), tf.constant(STRENGTHS, tf.float64)
    none = tf.zeros_like(strengths)
    matrices = {
        "rotate": rotations(30 * strengths, *SIZE),
        "shear_x": shears(0.3 * strengths, none),
        "shear_y": shears(none, 0.3 * strengths),
        "translate_x": translations(none, 150 / 331 * SIZE[1] * strengths),
        "translate_y": translations(150 / 331 * SIZE[0] * strengths, none),
    }[kind]
    moved = changed(images, kind)
    assert np.array_equal(moved, resample(tf.constant(images), matrices).numpy())
    assert (moved != images).any(axis=(1, 2, 3)).tolist() == [True, True, False, True, True]


def test_shears_are_those_of_pillow():
    # Planes, which any interpolation leaves planes.
    image = np.add.outer(4 * np.arange(20), 5 * np.arange(24)).astype(np.uint8)
    sheared = changed(np.tile(image[None, :, :, None], (5, 1, 1, 1)), "shear_x")[3, :, :, 0].astype(int)
    by_pillow = Image.fromarray(image).transform(
        (24, 20), Image.Transform.AFFINE, (1, 0.3 * 0.7, 0, 0, 1, 0), Image.Resampling.BILINEAR
    )
    assert np.abs(sheared - np.asarray(by_pillow))[:, 1:16].max() <= 1


def test_the_identity_changes_nothing():
    images = pictures()
    assert np.array_equal(changed(images, "identity"), images)


def test_changes_follow_each_other_and_each_image_gets_its_own():
    images = pictures()
    kinds = np.array(
        [
            ["rotate", "equalize"],
            ["color", "color"],
            ["identity", "solarize"],
            ["shear_y", "rotate"],
            ["equalize", "rotate"],
        ]
    )
    strengths = np.array([[0.5, 0.5], [0.3, -0.3], [0.9, 0.9], [-0.4, 0.4], [0.5, 0.5]])
    indices = np.vectorize(KINDS.index)(kinds).astype(np.int32)
    together = change_levels(tf.constant(images), tf.constant(indices), tf.constant(strengths)).numpy()
    for index in range(5):
        image = np.tile(images[index], (5, 1, 1, 1))
        for kind, strength in zip(kinds[index], strengths[index], strict=True):
            image = changed(image, kind, (strength,) * 5)
        assert np.array_equal(together[index], image[0])


def test_images_of_two_pixels_have_no_inside_to_sharpen():
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 2, 3)).astype(np.uint8)
    assert np.array_equal(by_function(images, "sharpness"), images)


def test_draws_choose_kinds_and_directions_evenly():
    numbers = np.random.default_rng(2).random((20_000, 5), np.float32)
    kinds, strengths = (drawn.numpy() for drawn in RandAugmentation(2, 9.0, 0.7).drawn(tf.constant(numbers)))
    assert not kinds[numbers[:, 0] >= 0.7].any()
    kinds, strengths = kinds[numbers[:, 0] < 0.7], strengths[numbers[:, 0] < 0.7]
    assert stats.binomtest(len(kinds), 20_000, 0.7).pvalue > 0.01
    # Both changes of an example, each pair of directions with each pair of kinds.
    both = kinds[:, 0] * len(KINDS) + kinds[:, 1]
    assert stats.chisquare(np.bincount(both, minlength=14**2)).pvalue > 0.01
    assert set(np.abs(strengths).ravel()) == {0.9}
    directions = 2 * (strengths[:, 0] > 0) + (strengths[:, 1] > 0)
    assert (
        stats.chi2_contingency(
            np.stack([np.bincount(kinds[directions == pair, 0]) for pair in range(4)])
        ).pvalue
        > 0.01
    )
    assert stats.chisquare(np.bincount(directions)).pvalue > 0.01


@pytest.mark.parametrize(
    ("dtype", "largest"), [("float32", 255.0), ("float32", 1.0), ("int32", 255.0), ("float16", 255.0)]
)
def test_other_number_types_are_changed_as_bytes_are(dtype: str, largest: float):
    images = np.random.default_rng(1).integers(0, 256, (40, 6, 6, 3))
    numbers = tf.constant(np.random.default_rng(2).random((40, 5), np.float32))
    whole = RandAugmentation(2, 9.0)(tf.constant(images.astype(np.uint8)), numbers).numpy()
    scaled = (images * largest / 255).astype(dtype)
    result = RandAugmentation(2, 9.0, largest=largest)(tf.constant(scaled), numbers)
    assert result.dtype == dtype
    assert np.array_equal(np.round(result.numpy().astype(float) * 255 / largest), whole)
