"""What happens to examples between their source and the model: sections for images, text, sound and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from distkeras.config.section import Section

Share = Annotated[float, Field(ge=0, le=1)]


class _RandomChange(Section):
    """A random change to training images."""

    probability: float = Field(default=1.0, gt=0, le=1)
    """Share of the examples that it changes."""


class Rotation(_RandomChange):
    """Turns by a random angle; what comes from outside is black."""

    kind: Literal["rotation"]
    degrees: float = Field(gt=0, le=180)
    """Largest angle, to either side."""


class Translation(_RandomChange):
    """Moves by a random distance; what comes from outside is black."""

    kind: Literal["translation"]
    height: Share = 0.1
    """Largest distance up or down, as a share of the height."""
    width: Share = 0.1
    """Largest distance to the left or right, as a share of the width."""


class Zoom(_RandomChange):
    """Zooms about the centre by a random factor."""

    kind: Literal["zoom"]
    least: float = Field(default=0.8, gt=0)
    """Smallest factor: below 1 the image shrinks, and what comes from outside is black."""
    most: float = Field(default=1.2, gt=0)
    """Largest factor."""


class ColorJitter(_RandomChange):
    """Changes brightness, contrast, saturation and hue, in this order, each by a random amount."""

    kind: Literal["color_jitter"]
    brightness: Share = 0.0
    """Largest change of the brightness, as a share of the largest pixel value; 0: none."""
    contrast: Share = 0.0
    """The contrast is multiplied by a factor in [1 - contrast, 1 + contrast]."""
    saturation: Share = 0.0
    """The saturation is multiplied by a factor in [1 - saturation, 1 + saturation]; colour images only."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest turn of the hue, as a share of the colour circle; colour images only."""


class Cutout(_RandomChange):
    """Blackens one square at a random place."""

    kind: Literal["cutout"]
    size: Share = 0.25
    """Side of the square, as a share of the image's shorter side."""


class RandAugment(_RandomChange):
    """RandAugment (Cubuk et al., 2019): a few changes, drawn for each example from a list, all of one strength."""

    kind: Literal["rand_augment"]
    num_ops: int = Field(default=2, gt=0, le=5)
    """Changes that each example gets one after the other."""
    magnitude: float = Field(default=9.0, ge=0, le=10)
    """Strength of the changes, from 0 to 10."""


class MixUp(_RandomChange):
    """MixUp (Zhang et al., 2017): neighbours in the batch are mixed, and so are their labels."""

    kind: Literal["mixup"]
    alpha: float = Field(default=0.2, gt=0)
    """The shares are drawn from Beta(alpha, alpha)."""


class CutMix(_RandomChange):
    """CutMix (Yun et al., 2019): neighbours in the batch swap a rectangle, and that share of their labels."""

    kind: Literal["cutmix"]
    alpha: float = Field(default=1.0, gt=0)
    """The share of the rectangle is drawn from Beta(alpha, alpha)."""


Change = Annotated[
    Rotation | Translation | Zoom | ColorJitter | Cutout | RandAugment | MixUp | CutMix,
    Field(discriminator="kind"),
]


class ResizedCropSection(Section):
    """A random part of the image, resized to `size` (Szegedy et al., 2014); of a JPEG only that part is decoded."""

    least_area: Annotated[float, Field(gt=0, le=1)] = 0.08
    """Smallest share of the image's area."""
    least_ratio: float = Field(default=3 / 4, gt=0, le=1)
    """Narrowest width / height of the part; its widest is the inverse."""


class CacheSection(Section):
    """Keeps what was decoded and resized, so that later epochs neither read nor decode."""

    where: Literal["memory", "disk"] = "memory"
    """`disk`: a memory-mapped file in `folder`, which later runs use again."""
    folder: Path | None = None
    """Where the file is kept; null: `cache` in `output_dir`. Relative to the config file."""


class ImageSection(Section):
    """What happens to images between the file and the model."""

    size: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]] | None = None
    """Height and width in pixels that images are resized to; null: as they are (all must be equal)."""
    random_resized_crop: ResizedCropSection | None = None
    """Training only: a random part of the image becomes the whole; null: off. Validation and test see all of it."""
    random_crop: int = Field(default=0, ge=0)
    """Training only: pad by this many pixels on each side, then crop back at a random place; 0: off."""
    random_flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    """Training only: mirror each image with probability one half along this axis."""
    augment: list[Change] = []
    """Training only: further random changes, in this order, after cropping and mirroring."""
    augment_on: Literal["input", "device"] = "input"
    """Where random changes are computed: among the input on the CPU, or on the device that trains."""
    white: float = Field(default=255.0, gt=0)
    """The pixel value of white, for changes of colour; 1.0 where floating point images were scaled already."""


class TextSection(Section):
    """How texts become token ids, by Keras's TextVectorization; its vocabulary is learnt from the training part."""

    max_tokens: int = Field(default=20_000, gt=2)
    """Largest size of the vocabulary, padding (0) and unknown (1) included."""
    sequence_length: int = Field(default=128, gt=0)
    """Tokens of an example: longer texts are cut, shorter ones padded with 0."""
    standardize: Literal["lower_and_strip_punctuation", "lower", "strip_punctuation", "none"] = (
        "lower_and_strip_punctuation"
    )
    """What happens to a text before it is split; `lower` lowers ASCII letters only."""
    split: Literal["whitespace", "character"] = "whitespace"
    """What a token is."""
    ngrams: int | None = Field(default=None, gt=1)
    """Tokens are joined into all runs of up to so many; null: single ones only."""


class SpectrogramSection(Section):
    """How sound becomes a picture of it: the logarithm of a mel spectrogram, shape (frames, mel_bins, 1)."""

    frame_length: int = Field(default=400, gt=0)
    """Samples of one frame."""
    frame_step: int = Field(default=160, gt=0)
    """Samples between the starts of two frames."""
    mel_bins: int = Field(default=64, gt=0)
    """Frequency bands."""


class TabularSection(Section):
    """How columns become features; what it needs to know is learnt from the training part alone, and saved."""

    impute: Literal["none", "mean", "median", "most_frequent", "constant"] = "none"
    """What empty numeric cells become; `constant`: 0. `none`: they are an error. Empty text is a category."""
    indicate_missing: bool = False
    """Whether each numeric column with empty cells gets a column that says where they were."""
    outliers: Literal["none", "clip", "drop"] = "none"
    """Numbers far out: further from the quartiles than `outlier_factor` times their distance. `clip`: moved to that
    limit; `drop`: such rows are left out of the training part."""
    outlier_factor: float = Field(default=3.0, gt=0)
    """See `outliers`."""
    normalize: Literal["none", "standard", "min_max", "quantile"] = "none"
    """`standard`: mean 0 and deviation 1; `min_max`: into [0, 1]; `quantile`: by rank, into [0, 1]."""
    encode: Literal["one_hot", "index", "target"] = "one_hot"
    """What categories become: one column each, a whole number, or the mean label of the category's examples."""
    max_categories: int = Field(default=64, gt=1)
    """Categories of a column that are told apart, the most frequent first; the others are one."""
    categorical: list[str] = []
    """Names of numeric columns that are categories; columns of text always are."""
    select: int | None = Field(default=None, gt=0)
    """Columns to keep, those that tell most of the label (mutual information); null: all."""
