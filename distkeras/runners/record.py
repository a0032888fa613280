"""What a run says of itself in its directory: begun once, gone on with by the same command, never mixed up.

Imports neither TensorFlow nor Keras: everything here is known before they start.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distkeras.errors import (
    ConfigError,
    DataError,
    DistkerasError,
    InterruptedRunError,
    PreemptedError,
    error_text,
)
from distkeras.observability.environment import (
    describe_environment,
    git_state,
    package_versions,
    this_program,
)
from distkeras.observability.run_directory import RunDirectory

FORMAT = 1


@dataclass(frozen=True)
class Identity:
    """What makes two starts the same run.

    Attributes:
        name: The run's name.
        digest: Hash of everything that changes its numbers.
        seed: The run's seed.
        epochs: Epochs to train; may grow between two starts.
        command: What started it.
    """

    name: str
    digest: str
    seed: int
    epochs: int
    command: Sequence[str]


def begin(run: RunDirectory, identity: Identity) -> bool:
    """Opens the record for one attempt; the caller holds the run's lock.

    Returns:
        Whether there is anything left to train.

    Raises:
        ConfigError: If the directory holds another run.
    """
    if not run.exists():
        return _begin_new(run, identity)
    manifest = run.read_manifest()
    if manifest["identity"] != identity.digest:
        if not _has_commits(run):
            # A first attempt that failed on a typing error must not stand in the way of the corrected one.
            run.truncate_metrics(0)
            return _begin_new(run, identity)
        raise ConfigError(
            "This directory holds a run of another config, or of other data.",
            place=str(run.path),
            remedy="give this run another name (--set name=...), or remove the old one "
            f"(distkeras runs clean {run.path})",
        )
    if manifest["status"] == "completed" and manifest["epochs"] >= identity.epochs:
        return False
    run.update_manifest(
        status="running",
        error=None,
        finished=None,
        epochs=identity.epochs,
        attempts=manifest["attempts"] + 1,
        command=list(identity.command),
        versions=package_versions(),
    )
    return True


def begin_again(run: RunDirectory) -> None:
    """Counts another attempt of a run that this process holds: its workers are replaced."""
    run.update_manifest(attempts=run.read_manifest()["attempts"] + 1)


def require_same_data(run: RunDirectory, fingerprint: str, name: str) -> None:
    """Refuses data that changed since the run began: its order would differ, and its split.

    Raises:
        DataError: If the fingerprint is not the one the run was trained on.
    """
    was = (run.read_manifest().get("data") or {}).get("fingerprint")
    if was is not None and fingerprint != was:
        raise DataError(
            "The data is no longer what this run was trained on.",
            place=name,
            remedy="restore it, name the place where it still is (data.source.path), or give the run another name",
        )


def describe(run: RunDirectory, **facts: Any) -> None:
    """Adds what is known only once data and devices are open."""
    run.update_manifest(**facts)


def complete(run: RunDirectory, **facts: Any) -> None:
    """Closes the record of a run that reached its end."""
    run.update_manifest(status="completed", finished=time.time(), **facts)


def fail(run: RunDirectory, error: BaseException) -> None:
    """Closes the record of an attempt that ended early, and says why."""
    status = "failed"
    if isinstance(error, InterruptedRunError | KeyboardInterrupt):
        status = "interrupted"
    elif isinstance(error, PreemptedError):
        status = "preempted"
    text = error.problem if isinstance(error, DistkerasError) else error_text(error)
    run.update_manifest(status=status, error=text, finished=time.time())


def this_command() -> list[str]:
    """Returns the command line that started this process, as a person would type it again."""
    return [*this_program(), *sys.argv[1:]]


def _has_commits(run: RunDirectory) -> bool:
    return any(path.is_dir() and any(path.iterdir()) for path in (run.weights, run.checkpoints))


def _begin_new(run: RunDirectory, identity: Identity) -> bool:
    run.write_environment(describe_environment(identity.command, Path.cwd()))
    run.write_manifest(_new_manifest(identity))
    return True


def _new_manifest(identity: Identity) -> dict[str, Any]:
    git = git_state(Path.cwd())
    return {
        "format": FORMAT,
        "name": identity.name,
        "status": "running",
        "identity": identity.digest,
        "seed": identity.seed,
        "epochs": identity.epochs,
        "step": 0,
        "attempts": 1,
        "created": time.time(),
        "finished": None,
        "error": None,
        "command": list(identity.command),
        "git_revision": git["revision"] if git else None,
        "versions": package_versions(),
    }
