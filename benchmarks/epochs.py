"""Epochs of a training: when each began and ended, as a callback sees it, and `dk.Trainer` as the one that trains."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any


class EpochMarks:
    """When the epochs of one training began and ended.

    What Keras and other callbacks do at the end of an epoch lies between two epochs, if this callback is the first.
    """

    def __init__(self) -> None:
        self._begins: list[float] = []
        self._ends: list[float] = []

    def callback(self) -> Any:
        """Returns the Keras callback that marks; give it as the first one."""
        import keras

        return keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs=None: self._begins.append(time.perf_counter()),
            on_epoch_end=lambda epoch, logs=None: self._ends.append(time.perf_counter()),
        )

    @property
    def seconds(self) -> list[float]:
        """Seconds from the beginning of each epoch to its last step; the first one traces and compiles."""
        return [end - begin for begin, end in zip(self._begins, self._ends, strict=True)]

    @property
    def pauses(self) -> list[float]:
        """Seconds between the last step of each epoch, but the last, and the beginning of the next one."""
        return [begin - end for (_, begin), end in zip(pairwise(self._begins), self._ends, strict=False)]


def train_epochs(
    build_model: Callable[[], Any],
    data: tuple[Any, Any],
    *,
    epochs: int,
    batch_size: int,
    settings: Mapping[str, Any] | None = None,
    callbacks: Sequence[Any] = (),
) -> EpochMarks:
    """Trains with `dk.Trainer` and returns when its epochs began and ended.

    Args:
        build_model: Returns a compiled model; it imports Keras inside.
        data: (features, labels).
        epochs: Passes over the data. Without other settings only the last one is committed.
        batch_size: The global batch size.
        settings: As `dk.Trainer` has them.
        callbacks: Keras callbacks beside the one that marks.
    """
    chosen = {"checkpoint.every_epochs": epochs, "logging.tensorboard": False, **(settings or {})}
    # Keras chooses once, while it is imported, which `dk.Trainer` does.
    os.environ["KERAS_BACKEND"] = chosen.get("engine", "tensorflow")
    import distkeras as dk

    marks = EpochMarks()
    with tempfile.TemporaryDirectory() as folder:
        trainer = dk.Trainer(
            "run", epochs=epochs, global_batch_size=batch_size, output_dir=folder, settings=chosen
        )
        trainer.fit(build_model, data, callbacks=[marks.callback(), *callbacks])
    return marks
