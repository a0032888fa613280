"""RandAugment (Cubuk et al., 2019, https://arxiv.org/abs/1909.13719): a few changes from a list, of one strength.

The list and the strengths are those of the paper as torchvision has them; colour changes compute what Pillow's
ImageOps and ImageEnhance compute. Differences: places are interpolated (torchvision takes the nearest pixel), and
the strength runs from 0 to 10.

Each change is made to the images that drew it, one after the other, in a loop that is compiled with the rest: of
64 images about 5 draw a change. To change all and to keep what was drawn would cost about five times as much, and
XLA knows no tensor whose length is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from distkeras.data.images.arithmetic import as_pixels, compiled, exact, per_image, size_of
from distkeras.data.images.colour import channel_means
from distkeras.data.images.resampling import resample, rotations, shears, translations
from distkeras.data.lazy_tensorflow import tf

# At full strength: degrees, pixels sideways for each row, share of the image's width or height, change of a
# factor, and bits that are lost.
MOST_DEGREES = 30.0
MOST_SHEAR = 0.3
MOST_SHIFT = 150 / 331
MOST_FACTOR = 0.9
MOST_BITS = 4


@dataclass(frozen=True)
class RandAugmentation:
    """Makes `num_ops` changes one after the other, each drawn from the same list.

    Pixels of other types than uint8 are rounded to 256 levels first: the changes are defined for those.

    Attributes:
        num_ops: Changes that each example gets.
        magnitude: Strength, in [0, 10].
        probability: Share of the examples that change.
        largest: The pixel value of white.
    """

    num_ops: int
    magnitude: float
    probability: float = 1.0
    largest: float = 255.0

    @property
    def num_draws(self) -> int:
        """Random numbers that each example needs: whether at all; then which change and in which direction."""
        return 1 + 2 * self.num_ops

    def __call__(self, images: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        levels = images
        if images.dtype != tf.uint8:
            bright = tf.cast(images, tf.float32) * (255 / self.largest)
            levels = as_pixels(tf.clip_by_value(bright, 0, 255), tf.uint8)
        kinds, strengths = self.drawn(draws)
        # XLA cannot compile a loop over no images.
        levels = tf.cond(tf.size(levels) > 0, lambda: change_levels(levels, kinds, strengths), lambda: levels)
        if images.dtype == tf.uint8:
            return levels
        return as_pixels(tf.cast(levels, tf.float32) * (self.largest / 255), images.dtype)

    def drawn(self, draws: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns each image's changes and their signed strengths, as `change_levels` takes them."""
        kinds = tf.cast(draws[:, 1::2] * len(KINDS), tf.int32)
        chosen = draws[:, :1] < self.probability
        directions = tf.where(draws[:, 2::2] < 0.5, -1, 1)
        strengths = self.magnitude / 10 * tf.cast(directions, tf.float64)
        return tf.where(chosen, kinds, KINDS.index("identity")), strengths


