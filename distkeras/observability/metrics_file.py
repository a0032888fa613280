"""metrics.jsonl: one JSON object a line, appended while training, readable at any moment."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from distkeras.errors import DataError
from distkeras.observability.atomic_files import explained, write_bytes

Kind = Literal["train", "epoch", "evaluation"]
Row = dict[str, Any]


def metric_row(
    step: int,
    epoch: int,
    kind: Kind,
    metrics: Mapping[str, float],
    *,
    time: float,
    throughput: Mapping[str, float] | None = None,
) -> Row:
    """Returns one row as it is stored.

    JSON has no NaN and no infinity: such a metric is stored as null, and `nonfinite` says which it was.

    Args:
        step: Steps completed.
        epoch: The epoch, counted from 0.
        kind: `train`: an interval of steps; `epoch`: the end of an epoch, with `val_` metrics; `evaluation`:
            the test.
        metrics: Values by name.
        time: Seconds since 1970 (Unix time).
        throughput: Further numbers of the interval, such as `examples_per_second`.
    """
    values = {name: float(value) for name, value in metrics.items()}
    nonfinite = {name: str(value) for name, value in values.items() if not math.isfinite(value)}
    row: Row = {"step": int(step), "epoch": int(epoch), "kind": kind, "time": float(time)}
    row["metrics"] = {name: None if name in nonfinite else value for name, value in values.items()}
    if nonfinite:
        row["nonfinite"] = nonfinite
    for name, value in (throughput or {}).items():
        row[name] = value if math.isfinite(value) else None
    return row


def open_for_append(path: Path) -> int:
    """Opens the file, made where it is missing, cuts a last line torn by a crash, returns the descriptor.

    Raises:
        ResourceError: If the file cannot be read or written.
    """
    with explained(f"open {path.name}", path):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.ftruncate(descriptor, path.read_bytes().rfind(b"\n") + 1)
        return descriptor


def append_row(descriptor: int, row: Row) -> None:
    """Appends a row to a file that is open for appending, in one write so that readers see whole lines.

    It is not flushed to the disk: a killed process loses nothing, and a power cut loses only rows that the
    resumed run computes again. A flush would cost milliseconds at each logging point.
    """
    content = (json.dumps(row, allow_nan=False) + "\n").encode()
    while content:
        content = content[os.write(descriptor, content) :]


def read_metrics(path: Path) -> list[Row]:
    """Reads all complete rows; a missing file has none, and a last line torn by a crash is left out.

    Raises:
        DataError: If a complete line is not a JSON object.
        ResourceError: If the file cannot be read.
    """
    if not path.exists():
        return []
    with explained(f"read {path.name}", path):
        *lines, _torn = path.read_bytes().split(b"\n")
    return [_parse(line, path, number) for number, line in enumerate(lines, start=1)]


def truncate_metrics(path: Path, step: int) -> None:
    """Drops the rows after `step` and a torn last line, so that a resumed run continues without doubles.

    Raises:
        DataError: If a complete line is not a JSON object.
        ResourceError: If the file cannot be read or written.
    """
    if not path.exists():
        return
    rows = [row for row in read_metrics(path) if row["step"] <= step]
    write_bytes(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def _parse(line: bytes, path: Path, number: int) -> Row:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or "step" not in row:
        raise DataError(
            f"{path.name} has a line that is not a row of metrics.",
            place=f"{path} line {number}",
            received=line.decode(errors="replace"),
            remedy="remove that line",
        )
    return row
