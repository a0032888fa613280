"""Writes the parts that a run would use: as tables with the rows as they are, or as a list of files."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from distkeras.config import source_sections as sections
from distkeras.data.conversion.room import explained_writing
from distkeras.data.overlaps import parts_of
from distkeras.data.permutation import Int64Array
from distkeras.data.sources.base import Source
from distkeras.data.splits import Splits
from distkeras.errors import ConfigError

LIST_NAME = "parts.csv"

FolderSection = sections.ImageFolderSource | sections.TextFolderSource | sections.AudioFolderSource
_FOLDERS = (sections.ImageFolderSource, sections.TextFolderSource, sections.AudioFolderSource)
_SUFFIXES = {"csv": ".csv", "parquet": ".parquet", "jsonl": ".jsonl"}
# The part of each row of a table or file of a folder; "": none.
_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class WrittenPart:
    """One part as it was written.

    Attributes:
        path: The table, the folder, or the list that names the part's files.
        num_examples: Examples of the part.
    """

    path: Path
    num_examples: int


def check_splittable(section: sections.Source, *, copy: bool) -> None:
    """Refuses what has no rows or files of its own to write.

    Raises:
        ConfigError: If parts of this kind of source cannot be written.
    """
    if isinstance(section, _FOLDERS):
        return
    if section.kind not in _SUFFIXES:
        instead = "data convert --part train writes a part of any source"
        if section.kind == "time_series":
            instead = (
                "neighbouring windows share rows, so a part is no table; data.split does it when a run starts"
            )
        raise ConfigError(
            f"Parts of a source of kind {section.kind} are not written as files.",
            place="data.source.kind",
            received=section.kind,
            remedy=instead,
        )
    if copy:
        raise ConfigError(
            "--copy is for folders of files; a table's parts are always written.", remedy="leave it out"
        )


def write_parts(
    section: sections.Source, splits: Splits, out: Path, *, copy: bool = False
) -> dict[str, WrittenPart]:
    """Writes the parts that come from one source; those that have a source of their own are left where they are.

    Args:
        section: The source that was split.
        splits: Its parts.
        out: A new or empty folder.
        copy: Whether the files of a folder are hard-linked, or copied to another disk, beside the list of them.

    Returns:
        What was written, by part.

    Raises:
        ConfigError: If there are files in the folder already.
        ResourceError: If it cannot be written.
    """
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(
            "There are files in the folder already.", place=str(out), remedy="name a new folder as --out"
        )
    parts = _parts_of_one_source(splits)
    with explained_writing(out):
        out.mkdir(parents=True, exist_ok=True)
        match section:
            case sections.CsvSource():
                return _write_rows(parts, out, ".csv", _csv_rows(section))
            case sections.JsonlSource():
                return _write_rows(parts, out, ".jsonl", _json_rows(section))
            case sections.ParquetSource():
                return _write_parquet(section, parts, out)
            case sections.ImageFolderSource() | sections.TextFolderSource() | sections.AudioFolderSource():
                return _write_list(section, splits.train, parts, out, copy)
            case _:
                check_splittable(section, copy=copy)
                return {}


def _parts_of_one_source(splits: Splits) -> dict[str, Int64Array]:
    """Ids of each part in the source that was split; parts of other sources are left out."""
    root, _ = splits.train.origin(np.arange(1))
    origins = {name: part.origin(np.arange(part.num_examples)) for name, part in parts_of(splits).items()}
    return {name: ids for name, (origin, ids) in origins.items() if origin is root}


def _write_rows(
    parts: Mapping[str, Int64Array], out: Path, suffix: str, rows: Iterator[bytes]
) -> dict[str, WrittenPart]:
    """Deals out rows, the first of which is a header where there is one, into a file for each part."""
    paths = {name: out / f"{name}{suffix}" for name in parts}
    part_of = _part_of_each_id(parts)
    with _temporary(paths) as temporary, ExitStack() as stack:
        streams = {name: stack.enter_context(path.open("wb")) for name, path in temporary.items()}
        if suffix == ".csv":
            header = next(rows)
            for stream in streams.values():
                stream.write(header)
        for index, row in enumerate(rows):
            if part_of[index] >= 0:
                streams[_PARTS[part_of[index]]].write(row)
    return {name: WrittenPart(paths[name], len(ids)) for name, ids in parts.items()}


def _part_of_each_id(parts: Mapping[str, Int64Array]) -> Int64Array:
    """Index into `_PARTS` of each id's part, -1 where it has none."""
    num_ids = max(int(ids.max()) for ids in parts.values()) + 1
    part_of = np.full(num_ids, -1)
    for name, ids in parts.items():
        part_of[ids] = _PARTS.index(name)
    return part_of


