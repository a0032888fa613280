"""Plain Keras, one replica, 2 and 4 replicas, 2 worker processes: the same numbers at every step."""

from __future__ import annotations

import numpy as np
import pytest
from parity_cases import CASES, Case

pytestmark = pytest.mark.timeout(900)  # the first tests wait for the workers

RUNGS = [pytest.param(case, rung, id=f"{case.name}-{rung}") for case in CASES for rung in case.rungs]
# One value a step or an epoch; one tensor a run.
SERIES = ("step", "epoch")
TENSORS = ("weights", "predict")


@pytest.mark.parametrize(("case", "rung"), RUNGS)
def test_rung_gives_the_numbers_of_plain_keras(case: Case, rung: str, ladder) -> None:
    reference, actual = ladder.result("keras", case.name), ladder.result(rung, case.name)
    assert sorted(actual) == sorted(reference)
    # Callbacks are told the same batch indices: they see every logging point, once.
    np.testing.assert_array_equal(actual["batches"], reference["batches"])
    differences = [
        difference
        for name in sorted(reference, key=place_in_training)
        if name != "batches"
        for difference in first_difference(name, actual[name], reference[name], case)
    ]
    assert not differences, "\n".join(differences[:5])


@pytest.mark.parametrize(
    "case", [case for case in CASES if "workers-2" in case.rungs], ids=lambda case: case.name
)
def test_workers_end_with_the_same_bits(case: Case, ladder) -> None:
    zero, one = ladder.result("workers-2", case.name), ladder.result("workers-2-others", case.name)
    for name in zero:
        np.testing.assert_array_equal(zero[name], one[name], err_msg=name)


def place_in_training(name: str) -> tuple[int, str]:
    kinds = ("step", "epoch", "weights", "evaluate", "predict", "batches")
    return kinds.index(name.partition("/")[0]), name


def first_difference(name: str, actual: np.ndarray, reference: np.ndarray, case: Case) -> list[str]:
    """Says where two tensors part first: at a step, an epoch or an element."""
    kind = name.partition("/")[0]
    if actual.shape != reference.shape:
        return [f"{name}: shape {actual.shape} instead of {reference.shape}"]
    tolerance = case.weight_tolerance if kind in TENSORS else case.loss_tolerance
    # A weight near 0 has no meaningful relative difference; next to the others of its tensor it has.
    scale = np.maximum(np.abs(reference).max(), 1e-3) if kind in TENSORS else np.abs(reference)
    far = ~(np.abs(actual - reference) <= tolerance * np.maximum(scale, 1e-6))
    if not far.any():
        return []
    index = np.argwhere(far)[0].tolist()
    where = f"{kind} {index[0] + 1}" if kind in SERIES else f"element {index}"
    return [f"{name} first differs at {where}: {actual[tuple(index)]} instead of {reference[tuple(index)]}"]
