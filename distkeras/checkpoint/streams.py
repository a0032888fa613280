"""Where the bytes of a checkpoint go: into files, hashed on the way, and on the disk at the end."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from distkeras.checkpoint.manifest import FileRecord


class Writable(Protocol):
    """Where the content of a file goes, from its first byte to its last; it cannot seek."""

    def write(self, data: bytes, /) -> int:
        """Takes all of `data` and returns its number of bytes."""
        ...

    def flush(self) -> None:
        """Does nothing that a commit depends on."""
        ...

    def close(self) -> None:
        """Does nothing: who opened the stream closes it."""
        ...


FileContent = bytes | Callable[[Writable], None]
"""The bytes of a file, or a function that writes them; it may be called again, to measure."""


def write_file(path: Path, content: FileContent) -> FileRecord:
    """Writes a new file and returns what it must be to be trusted; its content is on the disk afterwards.

    Raises:
        OSError: It exists already, or the system refuses to write it.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        stream = _HashedFile(descriptor)
        send(content, stream)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return stream.record()


def send(content: FileContent, stream: Writable) -> None:
    """Passes the content of a file to a stream."""
    if callable(content):
        content(stream)
    else:
        stream.write(content)


class ByteCounter:
    """A stream that keeps nothing but the number of bytes.

    Attributes:
        num_bytes: What was written so far.
    """

    def __init__(self) -> None:
        self.num_bytes = 0

    def write(self, data: bytes, /) -> int:
        """Counts the bytes and returns how many they are."""
        size = memoryview(data).nbytes
        self.num_bytes += size
        return size

    def flush(self) -> None:
        """Keeps nothing back."""

    def close(self) -> None:
        """Leaves the file to its owner."""


class _HashedFile(ByteCounter):
    """A stream into a file descriptor that hashes on the way: no second read of what was written."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._digest = hashlib.sha256()

    def write(self, data: bytes, /) -> int:
        """Writes and hashes all of `data`: the system may take less of it in one call."""
        rest = memoryview(data).cast("B")
        self._digest.update(rest)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        return super().write(data)

    def record(self) -> FileRecord:
        """Returns the size and SHA-256 of what was written."""
        return FileRecord(self.num_bytes, self._digest.hexdigest())
