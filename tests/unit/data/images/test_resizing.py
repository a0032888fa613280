from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from distkeras.config.transform_sections import ResizedCropSection
from distkeras.data.images.resizing import NUM_CROP_DRAWS, crop_and_resize, crop_boxes, resize

TYPES = ["uint8", "int32", "float32", "float16"]


def pictures(dtype: str, shape: tuple[int, ...] = (6, 5, 7, 3)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def draws(batch: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((batch, NUM_CROP_DRAWS), np.float32)


def resize_by_hand(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, with pixel centres at one half and edges repeated."""

    def weights(old: int, new: int) -> np.ndarray:
        matrix = np.zeros((new, old))
        for row in range(new):
            centre = (row + 0.5) * old / new - 0.5
            low = int(np.floor(centre))
            matrix[row, np.clip(low, 0, old - 1)] += 1 - (centre - low)
            matrix[row, np.clip(low + 1, 0, old - 1)] += centre - low
        return matrix

    return np.einsum("ri,ijc,sj->rsc", weights(image.shape[0], height), image, weights(image.shape[1], width))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [(3, 4), (10, 14), (5, 7), (8, 3)])
def test_resizing_equals_the_same_by_hand(dtype: str, size: tuple[int, int]):
    images = pictures(dtype)
    resized = resize(tf.constant(images), size)
    by_hand = np.stack([resize_by_hand(image.astype(float), *size) for image in images])
    assert resized.dtype == dtype
    assert resized.shape == (6, *size, 3)
    # Whole pixels may fall to either side of one half; half floats have ten bits.
    tolerance = {"float32": 1e-3, "float16": 0.2}.get(dtype, 0.5 + 1e-3)
    assert np.abs(resized.numpy().astype(float) - by_hand).max() <= tolerance
    assert np.array_equal(resize(tf.constant(images[0]), size).numpy(), resized.numpy()[0])


def test_resizing_rounds_rather_than_cuts():
    images = np.array([[[[0]], [[3]]]], np.uint8).reshape(1, 1, 2, 1)
    assert resize(tf.constant(images), (1, 4)).numpy().ravel().tolist() == [0, 1, 2, 3]


def test_resizing_works_where_sizes_are_known_only_when_it_runs():
    @tf.function(input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)])
    def run(image: tf.Tensor) -> tf.Tensor:
        return resize(image, (3, 4))

    image = pictures("uint8")[0]
    assert run.get_concrete_function().output_shapes == (3, 4, 3)
    assert np.array_equal(run(tf.constant(image)).numpy(), resize(tf.constant(image), (3, 4)).numpy())


def box_by_hand(height: int, width: int, numbers: np.ndarray, section: ResizedCropSection) -> list[int]:
    """torchvision's RandomResizedCrop.get_params, with the draws instead of a generator."""
    least, most = section.least_ratio, 1 / section.least_ratio
    for area_draw, ratio_draw in zip(numbers[:10], numbers[10:20], strict=True):
        area = height * width * (section.least_area + (1 - section.least_area) * float(area_draw))
        ratio = np.exp(np.log(least) + (np.log(most) - np.log(least)) * float(ratio_draw))
        new_width, new_height = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < new_width <= width and 0 < new_height <= height:
            top = int(float(numbers[20]) * (height - new_height + 1))
            return [top, int(float(numbers[21]) * (width - new_width + 1)), new_height, new_width]
    if width / height < least:
        new_height, new_width = round(width / least), width
    elif width / height > most:
        new_height, new_width = height, round(height * most)
    else:
        new_height, new_width = height, width
    return [(height - new_height) // 2, (width - new_width) // 2, new_height, new_width]


@pytest.mark.parametrize(
    "section", [ResizedCropSection(), ResizedCropSection(least_area=0.9, least_ratio=0.9)]
)
def test_crop_boxes_equal_those_of_torchvision_for_the_same_numbers(section: ResizedCropSection):
    rng = np.random.default_rng(3)
    heights, widths = rng.integers(1, 600, (2, 3000))
    # Panoramas of either kind, where all attempts fail.
    heights[:200], widths[200:400] = 20, 20
    numbers = draws(3000)
    boxes = crop_boxes(tf.constant(heights), tf.constant(widths), tf.constant(numbers), section)
    assert (boxes.dtype, boxes.shape) == (tf.int32, (3000, 4))
    by_hand = [
        box_by_hand(*row, section) for row in zip(heights.tolist(), widths.tolist(), numbers, strict=True)
    ]
    assert np.array_equal(boxes.numpy(), np.array(by_hand))
    alone = crop_boxes(tf.constant(heights[7]), tf.constant(widths[7]), tf.constant(numbers[7]), section)
    assert np.array_equal(alone.numpy(), by_hand[7])


def test_crop_boxes_have_the_distributions_of_inception():
    section = ResizedCropSection(least_area=0.08, least_ratio=3 / 4)
    # So large that rounding to pixels does not show, and square: parts of all areas and ratios nearly always fit.
    size = tf.fill([20_000], 100_000)
    top, left, height, width = (
        crop_boxes(size, size, tf.constant(draws(20_000)), section).numpy().T.astype(float)
    )
    areas, log_ratios = height * width / 1e10, np.log(width / height)
    limit = np.log(4 / 3)
    # An attempt counts where its part fits: the area is at most the smaller of ratio and inverse ratio.
    small = areas < 0.75
    assert stats.kstest(areas[small], stats.uniform(0.08, 0.67).cdf).pvalue > 0.01
    assert stats.kstest(log_ratios[small], stats.uniform(-limit, 2 * limit).cdf).pvalue > 0.01
    accepted = stats.uniform(-limit, 2 * limit).rvs(200_000, random_state=1)
    tried = stats.uniform(0.08, 0.92).rvs(200_000, random_state=2)
    fits = tried <= np.exp(-np.abs(accepted))
    assert stats.ks_2samp(areas, tried[fits]).pvalue > 0.01
    assert stats.ks_2samp(log_ratios, accepted[fits]).pvalue > 0.01
    assert stats.kstest(top / (100_000 - height), stats.uniform.cdf).pvalue > 0.01
    assert stats.kstest(left / (100_000 - width), stats.uniform.cdf).pvalue > 0.01


def test_crop_boxes_lie_inside_of_the_image_however_small_it_is():
    sizes = np.array([(height, width) for height in range(1, 9) for width in range(1, 9)] * 20)
    boxes = crop_boxes(sizes[:, 0], sizes[:, 1], draws(len(sizes)), ResizedCropSection()).numpy()
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] >= 1).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= sizes).all()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [(4, 6), (13, 5)])
def test_a_part_of_a_batch_equals_the_part_resized(dtype: str, size: tuple[int, int]):
    images = pictures(dtype, (9, 10, 14, 3))
    boxes = crop_boxes(tf.fill([9], 10), tf.fill([9], 14), tf.constant(draws(9)), ResizedCropSection())
    changed = crop_and_resize(tf.constant(images), boxes, size)
    assert (changed.dtype, changed.shape) == (dtype, (9, *size, 3))
    for image, (top, left, height, width), new in zip(images, boxes.numpy(), changed.numpy(), strict=True):
        part = image[top : top + height, left : left + width].astype(np.float32)
        difference = np.abs(resize(tf.constant(part), size).numpy() - new.astype(float)).max()
        assert difference <= {"float32": 1e-3, "float16": 0.2}.get(dtype, 0.5 + 1e-3)
