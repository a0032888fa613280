"""What replicas keep apart, and what must not change a bit of the result."""

from __future__ import annotations

import numpy as np
import pytest

pytestmark = pytest.mark.timeout(900)  # the first tests wait for the workers


def on(probe: str, *numbers: int) -> pytest.MarkDecorator:
    """Asks for a probe on some numbers of replicas."""
    return pytest.mark.parametrize(("probe", "replicas"), [(probe, number) for number in numbers])


@on("dropout_masks", 2, 4)
def test_dropout_masks_differ_between_replicas(probe: str, replicas: int, ladder) -> None:
    kept = ladder.result(f"replicas-{replicas}", probe)["first"]
    assert set(np.unique(kept)) <= set(range(replicas + 1))
    # With one mask for all, every feature would be kept by all or by none; here chance leaves few of those.
    kept_by_some = ((kept > 0) & (kept < replicas)).mean()
    assert kept_by_some > (1 - 0.5 ** (replicas - 1)) - 0.15


@on("dropout_masks", 1, 2, 4)
def test_dropout_masks_are_the_same_in_two_runs(probe: str, replicas: int, ladder) -> None:
    runs = ladder.result(f"replicas-{replicas}", probe)
    np.testing.assert_array_equal(runs["first"], runs["second"])


@on("batch_norm_statistics", 1, 2, 4)
def test_moving_statistics_are_the_mean_of_the_replicas_own(probe: str, replicas: int, ladder) -> None:
    # The last batch has one example: with more replicas, the others' statistics stay as they are.
    statistics = ladder.result(f"replicas-{replicas}", probe)
    np.testing.assert_allclose(statistics["actual"], statistics["expected"], rtol=1e-5)


@on("predicted_order", 1, 2, 4)
def test_outputs_come_in_the_order_of_the_data_without_duplicates(probe: str, replicas: int, ladder) -> None:
    predicted = ladder.result(f"replicas-{replicas}", probe)
    np.testing.assert_array_equal(predicted["outputs"], predicted["numbers"])
    assert predicted["loss"] == pytest.approx(1.0)


@on("steps_per_execution", 1, 2)
def test_steps_per_execution_does_not_change_a_bit(probe: str, replicas: int, ladder) -> None:
    runs = ladder.result(f"replicas-{replicas}", probe)
    np.testing.assert_array_equal(runs["1"], runs["7"])
    np.testing.assert_array_equal(runs["1"], runs["auto"])


@on("deterministic", 1, 2)
def test_deterministic_runs_are_equal_in_every_bit(probe: str, replicas: int, ladder) -> None:
    runs = ladder.result(f"replicas-{replicas}", probe)
    np.testing.assert_array_equal(runs["first"], runs["second"])
