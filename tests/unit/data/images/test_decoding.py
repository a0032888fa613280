from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from distkeras.data.images.decoding import decode_full, decode_part, decode_scaled
from distkeras.data.images.resizing import resize


def photograph(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Smooth colours: what a photograph mostly is, and what JPEG keeps."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 24, width // 24, 3)).astype(np.uint8))
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image if channels == 3 else image.convert("L")).reshape(height, width, channels)


def encoded(image: np.ndarray, kind: str) -> tf.Tensor:
    stream = io.BytesIO()
    Image.fromarray(image.squeeze()).save(stream, kind, **({"quality": 90} if kind == "jpeg" else {}))
    return tf.constant(stream.getvalue())


def cut(image: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    return image[box[0] : box[0] + box[2], box[1] : box[1] + box[3]]


@pytest.mark.parametrize(
    ("kind", "channels"), [("jpeg", 1), ("jpeg", 3), ("png", 1), ("png", 3), ("bmp", 3), ("gif", 3)]
)
def test_a_whole_image_is_decoded(kind: str, channels: int):
    image = photograph(48, 72, channels)
    decoded = decode_full(encoded(image, kind), channels).numpy()
    assert decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - image).mean() <= {"jpeg": 3, "gif": 12}.get(kind, 0)


@pytest.mark.parametrize("box", [(0, 0, 120, 168), (13, 21, 50, 77), (70, 91, 50, 77), (119, 167, 1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_part_of_a_jpeg_equals_the_part_of_the_whole(box: tuple[int, int, int, int], channels: int):
    content = encoded(photograph(120, 168, channels), "jpeg")
    part = decode_part(content, tf.constant(box), True, (90, 100), channels).numpy()
    whole = cut(decode_full(content, channels).numpy(), box)
    assert part.shape == whole.shape
    # Of the last column the colours of the next one are not known.
    assert np.array_equal(part[:, :-1], whole[:, :-1])
    assert np.abs(part.astype(int) - whole).max() <= 8


@pytest.mark.parametrize("kind", ["png", "bmp", "gif"])
def test_a_part_of_another_format_is_cut_out(kind: str):
    content, box = encoded(photograph(120, 168), kind), (13, 21, 100, 140)
    part = decode_part(content, tf.constant(box), tf.constant(False), (10, 10), 3).numpy()
    assert np.array_equal(part, cut(decode_full(content, 3).numpy(), box))


@pytest.mark.parametrize(
    ("target", "ratio"),
    [
        ((101, 100), 1),
        ((100, 100), 2),
        ((100, 51), 2),
        ((51, 50), 2),
        ((50, 50), 4),
        ((25, 26), 4),
        ((25, 25), 8),
        ((3, 3), 8),
    ],
)
def test_a_large_part_is_decoded_at_a_reduced_size(target: tuple[int, int], ratio: int):
    content, box = encoded(photograph(480, 624), "jpeg"), (33, 57, 200, 200)
    part = decode_part(content, tf.constant(box), True, target, 3).numpy()
    first, last = np.array(box[:2]) // ratio, -(-np.array([233, 257]) // ratio)
    assert part.shape == (*(last - first), 3)
    assert (np.array(part.shape[:2]) >= target).all()
    # The same as that part of the whole image at this size, and nearly the means of the pixels.
    small = tf.io.decode_jpeg(content, 3, ratio=ratio).numpy()
    same = np.abs(cut(small, (*first, *(last - first))).astype(int) - part)
    assert same.max() <= (8 if ratio == 1 else 0)
    full = decode_full(content, 3).numpy().reshape(480 // ratio, ratio, 624 // ratio, ratio, 3)
    means = full.mean(axis=(1, 3))[first[0] : last[0], first[1] : last[1]]
    assert np.abs(means - part).mean() <= 1.5


@pytest.mark.parametrize("target", [(150, 150), (100, 100), (50, 50), (25, 25)])
def test_a_reduced_part_differs_little_from_the_full_one_once_it_is_resized(target: tuple[int, int]):
    # A box of whole pixels at all sizes: others grow outwards, by less than a pixel of the target.
    content, box = encoded(photograph(480, 624), "jpeg"), (32, 56, 304, 304)
    part = resize(decode_part(content, tf.constant(box), True, target, 3), target).numpy()
    full = cut(decode_full(content, 3).numpy(), box).astype(np.float32)
    difference = np.abs(tf.image.resize(full, target, antialias=True).numpy() - part)
    assert difference.mean() <= 2.5


@pytest.mark.parametrize("size", [(480, 624), (479, 619)])
@pytest.mark.parametrize(
    ("target", "ratio"), [((300, 300), 1), ((224, 224), 2), ((100, 100), 4), ((32, 32), 8)]
)
def test_a_whole_image_is_decoded_at_a_reduced_size(
    size: tuple[int, int], target: tuple[int, int], ratio: int
):
    content = encoded(photograph(480, 624)[: size[0], : size[1]], "jpeg")
    small = decode_scaled(
        content, tf.constant(size[0]), tf.constant(size[1], tf.int64), True, target, 3
    ).numpy()
    assert np.array_equal(small, tf.io.decode_jpeg(content, 3, ratio=ratio).numpy())


def test_parts_are_decoded_in_a_pipeline_of_several_formats():
    image = photograph(96, 120)
    contents = tf.stack([encoded(image, kind) for kind in ("jpeg", "png", "jpeg")])
    boxes = tf.constant([(0, 0, 96, 120), (8, 9, 50, 60), (40, 30, 20, 24)])
    examples = tf.data.Dataset.from_tensor_slices((contents, boxes, [True, False, True]))
    parts = examples.map(lambda content, box, is_jpeg: decode_part(content, box, is_jpeg, (20, 24), 3))
    assert parts.element_spec.shape.as_list() == [None, None, 3]
    assert [part.shape for part in parts.as_numpy_iterator()] == [(24, 30, 3), (50, 60, 3), (20, 24, 3)]
