"""Random changes to training examples: a random part of an image while it is decoded, the others batch by batch."""

from __future__ import annotations

from typing import Any

from distkeras.config.transform_sections import ImageSection, ResizedCropSection
from distkeras.data.images.augmentation import Augmentation, augmentation_from
from distkeras.data.images.decoding import decode_full, decode_part
from distkeras.data.images.resizing import NUM_CROP_DRAWS, crop_and_resize, crop_boxes, resize
from distkeras.data.lazy_tensorflow import tf
from distkeras.data.preprocessing.base import Preprocessing
from distkeras.data.sources.base import Source


class RandomChanges:
    """What happens to training examples and to no others.

    Args:
        image: Random changes to images; None: none.
        num_classes: Of labels that are classes; None: labels are something else.
        layers: Keras layers, some of them perhaps random; None: none.

    Attributes:
        num_draws: Random numbers that each example needs.
        on_device: Whether images are changed by the device that trains, in its step (`change`), rather than with the
            input (`apply`).
    """

    def __init__(
        self,
        image: ImageSection | None = None,
        *,
        num_classes: int | None = None,
        layers: Preprocessing | None = None,
    ) -> None:
        section = image or ImageSection()
        self._section = section
        self._augmentation: Augmentation = augmentation_from(section, num_classes=num_classes)
        self._random_layers = layers if layers is not None and layers.is_random else None
        self._num_crop_draws = NUM_CROP_DRAWS if section.random_resized_crop else 0
        self.num_draws = self._num_crop_draws + self._augmentation.num_draws
        self.on_device = section.augment_on == "device" and self._augmentation.num_draws > 0

    @property
    def need_tensorflow(self) -> bool:
        """Whether any change is made; all are TensorFlow's operations."""
        return self.num_draws > 0 or self._random_layers is not None

    def boxes(self, source: Source, ids: tf.Tensor, draws: tf.Tensor) -> tf.Tensor | None:
        """Chooses which part of each image is wanted, where that can be said before it is read.

        For many images at once this costs nothing; for one alone, a sixth of its decoding.

        Args:
            source: Where the images will be read from.
            ids: int64, shape (n,).
            draws: float32, shape (n, num_draws), in [0, 1).

        Returns:
            int32, shape (n, 4), see `crop_boxes`; None: `read` chooses, or no part is wanted.
        """
        crop, size = self._section.random_resized_crop, self._section.size
        if crop is None or size is None or source.jpeg_sizes is None:
            return None
        # Eager and on the CPU, so that pipelines capture one tensor rather than embed a copy in each graph.
        with tf.init_scope(), tf.device("CPU:0"):
            sizes = tf.constant(source.jpeg_sizes)
        heights, widths = tf.unstack(tf.gather(sizes, ids), axis=1)
        return crop_boxes(heights, widths, draws[:, : self._num_crop_draws], crop)

    def read(
        self,
        source: Source,
        example_id: tf.Tensor,
        draws: tf.Tensor | None = None,
        box: tf.Tensor | None = None,
    ) -> tuple[Any, ...]:
        """Reads one example; of an encoded image only the part that is wanted is decoded.

        Args:
            source: A source with granularity "example".
            example_id: int64 scalar.
            draws: float32, shape (num_draws,), in [0, 1); left out where there are none.
            box: What `boxes` chose, int32, shape (4,); left out where it chose nothing.
        """
        crop, size = self._section.random_resized_crop, self._section.size
        if crop is None or size is None or draws is None or not source.has_encoded_images:
            return source.read(example_id)
        content, *rest = source.read_encoded(example_id)
        shape: Any = source.feature_shape
        if box is None or source.jpeg_sizes is None:
            part = _random_part(content, draws[: self._num_crop_draws], crop, size, shape[2])
        else:
            height, width = source.jpeg_sizes.max(axis=0).tolist()
            part = decode_part(content, box, True, size, shape[2], largest=(height, width))
        return resize(part, size), *rest

    def apply(self, source: Source, example: tuple[Any, ...], *draws: tf.Tensor) -> tuple[Any, ...]:
        """Changes a batch.

        Args:
            source: Where it was read from.
            example: (features, label[, sample_weight]), each with a leading batch dimension.
            draws: float32, shape (batch, num_draws), in [0, 1); left out where there are none.

        Returns:
            The same, and after it what `change` needs where the device makes the changes.
        """
        features, *rest = example
        crop, size = self._section.random_resized_crop, self._section.size
        if crop is not None and size is not None and not source.has_encoded_images:
            height, width = features.shape[1:3]
            boxes = crop_boxes(
                tf.fill(tf.shape(features)[:1], height),
                tf.fill(tf.shape(features)[:1], width),
                draws[0][:, : self._num_crop_draws],
                crop,
            )
            features = crop_and_resize(features, boxes, size)
        if self.on_device:
            return features, *rest, draws[0][:, self._num_crop_draws :]
        if self._augmentation.num_draws:
            features, *rest = self._changed((features, *rest), draws[0][:, self._num_crop_draws :])
        if self._random_layers is not None:
            features = self._random_layers.random(features)
        return features, *rest

    def change(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        """Returns a batch of `apply` as the model gets it: what the device that trains has to do of it."""
        if not self.on_device:
            return batch
        *example, draws = batch
        return self._changed(tuple(example), draws)

    def _changed(self, example: tuple[Any, ...], draws: tf.Tensor) -> tuple[Any, ...]:
        features, label, *rest = example
        if self._augmentation.mixes_labels:
            return *self._augmentation.with_labels(features, label, draws), *rest
        return self._augmentation(features, draws), label, *rest


def _random_part(
    content: tf.Tensor,
    draws: tf.Tensor,
    section: ResizedCropSection,
    size: tuple[int, int],
    channels: int,
) -> tf.Tensor:
    """Decodes a random part of an image; uint8, shape (height, width, channels)."""

    def of_jpeg() -> tf.Tensor:
        shape = tf.io.extract_jpeg_shape(content)
        box = crop_boxes(shape[0], shape[1], draws, section)
        return decode_part(content, box, True, size, channels)

    def of_other() -> tf.Tensor:
        image = decode_full(content, channels)
        shape = tf.shape(image)
        box = crop_boxes(shape[0], shape[1], draws, section)
        return tf.slice(image, [box[0], box[1], 0], [box[2], box[3], channels])

    return tf.ensure_shape(tf.cond(tf.io.is_jpeg(content), of_jpeg, of_other), (None, None, channels))
