"""Cutout: a square of the image becomes black (DeVries and Taylor, 2017, https://arxiv.org/abs/1708.04552)."""

from __future__ import annotations

from dataclasses import dataclass

from distkeras.data.images.arithmetic import compiled, size_of
from distkeras.data.lazy_tensorflow import tf


@dataclass(frozen=True)
class RandomCutout:
    """Blackens a square whose centre is any pixel; what would lie outside of the image is cut off.

    Attributes:
        size: Side of the square, as a share of the image's shorter side; rounded to pixels.
        probability: Share of the examples that change.
    """

    size: float
    probability: float = 1.0

    num_draws = 3

    def __call__(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        height, width, _ = size_of(images)
        side = round(self.size * min(height, width))
        return cut_out(images, draws[:, 1:], tf.where(draws[:, 0] < self.probability, side, 0))


@compiled
def cut_out(images: tf.Tensor, draws: tf.Tensor, sides: tf.Tensor) -> tf.Tensor:
    """Blackens a square about a random pixel of each image.

    Args:
        images: Shape (batch, height, width, channels).
        draws: float32, shape (batch, 2), in [0, 1): the row and the column of the pixel.
        sides: int32, shape (batch,), in pixels; 0: nothing is cut out.
    """
    height, width, _ = size_of(images)
    inside = rectangles(draws, (height, width), sides, sides)
    return tf.where(inside, tf.zeros((), images.dtype), images)


def rectangles(draws: tf.Tensor, size: tuple[int, int], heights: tf.Tensor, widths: tf.Tensor) -> tf.Tensor:
    """Returns which pixels lie in a rectangle about a random pixel, bool, shape (batch, height, width, 1).

    Args:
        draws: float32, shape (batch, 2), in [0, 1): the row and the column of the pixel.
        size: Height and width of the images.
        heights: int32, shape (batch,), of the rectangles, before what lies outside of the image is cut off.
        widths: The same.
    """

    def covered(column: int, length: int, lengths: tf.Tensor) -> tf.Tensor:
        centres = tf.cast(tf.floor(draws[:, column] * length), tf.int32)
        starts = (centres - lengths // 2)[:, tf.newaxis]
        return (tf.range(length) >= starts) & (tf.range(length) < starts + lengths[:, tf.newaxis])

    rows, columns = covered(0, size[0], heights), covered(1, size[1], widths)
    return rows[:, :, tf.newaxis, tf.newaxis] & columns[:, tf.newaxis, :, tf.newaxis]
