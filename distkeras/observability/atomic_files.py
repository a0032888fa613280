"""Files that are whole or absent, and operating-system errors said in a sentence."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distkeras.errors import DataError, ResourceError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM}
_NOT_A_DIRECTORY = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
_ELSEWHERE = "choose another `output_dir`"


def explain_os_error(error: OSError, action: str, path: Path, free_bytes: int | None) -> ResourceError:
    """Returns what a user is told when the operating system refuses `action` on `path`.

    Args:
        error: What the operating system said.
        action: What was tried, as a verb phrase: `write manifest.json`.
        path: The file or directory it was tried on.
        free_bytes: Free space on the disk of `path`; None where it is not known.
    """
    if error.errno in _FULL:
        free = "" if free_bytes is None else f"; {free_bytes:,} bytes are free there"
        problem, remedy = f"The disk is full: could not {action}", f"free some space{free}, or {_ELSEWHERE}"
    elif error.errno in _FORBIDDEN:
        problem, remedy = f"No permission to {action}", f"change the directory's permissions, or {_ELSEWHERE}"
    elif error.errno == errno.EROFS:
        problem, remedy = f"The file system is read-only: could not {action}", _ELSEWHERE
    elif error.errno in _NOT_A_DIRECTORY:
        problem = f"A file is in the way: could not {action}"
        remedy = f"move that file away, or {_ELSEWHERE}"
    else:
        problem = f"Could not {action}: {error.strerror or error}"
        remedy = f"check the disk, or {_ELSEWHERE}"
    return ResourceError(f"{problem}.", place=str(path), remedy=remedy)


@contextmanager
def explained(action: str, path: Path) -> Generator[None]:
    """Turns an `OSError` of the block into a `ResourceError` that names `action` and `path`."""
    try:
        yield
    except OSError as error:
        raise explain_os_error(error, action, path, _free_bytes(path)) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file so that a reader, or the next start after a crash, sees the old content or the new.

    Raises:
        ResourceError: If the disk is full or the place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explained(f"write {path.name}", path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            _fsync_directory(path.parent)
        finally:
            if temporary.exists():
                temporary.unlink()


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file atomically; values that are not finite are refused, JSON has no word for them."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds one object.

    Raises:
        DataError: If it is not one JSON object.
        ResourceError: If it cannot be read.
    """
    with explained(f"read {path.name}", path):
        content = path.read_bytes()
    try:
        value = json.loads(content)
    except ValueError as error:
        raise _not_an_object(path, str(error)) from error
    if not isinstance(value, dict):
        raise _not_an_object(path, f"a {type(value).__name__}")
    return value


def _not_an_object(path: Path, received: str) -> DataError:
    return DataError(
        f"{path.name} does not hold a JSON object.",
        place=str(path),
        received=received,
        remedy="restore the file, or start the run again under another name",
    )


def _fsync_directory(path: Path) -> None:
    # The new name itself is lost in a power cut unless the directory is flushed too.
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free_bytes(path: Path) -> int | None:
    for place in (path, *path.parents):
        try:
            return shutil.disk_usage(place).free
        except OSError:
            continue
    return None
