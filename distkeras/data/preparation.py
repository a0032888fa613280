"""What is done to every example between its source and the model, learnt once from the training part."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from distkeras.config.sections import InputSection
from distkeras.config.transform_sections import ColorJitter, CutMix, ImageSection, MixUp, RandAugment
from distkeras.data.changes import RandomChanges
from distkeras.data.prepared import OneHot, Preprocessed, Resized, is_image
from distkeras.data.preprocessing import KINDS, Kind
from distkeras.data.preprocessing.base import Preprocessing
from distkeras.data.sources.base import Source, Subset
from distkeras.errors import ConfigError, DataError

State = Mapping[str, Any]

# Examples that are looked at for what pixel values mean.
NUM_SAMPLES = 8


@dataclass(frozen=True)
class Preparation:
    """What turns a source's examples into the model's, but for random changes.

    Attributes:
        input: What the config says.
        preprocessings: What was learnt, by its name in the config, in the order of application.
        source: The training part as it was before.
    """

    input: InputSection
    preprocessings: Mapping[str, Preprocessing]
    source: Source

    def apply(self, source: Source) -> Source:
        """Returns a source as the model sees it.

        Raises:
            ConfigError: If images are to be changed and the examples are no images, or differ in size.
            DataError: If the examples are not what was learnt from.
        """
        prepared = _sized(source, self.input.image)
        for preprocessing in self.preprocessings.values():
            preprocessing.check(prepared)
            prepared = Preprocessed(prepared, preprocessing)
        return prepared

    def apply_to_training(self, source: Source) -> Source:
        """Returns the training part as the model sees it: without the rows that `data.tabular.outliers` drops."""
        kept: Source = source
        for preprocessing in self.preprocessings.values():
            if preprocessing.drops_examples:
                keep = preprocessing.keep(source.read_arrays(np.arange(source.num_examples))[0])
                kept = source if keep is None or keep.all() else Subset(source, np.flatnonzero(keep))
        return self.apply(kept)

    def changes(self, num_classes: int | None) -> RandomChanges:
        """Returns the random changes to training examples.

        Args:
            num_classes: Of labels that are classes; None: labels are something else.
        """
        layers = self.preprocessings.get("layers")
        return RandomChanges(self.input.image, num_classes=num_classes, layers=layers)

    @property
    def makes_tokens(self) -> bool:
        """Whether the features are token ids."""
        return "text" in self.preprocessings

    def state(self) -> dict[str, Any]:
        """Returns what was learnt, as JSON values, by the name in the config."""
        return {name: preprocessing.state() for name, preprocessing in self.preprocessings.items()}


def prepare(input: InputSection, train: Source, state: State | None = None) -> Preparation:
    """Returns the preparation of a run's data.

    Args:
        input: How examples become batches.
        train: The training part, which is learnt from.
        state: What an earlier attempt learnt; None: learn now.

    Raises:
        ConfigError: If what is asked for does not fit the data.
        DataError: If a saved state is not of these settings.
    """
    source = _sized(train, input.image)
    preprocessings: dict[str, Preprocessing] = {}
    for name, kind in KINDS.items():
        if not kind.is_wanted(input, source):
            continue
        preprocessings[name] = _made(name, kind, input, source, state)
        source = Preprocessed(source, preprocessings[name])
    _refuse_what_does_not_fit(input, source, preprocessings)
    return Preparation(input, preprocessings, train)


def _made(name: str, kind: Kind, input: InputSection, source: Source, state: State | None) -> Preprocessing:
    if state is None:
        return kind.learn(input, source)
    if name not in state:
        raise DataError(
            f"The run has kept nothing for data.{name}.",
            place="preprocessing.json",
            received=sorted(state),
            remedy="restore the file, or train under another name",
        )
    return kind.restore(input, source, state[name])


def mixes_labels(image: ImageSection) -> bool:
    """Whether labels of neighbours are mixed, so that a label is one number for each class."""
    return any(isinstance(change, MixUp | CutMix) for change in image.augment)


def with_mixable_labels(source: Source, image: ImageSection, num_classes: int) -> Source:
    """Returns the source with labels that can be mixed where the config mixes them."""
    return OneHot(source, num_classes) if mixes_labels(image) else source


def _check_white(image: ImageSection, source: Source) -> None:
    """Refuses changes of colour by 51 levels of 255 to pixels between 0 and 1."""
    changes_colours = any(isinstance(change, ColorJitter | RandAugment) for change in image.augment)
    if not changes_colours or not is_image(source.feature_shape) or source.is_stream:
        return
    pixels, *_ = source.read_arrays(np.arange(min(NUM_SAMPLES, source.num_examples)))
    if pixels.max() <= 1 < image.white:
        raise ConfigError(
            f"The images' pixels lie between 0 and 1, and white is {image.white:g}: colours would be lost.",
            place="data.image.white",
            received=image.white,
            remedy="set data.image.white: 1.0",
        )


def _needs_colours(image: ImageSection) -> bool:
    jitters = [change for change in image.augment if isinstance(change, ColorJitter)]
    return any(jitter.saturation > 0 or jitter.hue > 0 for jitter in jitters)


def _sized(source: Source, image: ImageSection) -> Source:
    if not is_image(source.feature_shape):
        return source
    if image.size is not None and source.feature_shape[:2] != image.size:
        return Resized(source, image.size)
    if None in source.feature_shape:
        raise ConfigError(
            "The images differ in size, and a batch needs one size.",
            place="data.image.size",
            remedy="set data.image.size to [height, width]",
        )
    return source


def _refuse_what_does_not_fit(input: InputSection, source: Source, learnt: Collection[str]) -> None:
    if input.text is not None and "text" not in learnt:
        raise ConfigError(
            "data.text makes token ids of texts; these examples are none.",
            place=source.name,
            received=source.feature_shape,
            remedy="leave data.text out",
        )
    changed = [
        name
        for name in ImageSection.model_fields
        if getattr(input.image, name) != getattr(ImageSection(), name)
    ]
    if changed and not is_image(source.feature_shape):
        raise ConfigError(
            "data.image changes images, of shape (height, width, channels); these examples are none.",
            place=source.name,
            received=source.feature_shape,
            remedy="leave data.image out, or add an axis of channels to grey images",
        )
    if is_image(source.feature_shape) and source.feature_shape[2] != 3 and _needs_colours(input.image):
        raise ConfigError(
            "Saturation and hue are of colours, and these images have none.",
            place="data.image.augment",
            received=source.feature_shape,
            remedy="set saturation and hue of color_jitter to 0",
        )
    _check_white(input.image, source)
    if source.feature_dtype == "string" or (
        isinstance(source.feature_dtype, Mapping) and "string" in source.feature_dtype.values()
    ):
        raise ConfigError(
            "The features are text, and a model computes with numbers.",
            place=source.name,
            remedy="give data.text for texts, or data.tabular for columns of text",
        )
