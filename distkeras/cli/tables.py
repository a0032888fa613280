"""Columns of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def aligned(rows: Iterable[Sequence[str]], *, indent: int = 0) -> list[str]:
    """Returns one line a row, its cells below one another; the last cell of a row may be of any length."""
    rows = [list(row) for row in rows]
    widths: dict[int, int] = {}
    for row in rows:
        for column, cell in enumerate(row[:-1]):
            widths[column] = max(widths.get(column, 0), len(cell))
    return [" " * indent + "  ".join(_padded(row, widths)).rstrip() for row in rows]


def shortened(text: str, width: int) -> str:
    """Returns text of at most `width` characters; what was cut off is replaced by `...`."""
    return text if len(text) <= width else text[: max(width - 3, 0)] + "..."


def _padded(row: Sequence[str], widths: dict[int, int]) -> list[str]:
    last = len(row) - 1
    return [cell if column == last else cell.ljust(widths[column]) for column, cell in enumerate(row)]
