"""Progress across processes: rank zero writes what happens into a file, the process that started it shows it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distkeras.observability.progress import Progress
from distkeras.observability.progress_line import Extent, ProgressPoint
from distkeras.observability.timers import IntervalSummary


class RelayedProgress(Progress):
    """A `Progress` that another process shows: every call becomes a line of JSON.

    Args:
        path: The file, which is appended to.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(sys.stderr, quiet=True)
        self._path = path

    def announce(self, text: str) -> None:
        self._send(announce=text)

    def begin(self, extent: Extent) -> None:
        self._send(begin=asdict(extent))

    def update(self, point: ProgressPoint) -> None:
        self._send(update=asdict(point))

    def close(self) -> None:
        self._send(close=True)

    def _send(self, **message: Any) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            print(json.dumps(message), file=file)


class RelayReader:
    """Shows what a `RelayedProgress` wrote into a file since the last look.

    Args:
        path: The file; it may not be there yet.
        progress: Where it is shown.
    """

    def __init__(self, path: Path, progress: Progress) -> None:
        self._path = path
        self._position = path.stat().st_size if path.exists() else 0
        self._rest = ""
        self._show: dict[str, Callable[[Any], None]] = {
            "announce": progress.announce,
            "begin": lambda extent: progress.begin(Extent(**extent)),
            "update": lambda point: progress.update(_point(point)),
            "close": lambda _: progress.close(),
        }

    def show_news(self) -> None:
        """Shows all lines that are complete by now."""
        if not self._path.exists():
            return
        with self._path.open(encoding="utf-8") as file:
            file.seek(self._position)
            text = self._rest + file.read()
            self._position = file.tell()
        *lines, self._rest = text.split("\n")
        for line in lines:
            for name, value in json.loads(line).items():
                self._show[name](value)


def _point(values: dict[str, Any]) -> ProgressPoint:
    interval: Any = IntervalSummary(**values["interval"])
    return ProgressPoint(**{**values, "interval": interval})
