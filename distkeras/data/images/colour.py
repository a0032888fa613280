"""Random changes of brightness, contrast, saturation and hue, with the meaning they have in `tf.image`.

Brightness and contrast act on each channel for itself. Saturation and hue act on a colour's place between grey and
pure, which they leave in the same two numbers: the largest channel and its distance to the smallest. They are
changed in one pass; without a hue the place on the colour circle is not needed, which halves the time.

What differs from `tf.image.adjust_*` one after the other: pixels are cut off at 0 and the largest value after
each change, and whole pixels are rounded after brightness, after contrast and after the other two together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from distkeras.data.images.arithmetic import as_pixels, between, compiled, exact, per_image, size_of
from distkeras.data.lazy_tensorflow import tf
from distkeras.errors import ConfigError

# By how many sixths of the colour circle red, green and blue lie apart: f(n) of the usual way back from HSV.
_SIXTHS = (5.0, 3.0, 1.0)


@dataclass(frozen=True)
class RandomColor:
    """Changes brightness, contrast, saturation and hue, in this order.

    Attributes:
        brightness: Largest change, as a share of the largest pixel value, in [0, 1]; 0: none.
        contrast: Factors are in [1 - contrast, 1 + contrast).
        saturation: Factors are in [1 - saturation, 1 + saturation); images of three channels only.
        hue: Largest turn of the colour circle, in [0, 0.5]; images of three channels only.
        probability: Share of the examples that change.
        largest: The pixel value of white.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    probability: float = 1.0
    largest: float = 255.0

    num_draws = 5

    def __call__(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        chosen = tf.cast(draws[:, 0] < self.probability, tf.float64)

        def amounts(column: int, limit: float) -> tf.Tensor:
            return chosen * between(draws[:, column], -limit, limit)

        if self.brightness:
            images = change_brightness(images, self.largest * amounts(1, self.brightness), self.largest)
        if self.contrast:
            images = change_contrast(images, 1 + amounts(2, self.contrast), self.largest)
        if self.hue:
            factors, turns = 1 + amounts(3, self.saturation), amounts(4, self.hue)
            images = change_saturation_and_hue(images, factors, turns, self.largest)
        elif self.saturation:
            images = change_saturation(images, 1 + amounts(3, self.saturation), self.largest)
        return images


@compiled
def change_brightness(images: tf.Tensor, deltas: tf.Tensor, largest: float) -> tf.Tensor:
    """Adds to all pixels.

    Args:
        images: Shape (batch, height, width, channels).
        deltas: float64, shape (batch,), in pixel values; for whole pixels they are rounded.
        largest: The pixel value of white; what lies above it, or below 0, is cut off.
    """
    if images.dtype.is_integer:
        brighter = tf.cast(images, tf.int32) + per_image(tf.cast(tf.round(deltas), tf.int32))
        return tf.cast(tf.clip_by_value(brighter, 0, int(largest)), images.dtype)
    brighter = tf.cast(images, tf.float32) + per_image(tf.cast(deltas, tf.float32))
    return tf.cast(tf.clip_by_value(brighter, 0, largest), images.dtype)


def change_contrast(images: tf.Tensor, factors: tf.Tensor, largest: float) -> tf.Tensor:
    """Spreads pixels about the mean of their channel in their image.

    Args:
        images: Shape (batch, height, width, channels), with a static height and width.
        factors: float64, shape (batch,); below 1 the contrast shrinks.
        largest: The pixel value of white; what lies above it, or below 0, is cut off.
    """
    # Compiled each for itself: in one, XLA would compute all that makes a pixel once for its mean and once more.
    return _spread(images, channel_means(images), factors, largest)


@compiled
def _spread(images: tf.Tensor, means: tf.Tensor, factors: tf.Tensor, largest: float) -> tf.Tensor:
    scales = exact(factors)
    offsets = exact(means * (1 - tf.cast(scales, tf.float64)[:, tf.newaxis]))
    changed = tf.cast(images, tf.float32) * per_image(scales) + offsets[:, tf.newaxis, tf.newaxis]
    return as_pixels(tf.clip_by_value(changed, 0, largest), images.dtype)


@compiled
def change_saturation(images: tf.Tensor, factors: tf.Tensor, largest: float) -> tf.Tensor:
    """Multiplies the saturation of the colour space HSV; arguments as of `change_saturation_and_hue`."""
    _require_colours(images)
    images = tf.clip_by_value(images, 0, tf.cast(largest, images.dtype))
    value = tf.cast(tf.reduce_max(images, axis=3, keepdims=True), tf.float32)
    chroma = value - tf.cast(tf.reduce_min(images, axis=3, keepdims=True), tf.float32)
    new_chroma = tf.minimum(per_image(exact(factors)) * chroma, value)
    below = value - tf.cast(images, tf.float32)
    return as_pixels(value - below * new_chroma / tf.where(chroma > 0, chroma, 1), images.dtype)


@compiled
def change_saturation_and_hue(
    images: tf.Tensor, factors: tf.Tensor, turns: tf.Tensor, largest: float
) -> tf.Tensor:
    """Multiplies the saturation of the colour space HSV and turns its hue.

    Args:
        images: Shape (batch, height, width, 3).
        factors: float64, shape (batch,), at least 0.
        turns: float64, shape (batch,), in [-0.5, 0.5], as a share of the circle.
        largest: The pixel value of white.

    Raises:
        ConfigError: If the images do not have three channels.
    """
    _require_colours(images)
    pixels = tf.clip_by_value(tf.cast(images, tf.float32), 0, largest)
    red, green, blue = tf.unstack(pixels, axis=-1)
    value = tf.maximum(tf.maximum(red, green), blue)
    # All is in units of the chroma, and so without a division that would not be exact.
    chroma = value - tf.minimum(tf.minimum(red, green), blue)
    hue = tf.where(
        value == red,
        green - blue,
        tf.where(value == green, 2 * chroma + blue - red, 4 * chroma + red - green),
    )
    hue += 6 * chroma * exact(turns)[:, tf.newaxis, tf.newaxis]
    new_chroma = tf.minimum(exact(factors)[:, tf.newaxis, tf.newaxis] * chroma, value)
    hue, chroma, new_chroma, value = (part[..., tf.newaxis] for part in (hue, chroma, new_chroma, value))
    place = hue + chroma * tf.constant(_SIXTHS)
    circle = 6 * chroma
    place = tf.where(place < 0, place + circle, place)
    place = tf.where(place >= circle, place - circle, place)
    place = tf.where(place >= circle, place - circle, place)
    # How far each channel lies below the largest one: nothing to all of the chroma.
    below = tf.clip_by_value(tf.minimum(place, 4 * chroma - place), 0, chroma)
    safe_chroma = tf.where(chroma > 0, chroma, 1)
    return as_pixels(value - below * new_chroma / safe_chroma, images.dtype)


@compiled
def channel_means(pixels: tf.Tensor) -> tf.Tensor:
    """Returns the mean of each channel of each image, float64, shape (batch, channels).

    Args:
        pixels: Shape (batch, height, width, channels), with a static height and width. Sums of whole pixels up to
            255 are exact.
    """
    height, width, channels = size_of(pixels)
    narrow, wide = (tf.int32, tf.int32) if pixels.dtype.is_integer else (tf.float32, tf.float64)
    # Some rows side by side: XLA adds up long rows with vector instructions, but not the three channels of a
    # pixel, which takes ten times as long.
    abreast = math.gcd(height, 16)
    rows = tf.reshape(tf.cast(pixels, narrow), [-1, height // abreast, abreast * width * channels])
    sums = tf.reshape(tf.cast(tf.reduce_sum(rows, axis=1), wide), [-1, abreast * width, channels])
    totals = [tf.reduce_sum(sums[:, :, channel], axis=1) for channel in range(channels)]
    return tf.cast(tf.stack(totals, axis=1), tf.float64) / (height * width)


def _require_colours(images: tf.Tensor) -> None:
    if images.shape[3] != 3:
        raise ConfigError(
            "Saturation and hue are of colour images, with three channels.",
            place="data.image.augment",
            received=f"images with {images.shape[3]} channel(s)",
            remedy="set saturation and hue of color_jitter to 0, or data.source.channels to 3",
        )
