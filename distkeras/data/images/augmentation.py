"""The random changes that a config asks for, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from distkeras.config.transform_sections import (
    Change,
    ColorJitter,
    CutMix,
    Cutout,
    ImageSection,
    MixUp,
    RandAugment,
    Rotation,
    Translation,
    Zoom,
)
from distkeras.data.images.colour import RandomColor
from distkeras.data.images.erasing import RandomCutout
from distkeras.data.images.geometry import (
    AffineChange,
    AffineChanges,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomTranslation,
    RandomZoom,
)
from distkeras.data.images.mixing import Mixing, RandomCutMix, RandomMixUp
from distkeras.data.images.rand_augment import RandAugmentation
from distkeras.data.lazy_tensorflow import tf
from distkeras.errors import ConfigError


class ImageChange(Protocol):
    """A random change to a batch of images, each by its own numbers."""

    @property
    def num_draws(self) -> int:
        """Random numbers that each example needs."""
        ...

    def __call__(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Changes each image by its own draws.

        Args:
            images: Shape (batch, height, width, channels), with a static height and width, of any number type;
                the result has the same shape and type.
            draws: float32, shape (batch, num_draws), in [0, 1).
        """
        ...


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training images, one after the other.

    Attributes:
        changes: What is done, in this order.
    """

    changes: tuple[ImageChange | Mixing, ...] = ()

    @property
    def num_draws(self) -> int:
        """Random numbers that each example needs; 0: nothing changes."""
        return sum(change.num_draws for change in self.changes)

    @property
    def mixes_labels(self) -> bool:
        """Whether labels change, too: then `with_labels` is called, and labels become shares of classes."""
        return any(isinstance(change, Mixing) for change in self.changes)

    def __call__(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        """Changes each image by its own draws; for changes that leave labels as they are.

        Args:
            images: Shape (batch, height, width, channels); the result has the same shape and type.
            draws: float32, shape (batch, num_draws), in [0, 1).
        """
        return self.with_labels(images, None, draws)[0]

    def with_labels(self, images: tf.Tensor, labels: Any, draws: tf.Tensor) -> tuple[tf.Tensor, Any]:
        """Changes images and, where it mixes them, labels.

        Args:
            images: Shape (batch, height, width, channels); the result has the same shape and type.
            labels: See `Mixing.mix`; they are left alone where nothing is mixed.
            draws: float32, shape (batch, num_draws), in [0, 1).
        """
        used = 0
        for change in self.changes:
            numbers = draws[:, used : used + change.num_draws]
            used += change.num_draws
            if isinstance(change, Mixing):
                images, labels = change.mix(images, labels, numbers)
            else:
                images = change(images, numbers)
        return images, labels


def augmentation_from(section: ImageSection, *, num_classes: int | None = None) -> Augmentation:
    """Returns the random changes that a config asks for: crop, mirror, then `augment` in its order.

    Affine changes that follow each other are made in one pass.

    Args:
        section: What happens to images.
        num_classes: Of labels that are classes; None: labels are something else.

    Raises:
        ConfigError: If labels are to be mixed that are no classes.
    """
    axes = {"none": (), "vertical": (1,), "horizontal": (2,), "both": (1, 2)}[section.random_flip]
    changes: list[ImageChange | Mixing] = [RandomCrop(section.random_crop)] if section.random_crop else []
    changes += [RandomFlip(axis) for axis in axes]
    asked = [_change_from(change, num_classes, section.white) for change in section.augment]
    for change in asked:
        # Neighbours that are affine become one change.
        if isinstance(change, AffineChange):
            before = changes.pop().changes if changes and isinstance(changes[-1], AffineChanges) else ()
            changes.append(AffineChanges((*before, change)))
        else:
            changes.append(change)
    return Augmentation(tuple(changes))


def _change_from(change: Change, num_classes: int | None, largest: float) -> ImageChange | Mixing:
    share = change.probability
    match change:
        case Rotation():
            return RandomRotation(change.degrees, share)
        case Translation():
            return RandomTranslation(change.height, change.width, share)
        case Zoom():
            return RandomZoom(change.least, change.most, share)
        case ColorJitter():
            return RandomColor(
                change.brightness, change.contrast, change.saturation, change.hue, share, largest
            )
        case Cutout():
            return RandomCutout(change.size, share)
        case RandAugment():
            return RandAugmentation(change.num_ops, change.magnitude, share, largest)
        case MixUp() | CutMix():
            if num_classes is None:
                raise ConfigError(
                    "Images are mixed with their labels, and these labels are no classes.",
                    place="data.image.augment",
                    received=change.kind,
                    remedy="leave mixup and cutmix out, or train a classifier",
                )
            kind = RandomMixUp if isinstance(change, MixUp) else RandomCutMix
            return kind(change.alpha, num_classes, share)
