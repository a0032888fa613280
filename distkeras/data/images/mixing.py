"""Changes that mix neighbours in the batch, with their labels.

Partners are the examples at positions 2k and 2k + 1 of a replica's batch, and chance is in the draws of the one
at 2k. Where each replica's batch is even, partners and results therefore do not depend on how many replicas there
are. The last example of an odd batch stays as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from distkeras.data.images.arithmetic import as_pixels, compiled, exact, per_image, size_of
from distkeras.data.images.erasing import rectangles
from distkeras.data.lazy_tensorflow import tf

# Intervals of the table of quantiles, and points of the integral that it is made from.
NUM_QUANTILES = 4096
NUM_POINTS = 2**16


class Mixing(ABC):
    """A change of images and their labels together.

    Attributes:
        num_classes: Length of the labels that come out.
        num_draws: Random numbers that each example needs.
    """

    num_classes: int
    num_draws: int

    def mix(self, images: tf.Tensor, labels: tf.Tensor, draws: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mixes each image with its neighbour's, and its label in the same shares.

        Args:
            images: Shape (batch, height, width, channels).
            labels: Classes, any integer type, shape (batch,); or their shares, float32, shape (batch, num_classes).
            draws: float32, shape (batch, num_draws), in [0, 1).

        Returns:
            Images of the same shape and type, and labels, float32, shape (batch, num_classes).
        """
        labels = tf.convert_to_tensor(labels)
        if labels.dtype.is_integer:
            labels = tf.one_hot(labels, self.num_classes)
        position = tf.range(tf.shape(images)[0])
        # The last of an odd batch is its own partner.
        partner = tf.minimum(tf.bitwise.bitwise_xor(position, 1), tf.size(position) - 1)
        images, shares = self.mix_images(images, partner, tf.gather(draws, position - position % 2))
        others = tf.gather(labels, partner)
        return images, others + shares[:, tf.newaxis] * (labels - others)

    @abstractmethod
    def mix_images(
        self, images: tf.Tensor, partner: tf.Tensor, draws: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Mixes images only.

        Args:
            images: Shape (batch, height, width, channels).
            partner: int32, shape (batch,): the position of each image's partner.
            draws: float32, shape (batch, num_draws), equal for partners.

        Returns:
            Images of the same shape and type, and how much is left of each image, float32, shape (batch,).
        """


@dataclass(frozen=True)
class RandomMixUp(Mixing):
    """MixUp (Zhang et al., 2017, https://arxiv.org/abs/1710.09412).

    Attributes:
        alpha: An image keeps a share drawn from Beta(alpha, alpha); its partner gives the rest.
        num_classes: Length of the labels that come out.
        probability: Share of the pairs that mix.
    """

    alpha: float
    num_classes: int
    probability: float = 1.0

    num_draws = 2

    def mix_images(
        self, images: tf.Tensor, partner: tf.Tensor, draws: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        shares = exact(beta(self.alpha, draws[:, 1]))
        shares = tf.where(draws[:, 0] < self.probability, shares, 1)
        return add_shares(images, partner, shares), shares


@dataclass(frozen=True)
class RandomCutMix(Mixing):
    """CutMix (Yun et al., 2019, https://arxiv.org/abs/1905.04899): partners swap the same rectangle.

    Attributes:
        alpha: The share of an image that is left, before the rectangle is cut off at the border, is drawn from
            Beta(alpha, alpha).
        num_classes: Length of the labels that come out.
        probability: Share of the pairs that mix.
    """

    alpha: float
    num_classes: int
    probability: float = 1.0

    num_draws = 4

    def mix_images(
        self, images: tf.Tensor, partner: tf.Tensor, draws: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        height, width, _ = size_of(images)
        sides = tf.sqrt(1 - beta(self.alpha, draws[:, 1]))
        sides = tf.where(draws[:, 0] < self.probability, sides, 0)
        heights, widths = (tf.cast(tf.floor(sides * length), tf.int32) for length in (height, width))
        return swap_rectangles(images, partner, draws[:, 2:], heights, widths)


@compiled
def add_shares(images: tf.Tensor, partner: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Adds a share of each image to the rest of its partner's.

    Args:
        images: Shape (batch, height, width, channels).
        partner: int32, shape (batch,): the position of each image's partner.
        shares: float32, shape (batch,), in [0, 1]: what an image keeps of itself.
    """
    others = tf.cast(tf.gather(images, partner), tf.float32)
    mixed = tf.cast(images, tf.float32) * per_image(shares) + others * per_image(1 - shares)
    return as_pixels(mixed, images.dtype)


@compiled
def swap_rectangles(
    images: tf.Tensor, partner: tf.Tensor, draws: tf.Tensor, heights: tf.Tensor, widths: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Puts a rectangle of each image's partner into it, at the same place.

    Args:
        images: Shape (batch, height, width, channels).
        partner: int32, shape (batch,): the position of each image's partner.
        draws: float32, shape (batch, 2), in [0, 1): the rectangle's centre.
        heights: int32, shape (batch,), of the rectangles, before what lies outside of the image is cut off.
        widths: The same.

    Returns:
        Images of the same shape and type, and how much is left of each image, float32, shape (batch,).
    """
    height, width, _ = size_of(images)
    swapped = rectangles(draws, (height, width), heights, widths)
    # Labels follow the pixels that were swapped, not the share that was drawn.
    num_swapped = tf.reduce_sum(tf.cast(swapped, tf.int32), axis=[1, 2, 3])
    shares = tf.cast(1 - num_swapped / (height * width), tf.float32)
    return tf.where(swapped, tf.gather(images, partner), images), shares


def beta(alpha: float, draws: tf.Tensor) -> tf.Tensor:
    """Returns float64 numbers from Beta(alpha, alpha), from uniform draws in [0, 1)."""
    table = tf.constant(beta_quantiles(alpha))
    place = tf.cast(draws, tf.float64) * NUM_QUANTILES
    index = tf.cast(place, tf.int32)
    low, high = tf.gather(table, index), tf.gather(table, index + 1)
    return low + (high - low) * (place - tf.floor(place))


@cache
def beta_quantiles(alpha: float) -> npt.NDArray[np.float64]:
    """Returns the quantiles of Beta(alpha, alpha) at 0, 1/4096, ..., 1: float64, shape (4097,).

    Half of the density is integrated by the trapezoid rule; the other half is its mirror image. Below
    `alpha` = 1 the density x**(alpha - 1) (1 - x)**(alpha - 1) has no end at 0, so the integral runs over
    t = x**alpha, which takes it away.
    """
    power = min(alpha, 1.0)
    places = np.linspace(0, 0.5**power, NUM_POINTS + 1)
    x = places ** (1 / power)
    # Relative to the middle, so that no power overflows.
    density = (4 * x * (1 - x)) ** (alpha - power) * (2 * (1 - x)) ** (power - 1)
    below = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    lower = np.interp(np.linspace(0, 1, NUM_QUANTILES // 2 + 1), below / below[-1], x)
    return np.concatenate([lower, 1 - lower[-2::-1]])
