"""When the state of training is committed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras

from distkeras.checkpoint.arrays import dump_arrays
from distkeras.checkpoint.streams import Writable
from distkeras.checkpoint.writer import BackgroundWriter
from distkeras.training.callback_state import capture_callbacks, plain_attributes
from distkeras.training.checkpoints import ARRAYS
from distkeras.training.schedule import Cursor
from distkeras.training.state import Arrays, optimizer_targets, require_finite
from distkeras.training.stopping import stop_error


@dataclass(frozen=True)
class CommitPlan:
    """How often a run is committed, and what is said of it.

    Attributes:
        every_epochs: Epochs between two commits.
        resume_command: What a user types to go on.
        metadata: What each commit says of the run.
    """

    every_epochs: int
    resume_command: str
    metadata: dict[str, Any]


class Committer(keras.callbacks.Callback):
    """Commits the state of training in the background; put it last, so that it sees what other callbacks did.

    Args:
        plan: How often.
        cursor: Where training stands.
        epochs: Epochs of the run.
        capture: Copies the state of all workers to rank zero's host. Collective.
        callbacks: Callbacks whose memory belongs to the state.
        writer: What commits in the background; None on the workers that do not write.
        barrier: Waits for all workers. Collective.
    """

    def __init__(
        self,
        plan: CommitPlan,
        *,
        cursor: Cursor,
        epochs: int,
        capture: Callable[[], Arrays],
        callbacks: Sequence[keras.callbacks.Callback],
        writer: BackgroundWriter | None,
        barrier: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._plan, self._cursor, self._epochs = plan, cursor, epochs
        self._capture, self._callbacks, self._writer = capture, callbacks, writer
        self._arguments = [plain_attributes(callback) for callback in callbacks]
        self._barrier = barrier
        self._stop = 0

    def after_chunk(self, stop: int) -> None:
        """Commits where the config says so inside an epoch, and stops the run where it was told to. Collective.

        Args:
            stop: The signal that asked to stop, the same on all workers, or 0.

        Raises:
            InterruptedRunError: After a commit, if the user pressed Ctrl-C.
            PreemptedError: After a commit, if the process was told to go.
            TrainingError: If weights were not finite numbers when they were to be committed.
        """
        if self._writer is not None:
            self._writer.raise_pending()
        if self._cursor.step == self._cursor.asked:
            # The end of an interval, perhaps of an epoch. What is due there, callbacks, the log and validation, belongs
            # to the state: a run that goes on from here does none of it again.
            self._stop = self._stop or stop
        elif stop:
            self._stop_now(stop)
        elif self._cursor.commit_due:
            self.commit()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Stops the run at a logging point where it was told to, and commits where one is due."""
        if self._stop and not self._cursor.at_epoch_end:
            self._stop_now(self._stop)
        if self._cursor.commit_due and self._cursor.workers_met:
            self.commit()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Commits at the end of the epochs that the config names, and of the last one."""
        is_last = epoch + 1 == self._epochs or self.model.stop_training
        if self._stop and not is_last:
            self._stop_now(self._stop)
        if is_last or (epoch + 1) % self._plan.every_epochs == 0:
            self.commit()

    def _stop_now(self, stop: int) -> None:
        self.commit()
        if self._writer is not None:
            self._writer.close()
        # The others would else be gone, and the group ended, before rank zero has committed.
        self._barrier()
        raise stop_error(stop, self._cursor.step, self._plan.resume_command)

    def commit(self) -> None:
        """Copies the state to the host and commits it in the background. Collective.

        Weights that are not finite numbers are found there, and not committed: the writer raises it.

        Raises:
            TrainingError: If so were those of the commit before.
        """
        if self._writer is not None:
            self._writer.close()  # it may still read the memory that the state is copied into
        state = self._capture()
        if self._writer is None:
            return
        step = self._cursor.step
        plain, arrays = capture_callbacks(self._callbacks, self._arguments)
        arrays |= state
        metadata = self._plan.metadata | {
            "callbacks": plain,
            "optimizer_targets": optimizer_targets(self.model),
            "stopped_early": bool(self.model.stop_training),
        }
        self._writer.submit(step, {ARRAYS: partial(_dump_finite, arrays, step)}, metadata)


def _dump_finite(arrays: Arrays, step: int, stream: Writable) -> None:
    require_finite(arrays, step)
    dump_arrays(arrays, stream)
