"""Why a group of workers ended early, and whether it starts again: decided from what happened, nothing is done here."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distkeras.errors import DistkerasError, ResourceError, TrainingError


@dataclass(frozen=True)
class Failure:
    """Why a group of workers ended early.

    Attributes:
        error: What the user would be told.
        step: The step that was committed last when it happened; 0 where there is none.
        is_loss: Whether a worker disappeared, rather than raised an error.
        is_expected: Whether the error is one that this package raises about its input.
    """

    error: DistkerasError
    step: int
    is_loss: bool
    is_expected: bool = False


@dataclass(frozen=True)
class WorkerError:
    """Why a worker failed.

    Attributes:
        rank: Which worker.
        seconds: When, in seconds since the epoch.
        error: What the user is told.
        is_expected: Whether this package raised it, rather than code that it called.
        is_consequence: Whether it only says that another worker had gone.
    """

    rank: int
    seconds: float
    error: DistkerasError
    is_expected: bool
    is_consequence: bool


class GroupError(Exception):
    """A group of workers ended early.

    Args:
        errors: What the workers said, the cause first.
        lost: Ranks that disappeared, with the signal that ended each; 0 where it is not known.
    """

    def __init__(self, errors: Sequence[WorkerError], lost: Mapping[int, int]) -> None:
        super().__init__(f"{len(errors)} errors, {len(lost)} workers lost")
        self.errors = errors
        self.lost = lost

    def cause(self, step: int) -> Failure:
        """Returns the failure that the others follow from.

        Args:
            step: The step that was committed last.
        """
        causes = [error for error in self.errors if not error.is_consequence]
        if causes:
            first = causes[0]
            return Failure(first.error, step, is_loss=False, is_expected=first.is_expected)
        if self.lost:
            rank, number = next(iter(sorted(self.lost.items())))
            how = f" ({signal.Signals(number).name})" if number else ""
            return Failure(_lost(f"The worker of rank {rank} was lost{how}.", rank), step, is_loss=True)
        error = self.errors[0].error if self.errors else _lost("The workers ended without a word.", 0)
        return Failure(error, step, is_loss=True)


def may_retry(failures: Sequence[Failure], max_failures: int) -> bool:
    """Says whether to start again from the last commit.

    A lost worker is replaced as often as the budget allows. An error that this package raises about config, data or
    numbers would come again. Any other error is tried once more: what comes again at the same step is no accident.

    Args:
        failures: All failures of the run so far, the last one last.
        max_failures: How many are tolerated.
    """
    last = failures[-1]
    if len(failures) > max_failures:
        return False
    if last.is_expected and not isinstance(last.error, ResourceError):
        return False
    return last.is_loss or not any(_is_same(last, earlier) for earlier in failures[:-1])


def _is_same(a: Failure, b: Failure) -> bool:
    return not b.is_loss and (a.error.problem, a.step) == (b.error.problem, b.step)


def _lost(problem: str, rank: int) -> DistkerasError:
    return TrainingError(
        problem,
        place=f"rank {rank}",
        remedy=f"look at the end of logs/rank-{rank}.log; a SIGKILL is often the machine running out of memory",
    )
