"""The manifest of a commit: what was written, sealed so that any change to it shows."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distkeras.errors import CheckpointError

FORMAT = 1
MANIFEST_NAME = "manifest.json"

# A name is one component of a path and never a hidden file: a manifest cannot point outside its commit.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a file of a commit must be to be trusted.

    Attributes:
        num_bytes: Its size.
        sha256: The SHA-256 of its content, 64 lower-case hexadecimal digits.
    """

    num_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything a commit says about itself.

    Attributes:
        step: The number of optimizer updates that are complete.
        parent: The step of the commit before this one; None for the first.
        metadata: What the caller committed besides the files; JSON values only.
        files: The record of each file, by its name.
    """

    step: int
    parent: int | None
    metadata: Mapping[str, Any]
    files: Mapping[str, FileRecord]


def is_file_name(name: str) -> bool:
    """Returns whether a file of a commit may have this name."""
    return _FILE_NAME.fullmatch(name) is not None and name != MANIFEST_NAME


def encode(manifest: Manifest) -> bytes:
    """Writes a manifest as JSON with its own SHA-256 as the last key.

    Raises:
        CheckpointError: The metadata is not JSON: a NaN, an array, an object.
    """
    fields = {"format": FORMAT, **asdict(manifest)}
    try:
        # Through JSON once, so that what is sealed is what a reader parses (tuples become lists).
        return _seal(json.loads(json.dumps(fields, allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"The metadata of the checkpoint of step {manifest.step} cannot be written as JSON: {error}.",
            received=manifest.metadata,
            remedy="Give numbers, strings, lists and mappings only; no NaN and no arrays.",
        ) from error


def decode(data: bytes, path: Path) -> Manifest:
    """Reads a manifest, and trusts it only when its seal is whole.

    Args:
        data: The content of the file.
        path: Where it was read, for the error.

    Raises:
        ValueError: It is torn, flipped or not a manifest; the text is the reason.
        CheckpointError: A newer distkeras wrote it.
    """
    fields = _unseal(data)
    _refuse_newer(fields.get("format"), path)
    match fields:
        case {
            "format": int(),
            "step": int(step),
            "parent": int() | None as parent,
            "metadata": dict(metadata),
            "files": dict(files),
        }:
            return Manifest(step, parent, metadata, {name: _file_record(name, files[name]) for name in files})
        case _:
            raise ValueError("lacks a field that a manifest must have")


def _seal(fields: Mapping[str, Any]) -> bytes:
    body = json.dumps(fields, indent=1, allow_nan=False)
    sealed = {**fields, "sha256": hashlib.sha256(body.encode()).hexdigest()}
    return (json.dumps(sealed, indent=1) + "\n").encode()


def _unseal(data: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("is not JSON") from error
    # Sealing again must give the same bytes: a flip that JSON does not notice (a space, the case of an
    # escape) is found too. The seal is the same in every format version, so that a flipped version number is
    # a broken seal and not a newer version.
    if not isinstance(fields, dict) or _seal({k: v for k, v in fields.items() if k != "sha256"}) != data:
        raise ValueError("does not match its own SHA-256")
    return fields


def _refuse_newer(version: object, path: Path) -> None:
    if isinstance(version, int) and version > FORMAT:
        raise CheckpointError(
            f"The checkpoint has format version {version}; this distkeras reads versions up to {FORMAT}.",
            place=str(path),
            remedy="Resume with the distkeras that wrote it, or with a newer one.",
        )


def _file_record(name: str, fields: object) -> FileRecord:
    if not is_file_name(name):
        raise ValueError(f"names a file {name!r} that may lie outside the commit")
    match fields:
        case {"num_bytes": int(num_bytes), "sha256": str(sha256)}:
            return FileRecord(num_bytes, sha256)
        case _:
            raise ValueError(f"has no size and SHA-256 for {name!r}")
