"""Commits in the background, so that training goes on while the disk works."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from distkeras.checkpoint.commit import commit
from distkeras.checkpoint.streams import FileContent

_logger = logging.getLogger(__name__)


class BackgroundWriter:
    """Commits checkpoints one at a time in a thread of its own.

    An error of a commit, or of a function that writes a file of it, is raised where the training loop passes next: in
    `raise_pending`, `submit` or `close`; once, and never lost. As a context manager it closes itself at the end.

    Args:
        directory: Where the commits of the run are.
        keep: Commits that are kept, at least one.
    """

    def __init__(self, directory: Path, *, keep: int) -> None:
        self._directory = directory
        self._keep = keep
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._error: BaseException | None = None

    def submit(self, step: int, files: Mapping[str, FileContent], metadata: Mapping[str, Any]) -> None:
        """Starts a commit, after the one before it has ended.

        The content is read later, while training goes on: give copies in host memory. An array that shares
        memory with a variable (`np.asarray` of a CPU tensor does) would be committed half updated.

        Args:
            step: The number of optimizer updates that are complete.
            files: As for `commit`.
            metadata: As for `commit`.

        Raises:
            ResourceError: The commit before failed; this one was not started.
            CheckpointError: Likewise.
        """
        self.close()
        ended = threading.Event()
        # A daemon, so that a second Ctrl-C, in `close`, ends the process. It leaves a temporary directory.
        thread = threading.Thread(
            target=self._commit, args=(step, files, metadata, ended), name="checkpoint-writer", daemon=True
        )
        # Before it starts: Ctrl-C may come while `start` waits for the thread, which then commits already.
        self._thread, self._ended = thread, ended
        try:
            thread.start()
        except BaseException:
            if thread.ident is None:  # it never ran
                self._thread = None
            raise

    def raise_pending(self) -> None:
        """Raises the error of a commit that has failed; does not wait. Cheap enough for every step.

        Raises:
            ResourceError: The disk is full, read-only or not ours to write.
            CheckpointError: What was submitted cannot be committed.
        """
        if self._error is not None:
            self.close()

    def close(self) -> None:
        """Waits until the last commit has ended, however long it takes; does nothing where there is none.

        Raises:
            ResourceError: The disk is full, read-only or not ours to write.
            CheckpointError: What was submitted cannot be committed.
        """
        if self._thread is not None:
            # `join` alone may not wait the second time: up to Python 3.12 a thread whose `join` was interrupted
            # by Ctrl-C counts as ended (https://github.com/python/cpython/issues/90882).
            self._ended.wait()
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except Exception as second:
            # The first error ends the run and is the one to show; the other one goes with it.
            error.add_note(f"Besides, the last checkpoint was not committed: {second}")
            _logger.error("The last checkpoint was not committed: %s", second)

    def _commit(
        self,
        step: int,
        files: Mapping[str, FileContent],
        metadata: Mapping[str, Any],
        ended: threading.Event,
    ) -> None:
        try:
            path = commit(self._directory, step, files, metadata, keep=self._keep)
            _logger.info("Committed the checkpoint of step %d in %s.", step, path)
        except BaseException as error:
            self._error = error
        finally:
            ended.set()
