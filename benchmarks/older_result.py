"""An older result that a new one is held against; it is refused where one says nothing about the other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ratios import num_pairs

# Of two the interval is no more than the two themselves: half of the time the true median is outside.
LEAST_PAIRS = 3
_NEEDED = ("id", "date", "hardware", "ratios", "runs")


def read_result(path: Path) -> dict[str, Any]:
    """Reads a result.

    Raises:
        SystemExit: If it is none, or cannot be read.
    """
    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path} cannot be read as a result: {error}") from error
    missing = [name for name in _NEEDED if not isinstance(result, dict) or name not in result]
    if missing:
        raise SystemExit(f"{path} was not written by benchmarks/harness.py: it has no {missing[0]}.")
    return result


def refuse_incomparable(old: Mapping[str, Any], *, id: str, hardware: str, pairs: int) -> None:
    """Refuses an older result that cannot tell a regression from something else; before anything is measured.

    Args:
        old: The older result.
        id: Which benchmark is measured now.
        hardware: Where.
        pairs: How many passes.

    Raises:
        SystemExit: With the first reason.
    """
    if old["id"] != id:
        raise SystemExit(
            f"The older result is of {old['id']}, and this is {id}: there is nothing to compare."
        )
    if old["hardware"] != hardware:
        raise SystemExit(
            f"The older result was measured on other hardware: {old['hardware']}. This is {hardware}."
        )
    if min(pairs, num_pairs(old)) < LEAST_PAIRS:
        raise SystemExit(
            f"The older result has {num_pairs(old)} pairs, and this will have {pairs}: with fewer than {LEAST_PAIRS}"
            " there is no interval, and noise would pass for a regression."
        )
