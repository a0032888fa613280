"""Decoding no more of an image than is needed.

Of a JPEG only the part that a random crop wants is decoded, and where the image is much larger than what the
model sees, it is decoded at a half, a quarter or an eighth of its size: libjpeg then computes fewer pixels from the
same coefficients, each the mean of those it stands for. Both at once works: TensorFlow takes the crop window in
pixels of the reduced image, and the result equals that part of the whole reduced image, bit for bit. At full size
the last column of a part may differ by some levels, where the colours of the next column are not known.
"""

from __future__ import annotations

from distkeras.data.lazy_tensorflow import tf

# By which libjpeg can divide the size of an image while decoding.
RATIOS = (1, 2, 4, 8)


def decode_full(content: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes a JPEG, PNG, BMP or GIF (its first frame) to uint8, shape (height, width, channels)."""
    return tf.io.decode_image(content, channels=channels, expand_animations=False)


def decode_part(
    content: tf.Tensor,
    box: tf.Tensor,
    is_jpeg: tf.Tensor | bool,
    target_size: tuple[int, int],
    channels: int,
    *,
    largest: tuple[int, int] | None = None,
) -> tf.Tensor:
    """Decodes a part of an image, not much larger than it needs to be for a target size.

    A JPEG is decoded at a reduced size where the part is at least twice, four or eight times as high and as wide
    as the target. The part then grows outwards to whole pixels of the reduced image: by less than one of them,
    and so by less than one pixel of the target.

    Args:
        content: The file's bytes, a scalar string.
        box: int32, shape (4,): top, left, height and width of the part, inside the image.
        is_jpeg: Whether the content is a JPEG; images of other formats are decoded in full.
        target_size: Height and width that the part will be resized to.
        channels: 1 or 3.
        largest: Height and width that no part exceeds, if that is known.

    Returns:
        uint8, shape (part's height, part's width, channels), both at least the target's where the box's are.
    """
    enough = [[ratio * target_size[0], ratio * target_size[1]] for ratio in RATIOS[1:]]
    is_never_reduced = largest is not None and (largest[0] < enough[0][0] or largest[1] < enough[0][1])
    large = tf.reduce_all(box[2:] >= tf.constant(enough), axis=1)

    def decode_jpeg(ratio: int) -> tf.Tensor:
        window = box if ratio == 1 else _reduced(box, ratio)
        return tf.io.decode_and_crop_jpeg(content, window, channels=channels, ratio=ratio)

    def decode_other() -> tf.Tensor:
        return tf.slice(decode_full(content, channels), [box[0], box[1], 0], [box[2], box[3], channels])

    def decode_otherwise() -> tf.Tensor:
        num_halvings = tf.math.count_nonzero(large, dtype=tf.int32)
        branch = tf.where(is_jpeg, num_halvings - 1, len(RATIOS) - 1)
        branches = [lambda ratio=ratio: decode_jpeg(ratio) for ratio in RATIOS[1:]]
        return tf.switch_case(branch, [*branches, decode_other])

    if is_jpeg is True and is_never_reduced:
        part = decode_jpeg(1)
    else:
        # The usual case first: a choice among five would cost a twentieth of decoding a small photograph.
        part = tf.cond(is_jpeg & ~large[0], lambda: decode_jpeg(1), decode_otherwise)
    return tf.ensure_shape(part, (None, None, channels))


def decode_scaled(
    content: tf.Tensor,
    height: tf.Tensor,
    width: tf.Tensor,
    is_jpeg: tf.Tensor | bool,
    target_size: tuple[int, int],
    channels: int,
) -> tf.Tensor:
    """Decodes a whole image, a JPEG at a reduced size where it is at least twice as large as the target.

    Args:
        content: The file's bytes, a scalar string.
        height: Of the image in pixels, any integer type.
        width: The same.
        is_jpeg: Whether the content is a JPEG.
        target_size: Height and width that the image will be resized to.
        channels: 1 or 3.

    Returns:
        uint8, shape (height, width, channels), both at least the target's where the image's are.
    """
    box = tf.stack([0, 0, tf.cast(height, tf.int32), tf.cast(width, tf.int32)])
    return decode_part(content, box, is_jpeg, target_size, channels)


def _reduced(box: tf.Tensor, ratio: int) -> tf.Tensor:
    """The smallest box of whole pixels of the reduced image that holds a box."""
    first, last = box[:2] // ratio, (box[:2] + box[2:] + ratio - 1) // ratio
    return tf.concat([first, last - first], axis=0)
