from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from distkeras.data.images.resampling import resample, rotations, shears, translations, zooms

SIZE = (9, 12)


def pictures(dtype: str = "uint8", channels: int = 3, batch: int = 5) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, *SIZE, channels)).astype(dtype)


def of(*values: float) -> tf.Tensor:
    return tf.constant(values, tf.float64)


def some_matrices() -> dict[str, tf.Tensor]:
    return {
        "rotation": rotations(of(0, 17, -45, 90, 180), *SIZE),
        "translation": translations(of(0, 2.25, -3, 0.5, 100), of(0, -1.75, 4, 11.5, 0)),
        "zoom": zooms(of(1, 0.5, 1.3, 0.01, 20), *SIZE),
        "shear": shears(of(0, 0.3, 0, -0.3, 0.1), of(0, 0, 0.3, 0, -0.2)),
        "all": rotations(of(0, 10, 20, 30, 40), *SIZE) @ translations(of(0, 1, 2, 3, 4), of(4, 3, 2, 1, 0)),
    }


def by_keras(images: np.ndarray, matrices: tf.Tensor) -> np.ndarray:
    """Keras's values before they are rounded: it cuts uint8 off."""
    rows = tf.reshape(matrices, [-1, 9])[:, :8]
    return keras.ops.image.affine_transform(
        images.astype(np.float32), rows, "bilinear", "constant", 0.0
    ).numpy()


@pytest.mark.parametrize("kind", ["rotation", "translation", "zoom", "shear", "all"])
@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 3), ("uint8", 1), ("float32", 4), ("int32", 3)])
def test_resampling_equals_that_of_keras(kind: str, dtype: str, channels: int):
    images, matrices = pictures(dtype, channels), some_matrices()[kind]
    resampled = resample(tf.constant(images), matrices)
    assert resampled.dtype == dtype
    # Half a level from rounding; 1/4096 of a pixel in either direction moves noise by an eighth of a level.
    tolerance = 0.2 if dtype == "float32" else 0.7
    assert np.abs(resampled.numpy().astype(float) - by_keras(images, matrices)).max() <= tolerance


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32"])
def test_the_identity_changes_no_bit(dtype: str):
    images = pictures(dtype)
    same = resample(tf.constant(images), tf.eye(3, batch_shape=[5], dtype=tf.float64))
    assert np.array_equal(same.numpy(), images)


def test_turns_by_a_right_angle_and_whole_moves_are_exact():
    images = pictures()[:, :, :9]
    turned = resample(tf.constant(images), rotations(of(90, -90, 180, 0, 360), 9, 9)).numpy()
    # Positive angles turn counter-clockwise, as np.rot90 does.
    by_hand = [np.rot90(image, quarters) for image, quarters in zip(images, (1, -1, 2, 0, 4), strict=True)]
    assert np.array_equal(turned, np.stack(by_hand))
    moved = resample(tf.constant(images), translations(of(2, 0, -1, 0, 9), of(0, 3, -1, 0, 0))).numpy()
    assert np.array_equal(moved[0, 2:], images[0, :-2])
    assert not moved[0, :2].any()
    assert np.array_equal(moved[1, :, 3:], images[1, :, :-3])
    assert np.array_equal(moved[2, :-1, :-1], images[2, 1:, 1:])
    assert np.array_equal(moved[3], images[3])
    assert not moved[4].any()


def test_compiled_and_interpreted_results_are_equal_bit_for_bit():
    images = tf.constant(pictures(batch=5))
    for matrices in some_matrices().values():
        interpreted = resample.__wrapped__(images, matrices)
        assert np.array_equal(resample(images, matrices).numpy(), interpreted.numpy())
