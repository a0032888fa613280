"""Converts the data of a run to another format: shard by shard, resumable, with a checksum of each."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from distkeras.data.conversion.layout import Layout, Target, layout_for
from distkeras.data.conversion.manifest import Manifest, Shard, open_manifest
from distkeras.data.conversion.memmap import FEATURES, LABELS, MemmapFiles, digest_of, finish
from distkeras.data.conversion.reading import blocks
from distkeras.data.conversion.room import check_room, estimate, explained_writing
from distkeras.data.conversion.shards import open_writer, sha256_of
from distkeras.data.sources.base import Source
from distkeras.errors import DataError

SHARD_BYTES = 2**27
# An ArrayRecord file is made of blocks of 64 KiB, and ends with its index in one of its own.
ARRAY_RECORD_BYTES = 2**17

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Conversion:
    """One source on its way to one format.

    Attributes:
        source: The examples, of one size where the format wants that.
        target: The format.
        folder: Where the result is.
        part: Which part of the data it is: "train", "validation", "test" or "all".
        layout: How examples are stored.
        num_bytes: About how large the result is.
        num_shards: In how many pieces.
    """

    source: Source
    target: Target
    folder: Path
    part: str
    layout: Layout
    num_bytes: int
    num_shards: int

    @property
    def ranges(self) -> list[range]:
        """Ids of each piece."""
        borders = np.linspace(0, self.source.num_examples, self.num_shards + 1).astype(np.int64).tolist()
        return [range(first, end) for first, end in pairwise(borders)]

    @property
    def identity(self) -> dict[str, Any]:
        """What makes two conversions the same."""
        return {
            "fingerprint": self.source.fingerprint,
            "to": self.target,
            "part": self.part,
            "num_examples": self.source.num_examples,
            "shape": list(self.layout.shape),
        }

    def shard_name(self, place: int) -> str:
        """Returns the file of one piece."""
        number = f"{place:05d}-of-{self.num_shards:05d}"
        return (
            f"{self.part}-{number}.parquet"
            if self.target == "parquet"
            else f"{self.part}.{self.target}-{number}"
        )

    def section(self) -> dict[str, Any]:
        """Returns the `data.source` that reads the result."""
        path = str(self.folder.resolve())
        if self.target == "memmap":
            return {"kind": "arrays", "path": path}
        if self.target == "parquet":
            return {"kind": "parquet", "path": path, "label": "label"}
        section: dict[str, Any] = {"kind": self.target, "path": path, "features": self.layout.features[0]}
        if self.layout.content in ("encoded", "image"):
            section["channels"] = self.layout.shape[2]
        if self.layout.content == "numbers" and len(self.layout.shape) != 1:
            section["shape"] = list(self.layout.shape)
        return section


def plan_conversion(
    source: Source, target: Target, folder: Path, *, part: str, num_shards: int | None = None
) -> Conversion:
    """Returns what a conversion will write, and about how much of it.

    Args:
        source: The examples.
        target: The format.
        folder: Where the result will be.
        part: Which part of the data the source is.
        num_shards: Pieces of the result; None: of about 128 MiB each.

    Raises:
        DataError: If the format cannot hold the examples, or they are fewer than the shards.
    """
    layout = layout_for(source, target)
    num_bytes = estimate(source, layout.content)
    if num_shards is None:
        num_shards = min(source.num_examples, max(1, math.ceil(num_bytes / SHARD_BYTES)))
    if num_shards > source.num_examples:
        raise DataError(
            f"There are {source.num_examples:,} examples for {num_shards:,} shards.",
            place="--shards",
            received=num_shards,
            remedy=f"use at most {source.num_examples}",
        )
    if target == "array_record":
        num_bytes += ARRAY_RECORD_BYTES * num_shards
    return Conversion(source, target, folder, part, layout, num_bytes, num_shards)


def convert(conversion: Conversion, advance: Advance = lambda _: None) -> Manifest:
    """Writes what is not there yet; `verify` checks what is.

    Args:
        conversion: What to write.
        advance: Told after every block how many examples were written, or were there already.

    Raises:
        ConfigError: If the folder holds something else.
        DataError: If an example cannot be read.
        ResourceError: If the disk is full or cannot be written.
    """
    manifest = open_manifest(
        conversion.folder, conversion.identity, conversion.num_shards, conversion.source.class_names
    )
    done = sum(shard.records for shard in manifest.shards.values())
    needed = math.ceil(conversion.num_bytes * (1 - done / conversion.source.num_examples))
    check_room(conversion.folder, needed)
    with explained_writing(conversion.folder, needed):
        conversion.folder.mkdir(parents=True, exist_ok=True)
        manifest.write(conversion.folder)
        for leftover in conversion.folder.glob(".*.tmp"):
            leftover.unlink()
        write = _write_arrays if conversion.target == "memmap" else _write_files
        if done:
            advance(done)
        return write(conversion, manifest, advance)


def verify(conversion: Conversion, manifest: Manifest) -> None:
    """Reads the result again and compares checksums.

    Raises:
        DataError: If a file is missing, or is not what was written.
    """
    for place, shard in sorted(manifest.shards.items()):
        found = _digest(conversion, shard)
        if found != shard.sha256:
            raise DataError(
                "A file of the conversion is missing."
                if found is None
                else "A file of the conversion is damaged.",
                place=str(conversion.folder / shard.name),
                received=found and f"SHA-256 {found[:16]}..., and {shard.sha256[:16]}... was written",
                remedy=f"remove the folder and convert again; shard {place + 1} of {manifest.num_shards} is concerned",
            )


def _write_files(conversion: Conversion, manifest: Manifest, advance: Advance) -> Manifest:
    for place, ids in enumerate(conversion.ranges):
        if place in manifest.shards:
            continue
        path = conversion.folder / conversion.shard_name(place)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            writer = open_writer(conversion.target, temporary, conversion.layout)
            try:
                for block in blocks(conversion.source, conversion.layout.content, ids):
                    writer.write(block)
                    advance(len(block.labels))
            finally:
                writer.close()
            _flush(temporary)
            shard = Shard(path.name, ids.start, len(ids), temporary.stat().st_size, sha256_of(temporary))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        manifest = replace(manifest, shards={**manifest.shards, place: shard})
        manifest.write(conversion.folder)
    return manifest


def _write_arrays(conversion: Conversion, manifest: Manifest, advance: Advance) -> Manifest:
    if manifest.is_complete:
        finish(conversion.folder)
        return manifest
    files = MemmapFiles(conversion.folder, conversion.source)
    row_bytes = conversion.num_bytes // conversion.source.num_examples
    for place, ids in enumerate(conversion.ranges):
        if place in manifest.shards:
            continue
        row = ids.start
        for block in blocks(conversion.source, conversion.layout.content, ids):
            row = files.write(row, block)
            advance(len(block.labels))
        files.flush()
        name = f"{FEATURES} and {LABELS}"
        shard = Shard(name, ids.start, len(ids), row_bytes * len(ids), files.digest(ids))
        manifest = replace(manifest, shards={**manifest.shards, place: shard})
        manifest.write(conversion.folder)
    finish(conversion.folder)
    return manifest


def _digest(conversion: Conversion, shard: Shard) -> str | None:
    """The checksum of what is on the disk; None: it is not there."""
    try:
        if conversion.target != "memmap":
            return sha256_of(conversion.folder / shard.name)
        features, labels = (
            np.load(conversion.folder / name, mmap_mode="r", allow_pickle=False)
            for name in (FEATURES, LABELS)
        )
        return digest_of(features, labels, range(shard.first, shard.first + shard.records))
    except FileNotFoundError:
        return None


def _flush(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
