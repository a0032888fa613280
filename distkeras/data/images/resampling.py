"""One affine resampler for all changes of where pixels are, and the matrices that it takes.

Matrices are float64, shape (batch, 3, 3). They map (x, y, 1) of a pixel of the result, in columns and rows from 0
at the first pixel's centre, to its place in the image. The centre of an image is
((width - 1) / 2, (height - 1) / 2), as in `keras.layers.RandomRotation`.
"""

from __future__ import annotations

import math

from distkeras.data.images.arithmetic import as_pixels, compiled, size_of
from distkeras.data.lazy_tensorflow import tf

# Places between pixels are rounded to one over this: blends of four uint8 pixels then fit into int32.
STEPS = 2048
# Matrices are rounded to one over this, so that places are exact in double precision.
MATRIX_PARTS = 2**24


def rotations(degrees: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Returns the matrices of turns about the centre, counter-clockwise, by float64 angles of shape (batch,)."""
    angles = degrees * (math.pi / 180)
    sine, cosine = tf.sin(angles), tf.cos(angles)
    return _about_centre(cosine, -sine, sine, cosine, height, width)


def translations(down: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Returns the matrices of moves by float64 distances in pixels, each of shape (batch,)."""
    one, zero = tf.ones_like(down), tf.zeros_like(down)
    return _matrices(one, zero, -right, zero, one, -down)


def zooms(factors: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Returns the matrices of zooms about the centre by float64 factors of shape (batch,)."""
    zero = tf.zeros_like(factors)
    return _about_centre(1 / factors, zero, zero, 1 / factors, height, width)


def shears(across: tf.Tensor, along: tf.Tensor) -> tf.Tensor:
    """Returns the matrices of shears about the upper left corner, as AutoAugment has them.

    Args:
        across: float64, shape (batch,): by how many pixels a row comes from further right than the row above it.
        along: The same for columns: from further down than the column to the left.
    """
    one = tf.ones_like(across)
    return _matrices(one, across, across / 2, along, one, along / 2)


@compiled
def resample(images: tf.Tensor, matrices: tf.Tensor) -> tf.Tensor:
    """Fetches each pixel from its place in its image, bilinearly; outside of the image all is 0.

    Args:
        images: Shape (batch, height, width, channels), with a static height and width.
        matrices: float64, shape (batch, 3, 3): see the module's docstring.

    Returns:
        The same shape and type. Places are rounded to 1/2048 of a pixel.
    """
    height, width, channels = size_of(images)
    rounded = tf.round(matrices * MATRIX_PARTS) / MATRIX_PARTS
    across = tf.range(width, dtype=tf.float64)
    down = tf.range(height, dtype=tf.float64)[:, tf.newaxis]

    def places(row: int, size: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Whole and fractional parts of one coordinate, counted from one pixel outside of the image."""
        a, b, c = (rounded[:, row, column, tf.newaxis, tf.newaxis] for column in range(3))
        place = tf.clip_by_value(a * across + b * down + c, -1, size) + 1
        steps = tf.cast(tf.floor(place * STEPS + 0.5), tf.int32)
        return steps // STEPS, (steps % STEPS)[..., tf.newaxis]

    columns, right = places(0, width)
    rows, below = places(1, height)
    # A border of zeros, where places are cut off, and one more pixel: the neighbour of the last.
    padded = tf.pad(images, [[0, 0], [1, 2], [1, 2], [0, 0]])
    flat = tf.reshape(padded, [-1, (height + 3) * (width + 3), channels])
    first = rows * (width + 3) + columns
    blend_type = tf.int32 if images.dtype == tf.uint8 else tf.float32
    right, below = tf.cast(right, blend_type), tf.cast(below, blend_type)

    def row_blend(start: int) -> tf.Tensor:
        left_pixels = tf.cast(tf.gather(flat, first + start, batch_dims=1), blend_type)
        right_pixels = tf.cast(tf.gather(flat, first + start + 1, batch_dims=1), blend_type)
        return left_pixels * (STEPS - right) + right_pixels * right

    blend = row_blend(0) * (STEPS - below) + row_blend(width + 3) * below
    if blend_type == tf.int32:
        pixels = tf.cast((blend + STEPS * STEPS // 2) // (STEPS * STEPS), tf.uint8)
    else:
        pixels = as_pixels(blend / (STEPS * STEPS), images.dtype)
    return tf.ensure_shape(pixels, images.shape)


def _about_centre(
    a: tf.Tensor, b: tf.Tensor, c: tf.Tensor, d: tf.Tensor, height: int, width: int
) -> tf.Tensor:
    """The matrices of ((a, b), (c, d)) that leave the centre where it is."""
    x, y = (width - 1) / 2, (height - 1) / 2
    return _matrices(a, b, x - a * x - b * y, c, d, y - c * x - d * y)


def _matrices(*entries: tf.Tensor) -> tf.Tensor:
    """Matrices of shape (batch, 3, 3) from the entries of their first two rows."""
    zero, one = tf.zeros_like(entries[0]), tf.ones_like(entries[0])
    return tf.reshape(tf.stack([*entries, zero, zero, one], axis=-1), [-1, 3, 3])
