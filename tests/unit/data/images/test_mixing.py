from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from distkeras.data.images.mixing import Mixing, RandomCutMix, RandomMixUp, beta, beta_quantiles

MANY = np.random.default_rng(4).random((20_000, 4), np.float32)


def pictures(batch: int, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, 8, 10, 3)).astype(dtype)


def draws(batch: int, num: int) -> np.ndarray:
    return np.random.default_rng(1).random((batch, num), np.float32)


def one_hot(labels: np.ndarray, num_classes: int = 5) -> np.ndarray:
    return np.eye(num_classes, dtype=np.float32)[labels]


@pytest.mark.parametrize("batch", [6, 7, 1])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_mixup_adds_shares_of_neighbours_and_of_their_labels(batch: int, dtype: str):
    images, numbers, labels = pictures(batch, dtype), draws(batch, 2), np.arange(batch) % 5
    mixed, mixed_labels = RandomMixUp(1.0, 5).mix(
        tf.constant(images), tf.constant(labels), tf.constant(numbers)
    )
    assert (mixed.dtype, mixed_labels.dtype) == (dtype, "float32")
    expected, expected_labels = images.astype(np.float64), one_hot(labels).astype(np.float64)
    for even in range(0, batch - 1, 2):
        # Beta(1, 1) is the uniform distribution.
        share, pair = round(float(numbers[even, 1]) * 4096) / 4096, slice(even, even + 2)
        expected[pair] = share * expected[pair] + (1 - share) * expected[pair][::-1]
        expected_labels[pair] = share * expected_labels[pair] + (1 - share) * expected_labels[pair][::-1]
    assert np.abs(mixed.numpy() - expected).max() <= (1e-4 if dtype == "float32" else 0.5)
    assert np.allclose(mixed_labels.numpy(), expected_labels, atol=1e-6)


@pytest.mark.parametrize("batch", [6, 7, 1])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_cutmix_swaps_a_rectangle_and_its_exact_share_of_the_labels(batch: int, dtype: str):
    images, numbers, labels = pictures(batch, dtype), draws(batch, 4), np.arange(batch) % 5
    mixed, mixed_labels = RandomCutMix(1.0, 5).mix(
        tf.constant(images), tf.constant(labels), tf.constant(numbers)
    )
    expected, expected_labels = images.copy(), one_hot(labels)
    for even in range(0, batch - 1, 2):
        _, area, down, right = numbers[even].astype(float)
        height, width = int(np.sqrt(1 - area) * 8), int(np.sqrt(1 - area) * 10)
        top, left = int(down * 8) - height // 2, int(right * 10) - width // 2
        rows, columns = slice(max(top, 0), max(top + height, 0)), slice(max(left, 0), max(left + width, 0))
        for own, other in ((even, even + 1), (even + 1, even)):
            expected[own, rows, columns] = images[other, rows, columns]
            share = expected[own, rows, columns, 0].size / 80
            expected_labels[own] = (1 - share) * one_hot(labels)[own] + share * one_hot(labels)[other]
    assert np.array_equal(mixed.numpy(), expected)
    assert np.allclose(mixed_labels.numpy(), expected_labels, atol=1e-6)
    assert batch == 1 or (mixed.numpy() != images).any()


@pytest.mark.parametrize("mixing", [RandomMixUp(0.7, 5, 0.4), RandomCutMix(0.7, 5, 0.4)])
def test_the_draws_of_the_even_neighbour_decide(mixing: Mixing):
    images, labels, numbers = tf.constant(pictures(64)), tf.range(64) % 5, draws(64, mixing.num_draws)
    mixed, mixed_labels = mixing.mix(images, labels, tf.constant(numbers))
    numbers[1::2] = 0.123
    again, labels_again = mixing.mix(images, labels, tf.constant(numbers))
    assert np.array_equal(mixed.numpy(), again.numpy())
    assert np.array_equal(mixed_labels.numpy(), labels_again.numpy())
    same = (mixed == images).numpy().all(axis=(1, 2, 3)).reshape(-1, 2)
    assert same[numbers[::2, 0] >= 0.4].all()
    # Where it mixes, a share so near to one that no pixel changes is rare.
    assert same[numbers[::2, 0] < 0.4].mean() < 0.3


@pytest.mark.parametrize("mixing", [RandomMixUp(0.7, 5), RandomCutMix(0.7, 5)])
def test_replicas_with_even_batches_mix_as_one_batch_would(mixing: Mixing):
    images, labels, numbers = pictures(12), np.arange(12) % 5, draws(12, mixing.num_draws)
    whole = mixing.mix(tf.constant(images), tf.constant(labels), tf.constant(numbers))
    for num_replicas in (2, 3, 6):
        parts = [
            mixing.mix(*(tf.constant(part) for part in parts))
            for parts in zip(
                *(np.split(array, num_replicas) for array in (images, labels, numbers)), strict=True
            )
        ]
        for index in (0, 1):
            assert np.array_equal(np.concatenate([part[index] for part in parts]), whole[index].numpy())


@pytest.mark.parametrize("mixing", [RandomMixUp(0.7, 5), RandomCutMix(0.7, 5)])
def test_labels_that_are_shares_are_mixed_as_classes_are(mixing: Mixing):
    images, labels, numbers = (
        tf.constant(pictures(6)),
        np.arange(6) % 5,
        tf.constant(draws(6, mixing.num_draws)),
    )
    _, from_classes = mixing.mix(images, tf.constant(labels), numbers)
    _, from_shares = mixing.mix(images, tf.constant(one_hot(labels)), numbers)
    assert np.array_equal(from_classes.numpy(), from_shares.numpy())
    assert np.allclose(from_classes.numpy().sum(axis=1), 1)


def test_an_empty_batch_is_mixed():
    images, labels = RandomMixUp(1.0, 5).mix(
        tf.zeros((0, 8, 10, 3), tf.uint8), tf.zeros(0, tf.int64), tf.zeros((0, 2))
    )
    assert (images.shape, labels.shape) == ((0, 8, 10, 3), (0, 5))


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.5, 1.0, 1.5, 4.0, 100.0, 5000.0])
def test_quantiles_are_those_of_the_beta_distribution(alpha: float):
    quantiles = beta_quantiles(alpha)
    assert quantiles.shape == (4097,)
    assert (np.diff(quantiles) >= 0).all()
    exact = stats.beta(alpha, alpha).ppf(np.linspace(0, 1, 4097))
    # At the ends the integral of a large alpha is too small for a number.
    assert np.allclose(quantiles[1:-1], exact[1:-1], atol=2e-5)
    shares = beta(alpha, tf.constant(MANY[:, 0])).numpy()
    # The upper half would show that there are no numbers between one and its neighbour.
    lower = shares[shares < 0.5]
    assert stats.binomtest(len(lower), len(shares), 0.5).pvalue > 0.01
    assert stats.kstest(lower, lambda share: 2 * stats.beta(alpha, alpha).cdf(share)).pvalue > 0.01


def test_the_share_that_cutmix_leaves_has_the_expected_mean():
    images = tf.reshape(tf.range(20_000) % 2, [-1, 1, 1, 1]) * tf.ones((1, 8, 8, 1), tf.int32)
    _, shares = RandomCutMix(1.0, 2).mix(images, tf.range(20_000) % 2, tf.constant(MANY))
    left = tf.reduce_max(shares, axis=1).numpy()
    assert ((left >= 0.5) & (left <= 1)).all()
    # Before the border cuts rectangles off a uniform area would be left, one half on average.
    own = shares.numpy()[np.arange(20_000), np.arange(20_000) % 2]
    assert 0.55 < own.mean() < 0.75
