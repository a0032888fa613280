"""Which failure is the cause of a group's end, and whether the run starts again."""

from __future__ import annotations

import pytest

from distkeras.errors import ConfigError, DistkerasError, ResourceError, TrainingError
from distkeras.runners.failures import Failure, GroupError, WorkerError, may_retry

LOST = Failure(TrainingError("The worker of rank 1 was lost."), 20, is_loss=True)


def raised(error: DistkerasError, step: int = 20, *, is_expected: bool = False) -> Failure:
    return Failure(error, step, is_loss=False, is_expected=is_expected)


@pytest.mark.parametrize(
    ("failures", "max_failures", "expected"),
    [
        ([LOST], 3, True),
        ([LOST, LOST, LOST], 3, True),
        ([LOST, LOST, LOST, LOST], 3, False),
        ([LOST], 0, False),
        ([raised(TrainingError("ValueError: x"))], 3, True),
        ([raised(TrainingError("ValueError: x")), raised(TrainingError("ValueError: x"))], 3, False),
        ([raised(TrainingError("ValueError: x")), raised(TrainingError("ValueError: y"))], 3, True),
        ([raised(TrainingError("ValueError: x"), 20), raised(TrainingError("ValueError: x"), 40)], 3, True),
        ([raised(TrainingError("ValueError: x")), LOST, raised(TrainingError("ValueError: x"))], 3, False),
        ([raised(ConfigError("wrong"), is_expected=True)], 3, False),
        ([raised(TrainingError("NaN"), is_expected=True)], 3, False),
        ([raised(ResourceError("The workers could not meet."), is_expected=True)], 3, True),
    ],
)
def test_what_is_tried_again(failures: list[Failure], max_failures: int, expected: bool) -> None:
    assert may_retry(failures, max_failures) is expected


def said(rank: int, seconds: float, text: str, *, is_consequence: bool = False) -> WorkerError:
    return WorkerError(rank, seconds, TrainingError(text), False, is_consequence)


def test_the_first_error_that_is_no_consequence_is_the_cause() -> None:
    errors = [said(1, 2.0, "the cause"), said(0, 1.0, "peer gone", is_consequence=True)]
    assert GroupError(errors, {}).cause(7).error.problem == "the cause"


def test_a_lost_worker_is_the_cause_of_what_the_others_say() -> None:
    cause = GroupError([said(0, 1.0, "peer gone", is_consequence=True)], {1: 9}).cause(7)
    assert cause.error.problem == "The worker of rank 1 was lost (SIGKILL)."
    assert cause.is_loss
    assert cause.step == 7


def test_workers_that_only_lost_each_other_are_a_loss() -> None:
    cause = GroupError([said(0, 1.0, "peer gone", is_consequence=True)], {}).cause(7)
    assert cause.is_loss
    assert cause.error.problem == "peer gone"


def test_workers_that_said_nothing_are_a_loss() -> None:
    assert GroupError([], {}).cause(0).error.problem == "The workers ended without a word."
