"""The commit protocol: a checkpoint is there as a whole, or it is not there.

A commit is a directory `step-<12 digits>` that holds files and a sealed manifest. It is written as `.tmp-...`
and gets its name in one rename, when everything in it is on the disk. Committing a step again writes
`step-<12 digits>-<attempt>` beside the first one, because a rename cannot replace a directory that is not
empty; a reader takes the highest attempt, so there is no moment without a whole one.

One process at a time may commit into a directory. The lock of the run directory ensures that; nothing here
does. Any number of processes may read meanwhile.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distkeras.checkpoint.manifest import MANIFEST_NAME, Manifest, encode, is_file_name
from distkeras.checkpoint.reading import Commit, Found, Place, Rejected, inspect, latest, places
from distkeras.checkpoint.streams import ByteCounter, FileContent, Writable, send, write_file
from distkeras.errors import CheckpointError, ConfigError, ResourceError

__all__ = ["Commit", "FileContent", "Found", "Rejected", "Writable", "commit", "latest", "remove_leftovers"]

MAX_STEP = 10**12 - 1
_TEMPORARY_PREFIX = ".tmp-"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def commit(
    directory: Path,
    step: int,
    files: Mapping[str, FileContent],
    metadata: Mapping[str, Any],
    *,
    keep: int,
) -> Path:
    """Commits a checkpoint: afterwards it survives a crash of the process and of the machine.

    At any moment of the call a reader finds the commits of before, or those and the new one. Older commits
    are removed at the end only: the new one and the `keep - 1` newest whole ones before it stay. Commits of
    later steps stay too; the run writes them again when it gets there.

    The disk holds `keep + 1` checkpoints for a moment.

    Args:
        directory: Where the commits of the run are; made when it is missing.
        step: The number of optimizer updates that are complete.
        files: The content of each file, by a name without folders.
        metadata: JSON values to commit with the files: data position, seeds, world size, versions.
        keep: Commits that are kept, at least one.

    Returns:
        The directory of the commit.

    Raises:
        ResourceError: The disk is full, read-only or not ours to write. What was committed before is intact
            and the temporary directory is gone.
        CheckpointError: The metadata is not JSON, a file name is not plain, or a newer distkeras wrote here.
    """
    _check_request(step, files, keep)
    try:
        _make_directory(directory)
        remove_leftovers(directory)
        fallbacks = _fallbacks(directory, step)
        place = Place(step, _next_attempt(directory, step))
        parent = fallbacks[0].step if fallbacks else None
        _write(directory, place, files, parent, metadata)
    except OSError as error:
        raise _not_committed(error, directory, step, files) from error
    try:
        _retire(directory, place, fallbacks[: keep - 1])
    except OSError as error:
        raise ResourceError(
            f"The checkpoint of step {step} is committed, but an older one could not be removed: "
            f"{error.strerror}.",
            place=str(directory),
            remedy="Allow writing and deleting there; the same command resumes from the new checkpoint.",
        ) from error
    return directory / place.name


def remove_leftovers(directory: Path) -> None:
    """Removes what a crash left half written or half deleted.

    Only the process that holds the lock of the run may call it: the leftovers of a process that is alive are
    its work.
    """
    for path in directory.glob(f"{_TEMPORARY_PREFIX}*"):
        shutil.rmtree(path)


def _next_attempt(directory: Path, step: int) -> int:
    return max((place.attempt + 1 for place in places(directory) if place.step == step), default=0)


def _fallbacks(directory: Path, step: int) -> list[Place]:
    """Returns the newest whole commit of each earlier step, newest first.

    Sizes are checked and contents are not: reading gigabytes at each commit would cost more than it saves.
    """
    found: list[Place] = []
    for place in places(directory):
        is_next = place.step < step and (not found or place.step < found[-1].step)
        if is_next and isinstance(inspect(directory / place.name, place.step), Commit):
            found.append(place)
    return found


def _check_request(step: int, files: Mapping[str, FileContent], keep: int) -> None:
    if keep < 1:
        raise ConfigError("At least one checkpoint must be kept.", place="checkpoint.keep", received=keep)
    if not 0 <= step <= MAX_STEP:
        raise CheckpointError("The step of a checkpoint must have at most 12 digits.", received=step)
    for name in files:
        if not is_file_name(name):
            raise CheckpointError(
                "A file of a checkpoint must have a plain name.",
                received=name,
                remedy="Use letters, digits, `.`, `_` and `-`, and another name than manifest.json.",
            )


def _make_directory(directory: Path) -> None:
    if not directory.is_dir():
        directory.mkdir(parents=True, exist_ok=True)
        _sync_directory(directory.parent)


def _write(
    directory: Path,
    place: Place,
    files: Mapping[str, FileContent],
    parent: int | None,
    metadata: Mapping[str, Any],
) -> None:
    temporary = directory / f"{_TEMPORARY_PREFIX}{place.step:012d}-{place.attempt}"
    try:
        temporary.mkdir()
        records = {name: write_file(temporary / name, content) for name, content in files.items()}
        write_file(temporary / MANIFEST_NAME, encode(Manifest(place.step, parent, metadata, records)))
        # A name can reach the disk before the bytes it stands for: everything inside is synced before the
        # rename, and the rename before anything older is removed.
        _sync_directory(temporary)
        temporary.rename(directory / place.name)
        _sync_directory(directory)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _retire(directory: Path, newest: Place, fallbacks: list[Place]) -> None:
    # Renamed first: a commit that is half deleted must not look like a torn one. No sync: a loss of power may
    # bring back what is older than the newest, and that does no harm.
    retired: list[Path] = []
    for place in places(directory):
        if place < newest and place not in fallbacks:
            target = directory / f"{_TEMPORARY_PREFIX}retired-{place.name}"
            retired.append((directory / place.name).rename(target))
    for path in retired:
        shutil.rmtree(path)


def _not_committed(
    error: OSError, directory: Path, step: int, files: Mapping[str, FileContent]
) -> ResourceError:
    if error.errno in _DISK_FULL:
        counter = ByteCounter()
        for content in files.values():
            send(content, counter)
        return ResourceError(
            f"{error.strerror}: the checkpoint of step {step} needs {counter.num_bytes:,} bytes, "
            f"{_free_bytes(directory):,} are free.",
            place=str(directory),
            remedy="Free disk space, or keep fewer checkpoints (`checkpoint.keep`). "
            "What was committed before is intact: the same command resumes from it.",
        )
    return ResourceError(
        f"The checkpoint of step {step} could not be written: {error.strerror or error}.",
        place=str(error.filename or directory),
        remedy="Allow writing there, or set another `output_dir`. What was committed before is intact.",
    )


def _free_bytes(directory: Path) -> int:
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    return shutil.disk_usage(existing).free