def _csv_rows(section: sections.CsvSource) -> Iterator[bytes]:
    """Yields header and rows as they stand in the file, each with its line's end; blank lines are no rows."""
    lines: list[str] = []

    def recorded(file: Any) -> Iterator[str]:
        for line in file:
            lines.append(line)
            yield line

    end = "\n"
    with section.path.open(encoding="utf-8-sig", newline="") as file:
        for fields in csv.reader(recorded(file), delimiter=section.delimiter):
            row = "".join(lines)
            lines.clear()
            if fields:
                content = row.rstrip("\r\n")
                # The last line of a file may have no end; it may not be the last one of its part.
                end = row[len(content) :] or end
                yield (content + end).encode()


def _json_rows(section: sections.JsonlSource) -> Iterator[bytes]:
    from distkeras.data.sources.json_lines import open_json_lines

    for file in open_json_lines(section.path):
        for line in file.objects:
            yield line.as_py().strip() + b"\n"


def _write_parquet(
    section: sections.ParquetSource, parts: Mapping[str, Int64Array], out: Path
) -> dict[str, WrittenPart]:
    from distkeras.data.sources.parquet_table import open_columns

    files = open_columns(section.model_copy(update={"features": None}), labelled=False, raw=True).files
    paths = {name: out / f"{name}.parquet" for name in parts}
    part_of, first = _part_of_each_id(parts), 0
    with _temporary(paths) as temporary, ExitStack() as stack:
        schema = files[0].schema
        writers = {
            name: stack.enter_context(pq.ParquetWriter(path, schema, compression="zstd"))
            for name, path in temporary.items()
        }
        for file in files:
            for group in range(file.metadata.num_row_groups):
                rows = file.read(schema.names, group).cast(schema)
                here = part_of[first : first + rows.num_rows]
                for name, writer in writers.items():
                    chosen = rows.take(np.flatnonzero(here == _PARTS.index(name)))
                    if chosen.num_rows:
                        writer.write_table(chosen)
                first += rows.num_rows
    return {name: WrittenPart(paths[name], len(ids)) for name, ids in parts.items()}


def _write_list(
    section: FolderSection, part: Source, parts: Mapping[str, Int64Array], out: Path, copy: bool
) -> dict[str, WrittenPart]:
    source, _ = part.origin(np.arange(1))
    labels, names = source.labels(), source.class_names or ()
    path = out / LIST_NAME
    with (
        _temporary({"list": path}) as temporary,
        temporary["list"].open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["path", "class", "part"])
        for name, ids in parts.items():
            for example_id in ids.tolist():
                place = source.locate(example_id)
                writer.writerow([place, names[labels[example_id]], name])
                if copy:
                    _link(section.path / place, out / name / place)
    return {name: WrittenPart(out / name if copy else path, len(ids)) for name, ids in parts.items()}


def _link(old: Path, new: Path) -> None:
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(old, new)
    except OSError:  # Another disk, or one without links.
        shutil.copy2(old, new)


@contextmanager
def _temporary(paths: Mapping[str, Path]) -> Generator[Mapping[str, Path]]:
    """Names to write to: they become the real ones when all is written, or are removed."""
    temporary = {name: path.with_name(f".{path.name}.tmp") for name, path in paths.items()}
    try:
        yield temporary
        for name, path in temporary.items():
            path.replace(paths[name])
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)