@compiled
def change_levels(images: tf.Tensor, kinds: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
    """Makes changes to each image, one after the other.

    Args:
        images: uint8, shape (batch, height, width, channels).
        kinds: int32, shape (batch, num_ops): which changes, by their index in `KINDS`.
        strengths: float64, shape (batch, num_ops), in [-1, 1]; a change that has no direction takes the absolute
            value.
    """
    height, width, channels = size_of(images)

    def change_once(step: tf.Tensor, images: tf.TensorArray) -> tuple[tf.Tensor, Any]:
        kind, strength = kinds[:, step], strengths[:, step]
        # Sorted by kind: the images of one kind are a range of this order.
        order = tf.argsort(kind, stable=True)
        for name, change in COLOUR_CHANGES.items():
            first = KINDS.index(name)
            images = _change_some(order, _range(kind, first, first + 1), change, images, strength)
        moved = _range(kind, KINDS.index(PLACE_CHANGES[0]), len(KINDS))
        matrices = _matrices(kind, strength, height, width)
        return step + 1, _change_some(order, moved, resample, images, matrices)

    # An array of tensors rather than one tensor: XLA writes an image into it without copying the others.
    array = tf.TensorArray(images.dtype, tf.shape(images)[0], element_shape=(height, width, channels))
    num_ops = tf.shape(kinds)[1]
    # A loop, too, so that XLA compiles the list of changes once and not once for each step.
    changed = tf.while_loop(
        lambda step, _: step < num_ops, change_once, (tf.constant(0), array.unstack(images))
    )
    return tf.ensure_shape(changed[1].stack(), images.shape)


def autocontrast(images: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
    """Stretches each channel to all levels, as `PIL.ImageOps.autocontrast`."""
    levels = tf.cast(images, tf.float32)
    low = tf.reduce_min(levels, axis=[1, 2], keepdims=True)
    high = tf.reduce_max(levels, axis=[1, 2], keepdims=True)
    stretched = tf.floor((levels - low) * 255 / tf.maximum(high - low, 1))
    return tf.cast(tf.where(high > low, stretched, levels), tf.uint8)


def equalize(images: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
    """Makes all levels of each channel about equally frequent, as `PIL.ImageOps.equalize`."""
    height, width, channels = size_of(images)
    num_tables = tf.shape(images)[0] * channels
    tables = tf.reshape(tf.range(num_tables), [-1, 1, 1, channels])
    index = tf.cast(images, tf.int32) + 256 * tables
    ones = tf.ones(tf.shape(images), tf.int32)
    counts = tf.reshape(tf.math.unsorted_segment_sum(ones, index, 256 * num_tables), [-1, 256])
    brightest = tf.reduce_max(tf.where(counts > 0, tf.range(256), 0), axis=1)
    num_brightest = tf.gather(counts, brightest, batch_dims=1)[:, tf.newaxis]
    step = (height * width - num_brightest) // 255
    below = step // 2 + tf.cumsum(counts, axis=1, exclusive=True)
    # XLA computes this again for each pixel, and whole numbers divide slowly.
    new = tf.floor(tf.cast(below, tf.float32) / tf.cast(tf.maximum(step, 1), tf.float32))
    table = tf.where(step > 0, tf.minimum(new, 255), tf.range(256.0))
    return tf.cast(tf.gather(tf.reshape(table, [-1]), index), tf.uint8)


def solarize(images: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
    """Inverts the levels from a threshold on, as `PIL.ImageOps.solarize`; 0: full strength."""
    threshold = per_image(exact(255 - 255 * tf.abs(strengths)))
    return tf.where(tf.cast(images, tf.float32) < threshold, images, 255 - images)


def posterize(images: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
    """Clears the lowest bits, as `PIL.ImageOps.posterize`."""
    bits = per_image(tf.cast(tf.round(MOST_BITS * tf.abs(strengths)), tf.uint8))
    return tf.bitwise.left_shift(tf.bitwise.right_shift(images, bits), bits)


def color(images: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
    """Moves colours from or to their grey, as `PIL.ImageEnhance.Color`."""
    pixels = tf.cast(images, tf.float32)
    return _blend(_grey(pixels), pixels, strengths)


def contrast(images: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
    """Moves pixels from or to the image's mean grey, as `PIL.ImageEnhance.Contrast`."""
    pixels = tf.cast(images, tf.float32)
    mean = tf.floor(channel_means(_grey(pixels)) + 0.5)
    return _blend(per_image(tf.cast(mean, tf.float32)), pixels, strengths)


def brightness(images: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
    """Multiplies all pixels, as `PIL.ImageEnhance.Brightness`."""
    return _blend(tf.constant(0.0), tf.cast(images, tf.float32), strengths)


def sharpness(images: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
    """Moves pixels from or to the smooth image, as `PIL.ImageEnhance.Sharpness`; the border stays."""
    height, width, channels = size_of(images)
    if min(height, width) < 3:
        return images
    # Rows are kept as one axis: XLA then adds up neighbours with vector instructions.
    rows = tf.reshape(images, [-1, height, width * channels])
    pixels = tf.cast(rows, tf.float32)
    columns = pixels[:, :-2] + pixels[:, 1:-1] + pixels[:, 2:]
    inner = pixels[:, 1:-1, channels:-channels]
    total = columns[:, :, : -2 * channels] + columns[:, :, channels:-channels] + columns[:, :, 2 * channels :]
    smooth = tf.floor((total + 4 * inner) / 13 + 0.5)
    changed = _blend(smooth, inner, strengths, axes=3)
    changed = tf.concat([rows[:, 1:-1, :channels], changed, rows[:, 1:-1, -channels:]], axis=2)
    return tf.reshape(tf.concat([rows[:, :1], changed, rows[:, -1:]], axis=1), tf.shape(images))


Change = Callable[[Any, Any], Any]

COLOUR_CHANGES: dict[str, Change] = {
    "autocontrast": autocontrast,
    "equalize": equalize,
    "solarize": solarize,
    "color": color,
    "posterize": posterize,
    "contrast": contrast,
    "brightness": brightness,
    "sharpness": sharpness,
}
PLACE_CHANGES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
# A draw chooses among these: their order is part of what a seed means.
KINDS = ("identity", *COLOUR_CHANGES, *PLACE_CHANGES)


def _range(kind: tf.Tensor, first: int, end: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the images of some kinds start and end, once they are sorted by kind."""
    start, stop = (tf.reduce_sum(tf.cast(kind < limit, tf.int32)) for limit in (first, end))
    return start, stop


def _change_some(
    order: tf.Tensor,
    part: tuple[tf.Tensor, tf.Tensor],
    change: Change,
    images: tf.TensorArray,
    parameters: tf.Tensor,
) -> Any:
    """Changes the images in a part of an order, one after the other, where they are."""
    start, end = part

    def change_next(index: tf.Tensor, images: tf.TensorArray) -> tuple[tf.Tensor, Any]:
        place = order[index]
        changed = change(images.read(place)[tf.newaxis], parameters[place][tf.newaxis])
        return index + 1, images.write(place, changed[0])

    return tf.while_loop(lambda index, _: index < end, change_next, (start, images))[1]


def _matrices(kinds: tf.Tensor, strengths: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Each image's matrix; all factors of it but one are the identity."""

    def of(kind: str, most: float) -> tf.Tensor:
        return tf.where(kinds == KINDS.index(kind), most * strengths, tf.zeros((), tf.float64))

    moves = translations(of("translate_y", MOST_SHIFT * height), of("translate_x", MOST_SHIFT * width))
    slants = shears(of("shear_x", MOST_SHEAR), of("shear_y", MOST_SHEAR))
    return rotations(of("rotate", MOST_DEGREES), height, width) @ slants @ moves


def _grey(pixels: tf.Tensor) -> tf.Tensor:
    """The grey of colours as Pillow has it, in whole levels, shape (batch, height, width, 1)."""
    if pixels.shape[3] != 3:
        return tf.floor(tf.reduce_mean(pixels, axis=3, keepdims=True))
    red, green, blue = tf.unstack(pixels, axis=3)
    # At most 255 * 2**16 + 2**15: whole numbers that float32 holds.
    return tf.floor((19595 * red + 38470 * green + 7471 * blue + 32768) / 65536)[..., tf.newaxis]


def _blend(origin: tf.Tensor, pixels: tf.Tensor, strengths: tf.Tensor, axes: int = 4) -> tf.Tensor:
    """Moves pixels from their origin by a factor, cuts off and drops fractions, as `PIL.Image.blend`."""
    factors = tf.reshape(exact(1 + MOST_FACTOR * strengths), [-1] + [1] * (axes - 1))
    return tf.cast(tf.floor(tf.clip_by_value(origin + factors * (pixels - origin), 0, 255)), tf.uint8)
