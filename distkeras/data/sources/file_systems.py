"""Data files on a local disk, or behind a URI that fsspec opens: found, opened, and checked for changes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import pyarrow as pa

from distkeras.errors import ConfigError, DataError

# What the file systems of fsspec call that which changes with a file, best first: there is no one name.
_VERSION_KEYS = ("ETag", "etag", "generation", "md5Hash", "mtime", "LastModified", "last_modified", "created")

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class StoredFile:
    """A file as it was when it was found.

    Attributes:
        path: What its file system calls it.
        num_bytes: Its length.
        version: Changes when the file is written again.
        file_system: The file system of fsspec that it lies in; None: the local disk.
    """

    path: str
    num_bytes: int
    version: str
    file_system: Any = None

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name

    def open(self) -> pa.NativeFile:
        """Opens it for random access; a local file is mapped into memory.

        Raises:
            DataError: If it is gone, cannot be read, or is not the file that was found.
        """
        self.check_unchanged()
        if self.file_system is None:
            return _guarded(self.path, lambda: pa.memory_map(self.path))
        # Arrow knows which ranges it wants: reading ahead would fetch what lies between them, too.
        stream = _guarded(self.path, lambda: self.file_system.open(self.path, "rb", cache_type="none"))
        return pa.PythonFile(stream, mode="r")

    def check_unchanged(self) -> None:
        """Checks that the file is still the one that was found.

        Raises:
            DataError: If it is gone, or was written since.
        """
        now = _stored(self.path, self.file_system)
        if now != self:
            raise DataError(
                "A data file has changed since it was opened.",
                place=self.path,
                received=f"{now.num_bytes:,} bytes, and {self.num_bytes:,} when it was opened",
                remedy="Do not change data files during a run; start again.",
            )


def local_file(path: Path) -> StoredFile:
    """Returns a file of the local disk.

    Raises:
        DataError: If there is no such file, or it may not be read.
    """
    return _stored(str(path), None)


def find_files(location: str, suffix: str, kind: str) -> list[StoredFile]:
    """Returns the file at a location, or the files of the folder there whose names have a suffix, by name.

    Args:
        location: A local path, or a URI: what contains "://".
        suffix: How the names of a folder's files end, ".parquet"; others and sub-folders are left out.
        kind: What such files are called in errors.

    Raises:
        DataError: If there is nothing, or a folder without such files.
        ConfigError: If nothing here opens such a URI.
    """
    path, file_system = _resolve(location)
    if file_system is None:
        is_file, is_folder = os.path.isfile(path), os.path.isdir(path)
    else:
        is_file = _guarded(location, lambda: file_system.isfile(path))
        is_folder = not is_file and _guarded(location, lambda: file_system.isdir(path))
    if not is_file and not is_folder:
        raise DataError(
            f"There is no such {kind} file or folder.",
            place=location,
            remedy="Correct data.source.path; a path is relative to the config file, a URI is taken as it is.",
        )
    if is_file:
        return [_stored(path, file_system)]
    # By name, because file systems list a folder in any order.
    names = sorted(_guarded(location, lambda: _names_in(path, file_system)))
    wanted = [name for name in names if name.endswith(suffix) and not name.startswith(".")]
    if not wanted:
        raise DataError(
            f"A folder has no {suffix} files.",
            place=location,
            remedy="Correct data.source.path; files in sub-folders are not read.",
        )
    return [_stored(f"{path.rstrip('/')}/{name}", file_system) for name in wanted]


def _resolve(location: str) -> tuple[str, Any]:
    """Returns a path and the file system that it is in; None for the local disk."""
    if "://" not in location:
        return location, None
    # Imported here: local files need none of it.
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    _check_protocol(location)
    file_system, path = _guarded(location, lambda: url_to_fs(location))
    return path, None if isinstance(file_system, LocalFileSystem) else file_system


def _check_protocol(location: str) -> None:
    from fsspec.registry import get_filesystem_class

    protocol = re.split("::|://", location)[0]
    try:
        get_filesystem_class(protocol)
    except ImportError as error:
        package = getattr(error.__cause__, "name", None)
        raise ConfigError(
            f"What opens {protocol}:// locations is not installed.",
            place=location,
            received=str(error),
            remedy=f"pip install {package}" if package else "Install the package that it names.",
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"No file system is known for {protocol}:// locations.",
            place=location,
            remedy="Give a local path, or a URI that fsspec opens, as in s3://bucket/folder.",
        ) from error


def _names_in(path: str, file_system: Any) -> list[str]:
    if file_system is None:
        return [entry.name for entry in os.scandir(path) if entry.is_file()]
    entries = file_system.ls(path, detail=True)
    return [PurePosixPath(entry["name"]).name for entry in entries if entry["type"] == "file"]


def _stored(path: str, file_system: Any) -> StoredFile:
    if file_system is None:
        status = _guarded(path, lambda: os.stat(path))
        return StoredFile(path, status.st_size, str(status.st_mtime_ns))
    # Without its own listing in the way: what is asked for is how the file is now.
    _guarded(path, lambda: file_system.invalidate_cache(path))
    info = _guarded(path, lambda: file_system.info(path))
    version = next((info[key] for key in _VERSION_KEYS if info.get(key) is not None), "")
    return StoredFile(path, info["size"], str(version), file_system)


def _guarded(place: str, act: Callable[[], _Result]) -> _Result:
    try:
        return act()
    except (
        Exception
    ) as error:  # Network file systems raise their own libraries' errors, which have no common base.
        raise _unreadable(place, error) from error


def _unreadable(place: str, error: Exception) -> DataError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return DataError(
        "A data file or folder cannot be read.",
        place=place,
        received=f"{type(error).__name__}: {reason}".partition("\n")[0],
        remedy="Check that it exists and may be read, and for a URI also the address and the credentials.",
    )
