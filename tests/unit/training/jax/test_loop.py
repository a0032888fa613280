"""How many steps run in one call into JAX: measured, then chosen once."""

from __future__ import annotations

import pytest

pytest.importorskip("jax", reason="the extra `jax` is not installed")

from distkeras.training.jax.loop import STEPS_MEASURED, CallSize


def measured(size: CallSize, seconds: float) -> CallSize:
    size.observe(9.0)  # compiled in it
    for _ in range(STEPS_MEASURED - 1):
        size.observe(seconds)
    size.agree(size.wish)
    return size


def test_the_size_is_chosen_once_from_the_fastest_step() -> None:
    size = measured(CallSize(None, 1000), 0.002)
    assert size.steps == 50
    size.observe(5.0)
    size.agree(size.wish)
    assert size.steps == 50


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
