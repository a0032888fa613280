"""Removing a run, and nothing that is not a run's."""

from __future__ import annotations

import shutil
from pathlib import Path

from distkeras.errors import ConfigError
from distkeras.observability.atomic_files import explained
from distkeras.observability.run_directory import RunDirectory

LOCK = ".lock"

# Other programs have a manifest.json too: the root of a browser extension must not pass for a run.
_OF_EVERY_MANIFEST = {"format", "identity", "name", "status"}


def check_removable(run: RunDirectory) -> None:
    """Refuses what is not a run's own directory.

    Raises:
        ConfigError: If no run was started there, or the directory is a link.
    """
    manifest = run.read_manifest()
    if not manifest.keys() >= _OF_EVERY_MANIFEST:
        raise ConfigError(
            "This is not the manifest.json of a run; nothing is removed.", place=str(run.manifest_path)
        )
    if run.path.is_symlink():
        raise ConfigError(
            "This run directory is a link; nothing is removed.",
            place=str(run.path),
            remedy=f"name the directory itself: {run.path.resolve()}",
        )


def remove_run(run: RunDirectory) -> list[Path]:
    """Removes what runs write, and the directory where that leaves it empty.

    Returns:
        What is kept, because no run wrote it.

    Raises:
        ConfigError: If this is not a run's directory.
        ResourceError: If a process trains in it, or it cannot be removed.
    """
    check_removable(run)
    with run.locked(), explained("remove the run", run.path):
        for path in (run.events, run.checkpoints, run.weights, run.logs):
            _remove(path)
        for path in (run.config_path, run.environment_path, run.metrics_path, run.evaluation_path):
            _remove(path)
        for path in (run.report_path, run.report_markdown_path):
            _remove(path)
        # What makes it a run goes last, so that an interrupted removal can be repeated.
        _remove(run.manifest_path)
        _remove(run.path / LOCK)
        kept = sorted(run.path.iterdir())
        if not kept:
            run.path.rmdir()
    return kept


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
