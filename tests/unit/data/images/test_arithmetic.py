from __future__ import annotations

import numpy as np
import tensorflow as tf

from distkeras.data.images.arithmetic import as_pixels, between, compiled, exact


def test_parameters_are_rounded_to_multiples_that_make_products_exact():
    values = tf.random.stateless_uniform((1000,), seed=(1, 2), dtype=tf.float64) * 2
    rounded = exact(values)
    assert rounded.dtype == tf.float32
    assert np.abs(rounded.numpy() - values.numpy()).max() <= 2**-13
    assert np.array_equal(rounded.numpy() * 4096, np.round(rounded.numpy() * 4096))
    pixels = np.arange(256)
    in_double = rounded.numpy()[:, None].astype(np.float64) * pixels - 100 * 2.0**-12
    in_single = rounded[:, None] * tf.cast(pixels, tf.float32) - tf.constant(100 * 2.0**-12)
    assert np.array_equal(in_single.numpy(), in_double)


def test_draws_become_numbers_of_a_range():
    assert between(tf.constant([0, 0.25, 0.5]), -2, 6).numpy().tolist() == [-2, 0, 2]


def test_whole_pixels_are_rounded_and_others_are_not():
    values = tf.constant([0.4, 1.6, 2.5, 3.5])
    assert as_pixels(values, tf.uint8).numpy().tolist() == [0, 2, 2, 4]
    assert np.array_equal(as_pixels(values, tf.float32).numpy(), values.numpy())


def test_a_function_is_compiled_once_for_equal_shapes_and_numbers():
    traced: list[tuple[int, ...]] = []

    @compiled
    def add(values: tf.Tensor, number: float, size: tuple[int, int]) -> tf.Tensor:
        """Adds."""
        traced.append(tuple(values.shape))
        return values + number + size[0]

    assert add.__doc__ == "Adds."
    for batch in (2, 2, 3, 2):
        assert add(tf.zeros(batch), 0.5, (1, 2)).numpy().tolist() == [1.5] * batch
    assert traced == [(2,), (3,)]
