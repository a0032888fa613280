"""Random changes to training examples: a random part of an image while it is decoded, the others batch by batch."""

from __future__ import annotations

from typing import Any

from distkeras.config.transform_sections import ImageSection
from distkeras.data.lazy_tensorflow import tf
from distkeras.data.preprocessing.base import Preprocessing
from distkeras.data.sources.base import Source
from distkeras.data.transforms import augmentation_from


class RandomChanges:
    """What happens to training examples and to no others.

    Args:
        image: Random changes to images; None: none.
        layers: Keras layers, some of them perhaps random; None: none.

    Attributes:
        num_draws: Random numbers that each example needs.
    """

    def __init__(self, image: ImageSection | None = None, layers: Preprocessing | None = None) -> None:
        section = image or ImageSection()
        self._augmentation = augmentation_from(section)
        self._random_layers = layers if layers is not None and layers.is_random else None
        self.num_draws = self._augmentation.num_draws

    @property
    def need_tensorflow(self) -> bool:
        """Whether any change is made; all are TensorFlow's operations."""
        return self.num_draws > 0 or self._random_layers is not None

    def read(self, source: Source, example_id: tf.Tensor, *draws: tf.Tensor) -> tuple[Any, ...]:
        """Reads one example; of an encoded image only the part that is wanted is decoded.

        Args:
            source: A source with granularity "example".
            example_id: int64 scalar.
            draws: float32, shape (num_draws,), in [0, 1); left out where there are none.
        """
        return source.read(example_id)

    def apply(self, source: Source, example: tuple[Any, ...], *draws: tf.Tensor) -> tuple[Any, ...]:
        """Changes a batch.

        Args:
            source: Where it was read from.
            example: (features, label[, sample_weight]), each with a leading batch dimension.
            draws: float32, shape (batch, num_draws), in [0, 1); left out where there are none.
        """
        features, label, *rest = example
        if draws:
            features = self._augmentation(features, *draws)
        if self._random_layers is not None:
            features = self._random_layers.random(features)
        return features, label, *rest
