"""The order of a stream: as it comes, and no example twice. Its epochs are pieces of equal length."""

from __future__ import annotations

import numpy as np

from distkeras.config.sections import TrainingSection
from distkeras.config.stream_rules import nearest_steps
from distkeras.data.order import Order, Visits
from distkeras.data.permutation import Int64Array
from distkeras.errors import ConfigError, DataError


class AsItComes(Order):
    """Epoch after epoch by id, each going on where the one before ended.

    Args:
        num_examples: Examples of an epoch.
    """

    def __init__(self, num_examples: int) -> None:
        self.num_examples = num_examples

    def visits(self, epoch: int, positions: Int64Array) -> Visits:
        return Visits(epoch * self.num_examples + positions, np.zeros_like(positions))


def no_end(name: str) -> DataError:
    """Returns the error for what would have to go through a whole stream: evaluation, or learning of the data."""
    return DataError(
        "A stream has no end, so nothing can go through all of it.",
        place=name,
        remedy="train on it, and give stored data for the rest",
    )


def stream_order(training: TrainingSection) -> AsItComes:
    """Returns the order of a stream that is trained on for `training.num_steps`.

    Raises:
        ConfigError: If the number of steps is not given, or does not divide by the epochs.
    """
    if training.num_steps is None:
        raise ConfigError(
            "A stream has no length, so its epochs have none either.",
            place="training.num_steps",
            remedy="give the number of steps to train, over all epochs",
        )
    steps_per_epoch, rest = divmod(training.num_steps, training.epochs)
    if rest or not steps_per_epoch:
        raise ConfigError(
            f"The steps do not divide by {training.epochs} epochs.",
            place="training.num_steps",
            received=training.num_steps,
            remedy=f"use {nearest_steps(training.num_steps, training.epochs)}",
        )
    return AsItComes(steps_per_epoch * training.global_batch_size)
