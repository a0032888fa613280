"""Which commits there are, and which of them can be trusted."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distkeras.checkpoint.manifest import MANIFEST_NAME, FileRecord, Manifest, decode
from distkeras.errors import CheckpointError, ResourceError

_COMMIT_NAME = re.compile(r"step-([0-9]{12})(?:-([0-9]+))?")


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit whose manifest and files were verified.

    A run that goes on may retire it while another process reads: a file is missing then.

    Attributes:
        step: The number of optimizer updates that are complete.
        path: Its directory.
        manifest: What it says about itself.
    """

    step: int
    path: Path
    manifest: Manifest

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the caller committed besides the files."""
        return self.manifest.metadata

    def file(self, name: str) -> Path:
        """Returns the path of one file of the commit.

        Raises:
            CheckpointError: The commit has no such file.
        """
        if name not in self.manifest.files:
            raise CheckpointError(
                f"The checkpoint of step {self.step} has no file {name!r}.",
                place=str(self.path),
                received=sorted(self.manifest.files),
                remedy="Read it with the distkeras that wrote it.",
            )
        return self.path / name

    def read(self, name: str) -> bytes:
        """Returns the content of one file of the commit.

        Raises:
            CheckpointError: The commit has no such file.
        """
        return self.file(name).read_bytes()


@dataclass(frozen=True, slots=True)
class Rejected:
    """A commit that is not trusted; `str()` is a line for the log.

    Attributes:
        path: The file that is torn, flipped or missing.
        reason: What is wrong with it, in words that follow its name.
    """

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path} {self.reason}"


@dataclass(frozen=True, slots=True)
class Found:
    """The newest commit that can be trusted, and the newer ones that cannot.

    Attributes:
        commit: Where to resume.
        rejected: One entry for each newer commit, newest first. Each one is worth a warning.
    """

    commit: Commit
    rejected: tuple[Rejected, ...]


def latest(directory: Path) -> Found | None:
    """Finds the newest commit that can be trusted; every byte of it is read and verified.

    Returns:
        The commit and the newer ones that were skipped, or None where nothing was ever committed.

    Raises:
        CheckpointError: There are commits and none is whole, or a newer distkeras wrote the newest.
        ResourceError: The directory cannot be read.
    """
    rejected: list[Rejected] = []
    for place in _readable_places(directory):
        verdict = _verify(directory / place.name, place.step)
        if isinstance(verdict, Commit):
            return Found(verdict, tuple(rejected))
        if not (directory / place.name).exists():
            # The run that writes here retired it while we read: newer ones are there by now.
            return latest(directory)
        rejected.append(verdict)
    if rejected:
        raise CheckpointError(
            "\n".join(["There are checkpoints, but none is whole:", *(f"  {one}" for one in rejected)]),
            place=str(directory),
            remedy="Restore one of these directories from a copy, or train in another run directory.",
        )
    return None


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Which commit a directory holds; the order is from old to new.

    Attributes:
        step: The step of the commit.
        attempt: How often this step was committed before.
    """

    step: int
    attempt: int

    @property
    def name(self) -> str:
        """The name of the directory."""
        return f"step-{self.step:012d}" + (f"-{self.attempt}" if self.attempt else "")


def places(directory: Path) -> list[Place]:
    """Lists the commits by their names, newest first; none of them is verified.

    Raises:
        OSError: The directory is missing or cannot be read.
    """
    matches = (_COMMIT_NAME.fullmatch(name) for name in os.listdir(directory))
    return sorted((Place(int(m[1]), int(m[2] or 0)) for m in matches if m), reverse=True)


def _readable_places(directory: Path) -> list[Place]:
    try:
        return places(directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ResourceError(
            f"The checkpoints cannot be read: {error.strerror}.",
            place=str(directory),
            remedy="Allow reading there.",
        ) from error


def inspect(path: Path, step: int) -> Commit | Rejected:
    """Verifies the manifest and the size of each file of a commit, without reading the files.

    Raises:
        CheckpointError: A newer distkeras wrote it.
    """
    manifest_path = path / MANIFEST_NAME
    try:
        manifest = decode(manifest_path.read_bytes(), manifest_path)
    except OSError as error:
        return Rejected(manifest_path, f"cannot be read: {error.strerror}")
    except ValueError as error:
        return Rejected(manifest_path, str(error))
    if manifest.step != step:
        return Rejected(manifest_path, f"is the manifest of step {manifest.step}")
    for name, record in manifest.files.items():
        reason = _wrong_size(path / name, record)
        if reason is not None:
            return Rejected(path / name, reason)
    return Commit(step, path, manifest)


def _verify(path: Path, step: int) -> Commit | Rejected:
    """Verifies the manifest and every byte of each file."""
    verdict = inspect(path, step)
    if isinstance(verdict, Commit):
        for name, record in verdict.manifest.files.items():
            reason = _wrong_content(path / name, record)
            if reason is not None:
                return Rejected(path / name, reason)
    return verdict


def _wrong_size(path: Path, record: FileRecord) -> str | None:
    try:
        status = path.lstat()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_size != record.num_bytes:
        return f"has {status.st_size:,} bytes; {record.num_bytes:,} were committed"
    return None


def _wrong_content(path: Path, record: FileRecord) -> str | None:
    try:
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return None if sha256 == record.sha256 else "does not match the SHA-256 it was committed with"
