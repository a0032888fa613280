"""What happens to a batch of images between the file and the model.

Everything works on whole batches and on any number type: pixels stay uint8 until the model casts them, a
quarter of the memory traffic. Random choices arrive as numbers made from (seed, epoch, example id), so an
example is changed in the same way at any world size and after a resume.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distkeras.config.transform_sections import ImageSection
from distkeras.data.lazy_tensorflow import tf

Flip = Literal["none", "horizontal", "vertical", "both"]


def resize(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Resizes one image or a batch, bilinearly; integer pixels are rounded and keep their type.

    Args:
        images: Shape (height, width, channels) or (batch, height, width, channels).
        size: New height and width in pixels.
    """
    if tuple(images.shape[-3:-1]) == size:
        return images
    resized = tf.image.resize(images, size, method="bilinear")
    if images.dtype.is_integer:
        return tf.cast(tf.round(resized), images.dtype)
    return tf.cast(resized, images.dtype)


def crop_after_padding(images: tf.Tensor, padding: int, draws: tf.Tensor) -> tf.Tensor:
    """Pads each side with zeros, then cuts each image back to its size at its own place.

    Args:
        images: Shape (batch, height, width, channels).
        padding: Pixels added on each side.
        draws: float32, shape (batch, 2), in [0, 1): where the crop starts, vertically and horizontally.
    """
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    starts = tf.cast(draws * (2 * padding + 1), tf.int32)
    padded = tf.pad(images, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
    rows = starts[:, :1] + tf.range(height)
    columns = starts[:, 1:] + tf.range(width)
    cropped = tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
    return tf.ensure_shape(cropped, images.shape)


def flip(images: tf.Tensor, axis: int, draws: tf.Tensor) -> tf.Tensor:
    """Mirrors the images whose draw is below one half.

    Args:
        images: Shape (batch, height, width, channels).
        axis: 1 mirrors top and bottom, 2 left and right.
        draws: float32, shape (batch,), in [0, 1).
    """
    mirrored = draws < 0.5
    return tf.where(mirrored[:, tf.newaxis, tf.newaxis, tf.newaxis], tf.reverse(images, [axis]), images)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random changes to training images, in this order: crop, vertical flip, horizontal flip.

    Attributes:
        padding: Pixels of padding of the random crop; 0: no crop.
        flips: Axes along which images are mirrored with probability one half.
    """

    padding: int = 0
    flips: Flip = "none"

    @property
    def num_draws(self) -> int:
        """Random numbers that each example needs; 0: nothing changes."""
        return 2 * (self.padding > 0) + len(self._flip_axes)

    @property
    def _flip_axes(self) -> tuple[int, ...]:
        return {"none": (), "vertical": (1,), "horizontal": (2,), "both": (1, 2)}[self.flips]

    def __call__(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Changes each image by its own draws.

        Args:
            images: Shape (batch, height, width, channels); the result has the same shape and type.
            draws: float32, shape (batch, num_draws), in [0, 1).
        """
        used = 0
        if self.padding:
            images = crop_after_padding(images, self.padding, draws[:, :2])
            used = 2
        for column, axis in enumerate(self._flip_axes, start=used):
            images = flip(images, axis, draws[:, column])
        return images


def augmentation_from(section: ImageSection) -> Augmentation:
    """Returns the random changes that a config asks for."""
    return Augmentation(padding=section.random_crop, flips=section.random_flip)
