"""How many steps run in one call into JAX: measured, then chosen once."""

from __future__ import annotations

import pytest

pytest.importorskip("jax", reason="the extra `jax` is not installed")

from distkeras.training.jax.loop import STEPS_MEASURED, CallSize


def measured(size: CallSize, seconds: float) -> CallSize:
    size.observe(1, 9.0)  # compiled in it
    for _ in range(STEPS_MEASURED - 1):
        size.observe(1, seconds)
    size.agree(size.wish)
    return size


def test_the_size_is_chosen_once_from_the_fastest_step() -> None:
    size = measured(CallSize(None, 1000), 0.002)
    assert size.steps == 50
    for seconds in (5.0, 0.004, 0.004):
        assert size.most_now == 2
        size.observe(2, seconds)
        size.agree(size.wish)
    for seconds in (5.0, 5.0):
        assert size.most_now == size.steps == 50
        size.observe(50, seconds)
        size.agree(size.wish)


def test_many_steps_that_take_longer_together_are_run_one_by_one_again() -> None:
    size = measured(CallSize(None, 1000), 0.002)
    for seconds in (9.0, 0.1):  # compiled in the first
        assert (size.steps, size.most_now) == (50, 2)
        size.observe(2, seconds)
    size.agree(size.wish)
    size.observe(2, 0.1)  # whose votes told the others
    assert size.most_now == 1
    size.observe(1, 0.002)
    size.agree(size.wish)
    assert size.steps == 1


def test_the_size_stays_within_its_bounds() -> None:
    assert measured(CallSize(None, 20), 0.0001).steps == 20
    assert measured(CallSize(None, 20), 3.0).steps == 1


def test_nothing_changes_before_all_workers_know() -> None:
    size = CallSize(None, 100)
    size.agree(0)
    assert size.steps == 1
    size.agree(7)
    assert size.steps == 7


def test_the_users_own_choice_is_not_measured() -> None:
    size = measured(CallSize(12, 1000), 0.5)
    assert size.steps == 12


def test_convolutions_are_known_to_be_slow_together_on_a_cpu() -> None:
    import jax
    import keras
    import numpy as np
    from jax.sharding import Mesh

    from distkeras.training.jax.loop import _convolves_on_cpu

    mesh = Mesh(np.array(jax.devices("cpu")[:1]), ("batch",))
    inner = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.DepthwiseConv2D(3)])
    assert _convolves_on_cpu(keras.Sequential([keras.Input((8, 8, 1)), inner]), mesh)
    assert not _convolves_on_cpu(keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)]), mesh)
