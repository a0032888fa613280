"""Files of JSON Lines, mapped into memory, and where each line's object is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from distkeras.errors import DataError

# Line ends are looked for in blocks: a mask of the whole file would be as large as the file.
SCAN_BYTES = 2**24
LINE_END, CARRIAGE_RETURN, OPENING_BRACE, CLOSING_BRACE = b"\n\r{}"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class JsonLines:
    """A mapped file and where its objects are.

    Attributes:
        path: The file.
        content: All of its bytes, uint8.
        starts: Where each object starts, and where the file ends, int64, shape (num_objects + 1,).
    """

    path: Path
    content: np.ndarray
    starts: np.ndarray

    @property
    def num_objects(self) -> int:
        """Number of lines that are not blank."""
        return len(self.starts) - 1

    @property
    def objects(self) -> pa.LargeBinaryArray:
        """The bytes of each object, with its line's end and any blank lines behind it; nothing is copied."""
        buffers = [None, pa.py_buffer(self.starts), pa.py_buffer(self.content)]
        return pa.Array.from_buffers(pa.large_binary(), self.num_objects, buffers)

    def locate(self, position: int) -> str:
        """Returns the file and the line of an object in it, counted from 1."""
        return _locate(self.path, self.content, int(self.starts[position]))


def open_json_lines(path: Path) -> list[JsonLines]:
    """Maps a file, or the `*.jsonl` files of a folder in the order of their names, and finds their objects.

    Raises:
        DataError: If there is no file, one cannot be read, or a line that is not blank is no object.
    """
    return [_open_file(file) for file in _find_files(path)]


def read_object(line: bytes, names: Sequence[str], place: Callable[[], str]) -> dict[str, Any]:
    """Returns the members of these names; objects within them are tuples of pairs.

    Args:
        line: One line.
        names: The members.
        place: Says where the line is.

    Raises:
        DataError: If the line is no JSON object, or lacks a member.
    """
    try:
        # Tuples for objects: a member that stands there twice stays visible.
        members = json.loads(line.decode(), object_pairs_hook=tuple)
    except ValueError as error:
        raise DataError(
            "A line is not JSON.",
            place=place(),
            received=str(error),
            remedy="Correct or remove the line; each line must be one JSON object in UTF-8.",
        ) from error
    if not isinstance(members, tuple):
        raise DataError(
            "A line is JSON, but no object.",
            place=place(),
            received=members,
            remedy='Write each line as {"text": "...", "label": "..."}.',
        )
    _check_names(names, [name for name, _ in members], place)
    values = dict(members)
    return {name: values[name] for name in names}


def _check_names(names: Sequence[str], found: Sequence[str], place: Callable[[], str]) -> None:
    for name in names:
        if name not in found:
            close = get_close_matches(name, found, n=1)
            raise DataError(
                f"There is no member {name!r} in a line.",
                place=place(),
                remedy=f"Did you mean {close[0]!r}?"
                if close
                else f"Its members are: {', '.join(found[:20])}.",
            )
        if found.count(name) > 1:
            raise DataError(
                f"The member {name!r} stands twice in a line.",
                place=place(),
                remedy="Correct or remove the line.",
            )


def _find_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(
            "There is no such JSON Lines file or folder.",
            place=str(path),
            remedy="Correct data.source.path; it is relative to the config file.",
        )
    paths = sorted(path.glob("*.jsonl"))
    if not paths:
        raise DataError(
            "A folder has no .jsonl files.",
            place=str(path),
            remedy="Correct data.source.path; files in sub-folders are not read.",
        )
    return paths


def _open_file(path: Path) -> JsonLines:
    try:
        # Nothing can be mapped of an empty file, which is a part without examples.
        buffer = pa.memory_map(str(path)).read_buffer() if path.stat().st_size else pa.py_buffer(b"")
    except OSError as error:
        raise DataError(
            "A JSON Lines file cannot be read.",
            place=str(path),
            received=str(error),
            remedy="Check that the file exists and may be read.",
        ) from error
    content = np.frombuffer(buffer, np.uint8)
    return JsonLines(path, content, _find_objects(path, content) if len(content) else np.zeros(1, np.int64))


def _find_objects(path: Path, content: np.ndarray) -> np.ndarray:
    """Returns where the lines that are not blank start, and where the file ends.

    Each of these lines starts and ends with a brace. Where they hold as many objects as they are, each holds one:
    an object cannot go on with a line that starts with a brace, after one that ends with a brace.
    """
    scans = range(0, len(content), SCAN_BYTES)
    breaks = [start + np.flatnonzero(content[start : start + SCAN_BYTES] == LINE_END) for start in scans]
    ends = np.concatenate([*breaks, [len(content)]])
    starts = np.concatenate([[0], ends[:-1] + 1])
    if content[:3].tobytes() == BYTE_ORDER_MARK:
        starts[0] = 3
    starts, ends = starts[starts < ends], ends[starts < ends]
    ends = ends - (content[ends - 1] == CARRIAGE_RETURN)
    is_object = (content[starts] == OPENING_BRACE) & (content[ends - 1] == CLOSING_BRACE)
    # Few are left as a rule: blank lines, and objects with spaces around them.
    for line in np.flatnonzero(~is_object).tolist():
        text = content[starts[line] : ends[line]].tobytes()
        if text.strip():
            read_object(text, (), partial(_locate, path, content, int(starts[line])))
            is_object[line] = True
    return np.append(starts[is_object], len(content))


def _locate(path: Path, content: np.ndarray, start: int) -> str:
    return f"{path.name} line {np.count_nonzero(content[:start] == LINE_END) + 1}"
