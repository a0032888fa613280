"""Sources as the model sees them: images of one size, features as they were learnt to be, labels that can be mixed."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np

from distkeras.data.images.resizing import resize
from distkeras.data.lazy_tensorflow import tf
from distkeras.data.preprocessing.base import Preprocessing
from distkeras.data.sources.base import Shape, Source, Wrapped


class Resized(Wrapped):
    """Images of one size.

    Args:
        source: Images, of any size.
        size: Height and width in pixels.
    """

    def __init__(self, source: Source, size: tuple[int, int]) -> None:
        super().__init__(source)
        self.needs_tensorflow = True
        shape: Any = source.feature_shape
        self.feature_shape = (*size, shape[2])
        self.size = size

    def read(self, ids: tf.Tensor) -> tuple[Any, ...]:
        images, *rest = self.wrapped.read(ids)
        return resize(images, self.size), *rest


class Preprocessed(Wrapped):
    """Features as a preprocessing makes them.

    Args:
        source: What it was learnt from, or a source like it.
        preprocessing: What is done to features, batch by batch.
    """

    def __init__(self, source: Source, preprocessing: Preprocessing) -> None:
        super().__init__(source)
        self.needs_tensorflow = True
        self.feature_shape = preprocessing.feature_shape
        self.feature_dtype = preprocessing.feature_dtype
        self.feature_names = preprocessing.feature_names
        self._preprocessing = preprocessing

    def finish(self, features: Any) -> Any:
        return self._preprocessing(self.wrapped.finish(features))


class OneHot(Wrapped):
    """Class indices as one number for each class, so that they can be mixed; `labels` still gives indices.

    Args:
        source: A source whose labels are class indices.
        num_classes: How many there are.
    """

    def __init__(self, source: Source, num_classes: int) -> None:
        super().__init__(source)
        self._num_classes = num_classes

    def read(self, ids: tf.Tensor) -> tuple[Any, ...]:
        return self._encoded(self.wrapped.read(ids))

    def read_encoded(self, ids: tf.Tensor) -> tuple[Any, ...]:
        return self._encoded(self.wrapped.read_encoded(ids))

    def read_arrays(self, ids: np.ndarray) -> tuple[Any, ...]:
        features, label, *rest = self.wrapped.read_arrays(ids)
        return features, np.eye(self._num_classes, dtype=np.float32)[label], *rest

    def _encoded(self, example: tuple[Any, ...]) -> tuple[Any, ...]:
        features, label, *rest = example
        return features, tf.one_hot(label, self._num_classes), *rest


def is_image(shape: Any) -> TypeGuard[Shape]:
    """Whether a shape is an image's: (height, width, channels)."""
    return isinstance(shape, tuple) and len(shape) == 3 and not any(isinstance(size, tuple) for size in shape)
