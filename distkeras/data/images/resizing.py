"""Resizing, and which part of an image becomes the whole of it."""

from __future__ import annotations

import math

from distkeras.config.transform_sections import ResizedCropSection
from distkeras.data.images.arithmetic import as_pixels, between, compiled
from distkeras.data.lazy_tensorflow import tf

# As in torchvision's RandomResizedCrop; with its default section all ten fail for one of some thousand images.
NUM_ATTEMPTS = 10
# An area and a ratio for each attempt, and a place.
NUM_CROP_DRAWS = 2 * NUM_ATTEMPTS + 2


def resize(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Resizes one image or a batch, bilinearly; integer pixels are rounded and keep their type.

    Args:
        images: Shape (height, width, channels) or (batch, height, width, channels).
        size: New height and width in pixels.
    """
    if tuple(images.shape[-3:-1]) == size:
        return images
    # TensorFlow resizes float32 with vector instructions, and uint8 without: the cast saves 40 % of the time
    # and changes no bit.
    resized = tf.image.resize(tf.cast(images, tf.float32), size, method="bilinear")
    return as_pixels(resized, images.dtype)


def crop_boxes(
    heights: tf.Tensor, widths: tf.Tensor, draws: tf.Tensor, section: ResizedCropSection
) -> tf.Tensor:
    """Returns a random part of each image, as in Inception's training (Szegedy et al., 2014).

    An attempt draws an area, uniformly, and a ratio of width to height, whose logarithm is uniform. The first of
    ten whose part fits into the image counts, at a place that is uniform. That is what torchvision does; an
    accepted part is distributed as if there were no limit to the attempts. Where all fail, the part is the
    largest in the middle whose ratio is allowed.

    Args:
        heights: Of the images in pixels, any integer type, shape (batch,) or a scalar.
        widths: The same.
        draws: float32, shape (batch, NUM_CROP_DRAWS) or (NUM_CROP_DRAWS,), in [0, 1).
        section: Smallest area and ratio.

    Returns:
        int32, shape (batch, 4) or (4,): top, left, height and width of the parts.
    """
    size = tf.cast(tf.stack([heights, widths], axis=-1), tf.float64)
    height, width = size[..., :1], size[..., 1:]
    for_areas, for_ratios, for_places = tf.split(draws, [NUM_ATTEMPTS, NUM_ATTEMPTS, 2], axis=-1)
    areas = height * width * between(for_areas, section.least_area, 1)
    limit = -math.log(section.least_ratio)
    ratios = tf.exp(between(for_ratios, -limit, limit))
    parts = tf.round(tf.sqrt(tf.stack([areas / ratios, areas * ratios], axis=-1)))
    fits = tf.reduce_all((parts >= 1) & (parts <= size[..., tf.newaxis, :]), axis=-1)
    first = tf.argmax(tf.cast(fits, tf.int32), axis=-1)
    part = tf.gather(parts, first, axis=-2, batch_dims=first.shape.rank)
    room = size - part
    start = tf.floor(tf.cast(for_places, tf.float64) * (room + 1))
    middle = tf.concat(
        [
            tf.minimum(height, tf.maximum(tf.round(width / section.least_ratio), 1)),
            tf.minimum(width, tf.maximum(tf.round(height / section.least_ratio), 1)),
        ],
        axis=-1,
    )
    any_fits = tf.reduce_any(fits, axis=-1, keepdims=True)
    start = tf.where(any_fits, start, tf.floor((size - middle) / 2))
    return tf.cast(tf.concat([start, tf.where(any_fits, part, middle)], axis=-1), tf.int32)


@compiled
def crop_and_resize(images: tf.Tensor, boxes: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Cuts a part out of each image of a batch and resizes it, bilinearly, as `resize` would the part.

    Args:
        images: Shape (batch, height, width, channels).
        boxes: int32, shape (batch, 4): top, left, height and width of the parts.
        size: New height and width in pixels.
    """

    def places(axis: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The two neighbours of each new row or column, and how near the second one is."""
        start, length = boxes[:, axis, tf.newaxis], boxes[:, 2 + axis, tf.newaxis]
        new = tf.range(size[axis], dtype=tf.float32)
        place = (new + 0.5) * (tf.cast(length, tf.float32) / size[axis]) - 0.5
        place = tf.clip_by_value(place, 0, tf.cast(length - 1, tf.float32))
        first = tf.cast(place, tf.int32)
        return start + first, start + tf.minimum(first + 1, length - 1), place - tf.floor(place)

    top, bottom, below = places(0)
    left, right, beside = places(1)
    below, beside = below[:, :, tf.newaxis, tf.newaxis], beside[:, tf.newaxis, :, tf.newaxis]

    def row_blend(rows: tf.Tensor) -> tf.Tensor:
        pixels = tf.gather(images, rows, axis=1, batch_dims=1)
        first = tf.cast(tf.gather(pixels, left, axis=2, batch_dims=1), tf.float32)
        second = tf.cast(tf.gather(pixels, right, axis=2, batch_dims=1), tf.float32)
        return first + (second - first) * beside

    upper = row_blend(top)
    resized = upper + (row_blend(bottom) - upper) * below
    return tf.ensure_shape(as_pixels(resized, images.dtype), (None, *size, images.shape[3]))
