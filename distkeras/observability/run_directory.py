"""The directory of one run: what lies where, who may write, and how it is read back."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distkeras.errors import ConfigError, ResourceError
from distkeras.observability import metrics_file
from distkeras.observability.atomic_files import explained, read_json, write_json
from distkeras.observability.metrics_file import Row


@dataclass(frozen=True)
class RunDirectory:
    """The files of one run. Everything in it is plain text, apart from weights and TensorBoard events.

    Attributes:
        path: The directory, `<output_dir>/<name>`.
    """

    path: Path

    @property
    def config_path(self) -> Path:
        """The config as it was resolved when the run began."""
        return self.path / "config.resolved.yaml"

    @property
    def environment_path(self) -> Path:
        """Machine, versions, git revision and command line."""
        return self.path / "env.json"

    @property
    def metrics_path(self) -> Path:
        """One JSON row for each logging point."""
        return self.path / "metrics.jsonl"

    @property
    def manifest_path(self) -> Path:
        """What the run is and how far it got."""
        return self.path / "manifest.json"

    @property
    def evaluation_path(self) -> Path:
        """The result on the test data."""
        return self.path / "evaluation.json"

    @property
    def events(self) -> Path:
        """Directory of the TensorBoard event files."""
        return self.path / "events"

    @property
    def checkpoints(self) -> Path:
        """Directory of the committed checkpoints."""
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        """Directory of the weights that the finished run ended with."""
        return self.path / "weights"

    @property
    def logs(self) -> Path:
        """Directory of one log file a rank."""
        return self.path / "logs"

    @property
    def preprocessing_path(self) -> Path:
        """What was learnt of the training data before training: vocabularies, means, categories."""
        return self.path / "preprocessing.json"

    @property
    def stop_path(self) -> Path:
        """Asks the workers to stop, where it exists: it holds a signal's number."""
        return self.path / "stop"

    @property
    def report_path(self) -> Path:
        """The report as one HTML page."""
        return self.path / "report.html"

    @property
    def report_markdown_path(self) -> Path:
        """The report as Markdown."""
        return self.path / "report.md"

    def log_path(self, rank: int) -> Path:
        """Returns the log file of one worker."""
        return self.logs / f"rank-{rank}.log"

    def error_path(self, rank: int) -> Path:
        """Returns the file in which one worker says why it failed."""
        return self.logs / f"rank-{rank}.error.json"

    @property
    def relay_path(self) -> Path:
        """What rank zero tells the process that started it, to be shown there."""
        return self.logs / "progress.jsonl"

    def create(self) -> None:
        """Makes the directory and the ones inside it; those that exist are kept.

        Raises:
            ResourceError: If the place cannot be written.
        """
        with explained("create the run directory", self.path):
            for path in (self.path, self.events, self.checkpoints, self.logs):
                path.mkdir(parents=True, exist_ok=True)

    def exists(self) -> bool:
        """Whether a run was started here."""
        return self.manifest_path.is_file()

    def read_manifest(self) -> dict[str, Any]:
        """Reads manifest.json.

        Raises:
            ConfigError: If no run was started here.
            DataError: If the file is damaged.
        """
        if not self.exists():
            raise ConfigError(
                "There is no run in this directory: it has no manifest.json.",
                place=str(self.path),
                remedy="check the path; `distkeras runs list` shows the runs that exist",
            )
        return read_json(self.manifest_path)

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Writes manifest.json as a whole."""
        write_json(self.manifest_path, manifest)

    def update_manifest(self, **changes: Any) -> dict[str, Any]:
        """Changes some entries of manifest.json and returns the whole of it."""
        manifest = self.read_manifest() | changes
        self.write_manifest(manifest)
        return manifest

    def read_environment(self) -> dict[str, Any] | None:
        """Reads env.json; None where it was not written."""
        return _read_if_there(self.environment_path)

    def write_environment(self, environment: dict[str, Any]) -> None:
        """Writes env.json."""
        write_json(self.environment_path, environment)

    def read_preprocessing(self) -> dict[str, Any] | None:
        """Reads preprocessing.json, what was learnt of the training data; None where nothing was yet."""
        return _read_if_there(self.preprocessing_path)

    def write_preprocessing(self, learnt: dict[str, Any]) -> None:
        """Writes preprocessing.json."""
        write_json(self.preprocessing_path, learnt)

    def read_evaluation(self) -> dict[str, Any] | None:
        """Reads evaluation.json; None where the run was not evaluated yet."""
        return _read_if_there(self.evaluation_path)

    def write_evaluation(self, evaluation: dict[str, Any]) -> None:
        """Writes evaluation.json."""
        write_json(self.evaluation_path, evaluation)

    def read_metrics(self) -> list[Row]:
        """Reads all complete rows of metrics.jsonl, oldest first."""
        return metrics_file.read_metrics(self.metrics_path)

    def truncate_metrics(self, step: int) -> None:
        """Drops the rows after `step`, before a run resumes there."""
        metrics_file.truncate_metrics(self.metrics_path, step)

    @contextmanager
    def locked(self) -> Generator[None]:
        """Holds the run for this process: a second live driver on one run directory is refused.

        The kernel gives the lock back when the process ends, however it ends, so that none is ever stale.
        A child made by a bare `os.fork()` shares the lock and keeps it while it lives.

        Raises:
            ResourceError: If another process holds the run, named by its pid, or the place cannot be written.
        """
        path = self.path / ".lock"
        with explained("lock the run directory", path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._take(descriptor, path)
            yield
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int, path: Path) -> None:
        with explained("lock the run directory", path):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                pid = os.read(descriptor, 32).decode(errors="replace").strip()
                raise _held_by(pid, self.path) from error
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())


def list_runs(output_dir: Path) -> list[RunDirectory]:
    """Returns the runs directly below `output_dir`, by name.

    Raises:
        ResourceError: If the directory cannot be read.
    """
    if not output_dir.exists():
        return []
    with explained("list the runs", output_dir):
        runs = [RunDirectory(path) for path in sorted(output_dir.iterdir())]
    return [run for run in runs if run.exists()]


def _held_by(pid: str, path: Path) -> ResourceError:
    holder = f"process {pid}" if pid else "another process"
    return ResourceError(
        f"This run directory is in use by {holder}.",
        place=str(path),
        remedy="wait until that process ends or stop it, or give this run another `name`",
    )


def _read_if_there(path: Path) -> dict[str, Any] | None:
    return read_json(path) if path.is_file() else None
