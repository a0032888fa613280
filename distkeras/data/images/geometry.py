"""Random changes of where pixels are: crop, mirror, rotation, translation and zoom."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from distkeras.data.images.arithmetic import between, compiled, size_of
from distkeras.data.images.resampling import resample, rotations, translations, zooms
from distkeras.data.lazy_tensorflow import tf


@compiled
def crop_after_padding(images: tf.Tensor, padding: int, draws: tf.Tensor) -> tf.Tensor:
    """Pads each side with zeros, then cuts each image back to its size at its own place.

    Args:
        images: Shape (batch, height, width, channels).
        padding: Pixels added on each side.
        draws: float32, shape (batch, 2), in [0, 1): where the crop starts, vertically and horizontally.
    """
    height, width, _ = size_of(images)
    starts = tf.cast(draws * (2 * padding + 1), tf.int32)
    padded = tf.pad(images, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
    rows = starts[:, :1] + tf.range(height)
    columns = starts[:, 1:] + tf.range(width)
    cropped = tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)
    return tf.ensure_shape(cropped, images.shape)


@compiled
def flip(images: tf.Tensor, axis: int, draws: tf.Tensor) -> tf.Tensor:
    """Mirrors the images whose draw is below one half.

    Args:
        images: Shape (batch, height, width, channels).
        axis: 1 mirrors top and bottom, 2 left and right.
        draws: float32, shape (batch,), in [0, 1).
    """
    mirrored = draws < 0.5
    return tf.where(mirrored[:, tf.newaxis, tf.newaxis, tf.newaxis], tf.reverse(images, [axis]), images)


@dataclass(frozen=True)
class RandomCrop:
    """`crop_after_padding` as a change."""

    padding: int

    num_draws = 2

    def __call__(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        return crop_after_padding(images, self.padding, draws)


@dataclass(frozen=True)
class RandomFlip:
    """`flip` as a change."""

    axis: int

    num_draws = 1

    def __call__(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        return flip(images, self.axis, draws[:, 0])


class AffineChange(ABC):
    """A change that says by a matrix where each pixel comes from; `resampling` says what the matrices mean.

    Attributes:
        num_draws: Random numbers that each example needs.
    """

    num_draws: int

    @abstractmethod
    def matrices(self, draws: tf.Tensor, height: int, width: int) -> tf.Tensor:
        """Returns each image's matrix: the identity where chance leaves an image as it is."""

    def __call__(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        return change_place((self,), images, draws)


@dataclass(frozen=True)
class RandomRotation(AffineChange):
    """Turns about the centre by an angle in [-degrees, degrees); positive angles turn counter-clockwise."""

    degrees: float
    probability: float = 1.0

    num_draws = 2

    def matrices(self, draws: tf.Tensor, height: int, width: int) -> tf.Tensor:
        angles = between(draws[:, 1], -self.degrees, self.degrees)
        return rotations(_where_chosen(draws, self.probability, angles, 0.0), height, width)


@dataclass(frozen=True)
class RandomTranslation(AffineChange):
    """Moves by shares of the height in [-height, height) and of the width in [-width, width)."""

    height: float
    width: float
    probability: float = 1.0

    num_draws = 3

    def matrices(self, draws: tf.Tensor, height: int, width: int) -> tf.Tensor:
        down = between(draws[:, 1], -self.height * height, self.height * height)
        right = between(draws[:, 2], -self.width * width, self.width * width)
        down = _where_chosen(draws, self.probability, down, 0.0)
        return translations(down, _where_chosen(draws, self.probability, right, 0.0))


@dataclass(frozen=True)
class RandomZoom(AffineChange):
    """Zooms about the centre by a factor in [least, most); below 1 the image shrinks."""

    least: float
    most: float
    probability: float = 1.0

    num_draws = 2

    def matrices(self, draws: tf.Tensor, height: int, width: int) -> tf.Tensor:
        factors = between(draws[:, 1], self.least, self.most)
        return zooms(_where_chosen(draws, self.probability, factors, 1.0), height, width)


@dataclass(frozen=True)
class AffineChanges:
    """Affine changes that follow each other, made at once: one pass over the pixels, and one blur.

    What one change moves out of the image and a later one back in is therefore not lost.
    """

    changes: tuple[AffineChange, ...]

    @property
    def num_draws(self) -> int:
        return sum(change.num_draws for change in self.changes)

    def __call__(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        return change_place(self.changes, images, draws)


def change_place(changes: tuple[AffineChange, ...], images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Makes affine changes one after the other, in one pass over the pixels.

    Args:
        changes: At least one.
        images: Shape (batch, height, width, channels).
        draws: float32, shape (batch, draws of all changes), in [0, 1).
    """
    height, width, _ = size_of(images)
    places = tf.eye(3, dtype=tf.float64)
    for change in changes:
        places = places @ change.matrices(draws[:, : change.num_draws], height, width)
        draws = draws[:, change.num_draws :]
    return resample(images, places)


def _where_chosen(draws: tf.Tensor, probability: float, values: tf.Tensor, otherwise: float) -> tf.Tensor:
    """Leaves the values of the examples whose first draw is below the probability."""
    return tf.where(draws[:, 0] < probability, values, tf.cast(otherwise, tf.float64))
