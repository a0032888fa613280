"""Python's log lines and warnings, in one file a rank."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from distkeras.observability.atomic_files import explained

_LINE = "%(asctime)s rank {rank} %(levelname)s %(name)s: %(message)s"


@contextmanager
def rank_log(path: Path, rank: int, level: int = logging.INFO) -> Generator[logging.Logger]:
    """Sends the log records and warnings of this process to its rank's log file while the block runs.

    Args:
        path: The file, appended to; its directory is made where it is missing.
        rank: Index of this worker, written into each line.
        level: Least level that is written; the root logger's level is put back afterwards.

    Yields:
        The logger `distkeras`.

    Raises:
        ResourceError: If the file cannot be written.
    """
    root = logging.getLogger()
    handler = _open_handler(path, rank, level)
    previous_level, previous_show = root.level, warnings.showwarning
    root.addHandler(handler)
    root.setLevel(min(level, previous_level))
    # Not `logging.captureWarnings`: it does not nest, the inner block would switch off the outer one's.
    warnings.showwarning = _log_warning
    try:
        yield logging.getLogger("distkeras")
    finally:
        warnings.showwarning = previous_show
        root.setLevel(previous_level)
        root.removeHandler(handler)
        handler.close()


def _open_handler(path: Path, rank: int, level: int) -> logging.FileHandler:
    with explained("open the log file", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8")
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter(_LINE.format(rank=rank)))
    return handler


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    text = warnings.formatwarning(message, category, filename, lineno, line)
    logging.getLogger("py.warnings").warning("%s", text.rstrip())
