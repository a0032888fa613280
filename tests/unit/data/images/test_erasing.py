from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from distkeras.data.images.erasing import RandomCutout


def cut_out_by_hand(image: np.ndarray, side: int, row: int, column: int) -> np.ndarray:
    image = image.copy()
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            if 0 <= y - (row - side // 2) < side and 0 <= x - (column - side // 2) < side:
                image[y, x] = 0
    return image


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float16"])
@pytest.mark.parametrize(("size", "side"), [(0.5, 4), (0.4, 3), (1.0, 8), (0.0, 0)])
def test_cutout_equals_a_loop_over_the_pixels(dtype: str, size: float, side: int):
    images = np.random.default_rng(0).integers(1, 256, (40, 8, 11, 3)).astype(dtype)
    numbers = np.random.default_rng(1).random((40, 3), np.float32)
    changed = RandomCutout(size)(tf.constant(images), tf.constant(numbers))
    assert changed.dtype == dtype
    by_hand = [
        cut_out_by_hand(image, side, int(draws[1] * 8), int(draws[2] * 11))
        for image, draws in zip(images, numbers, strict=True)
    ]
    assert np.array_equal(changed.numpy(), np.stack(by_hand))


def test_a_share_of_the_images_is_cut_at_places_that_are_uniform():
    numbers = np.random.default_rng(2).random((20_000, 3), np.float32)
    changed = RandomCutout(0.2, probability=0.6)(tf.ones((20_000, 5, 8, 1)), tf.constant(numbers)).numpy()
    # A square of one pixel.
    black = 1 - changed[..., 0]
    assert np.array_equal(black.sum(axis=(1, 2)) == 1, numbers[:, 0] < 0.6)
    assert stats.chisquare(black.sum(axis=0).ravel()).pvalue > 0.01
