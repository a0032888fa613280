"""Numbers as people read them: on the console and in reports alike."""

from __future__ import annotations

import math

_MEBIBYTE = 1024**2
_GIBIBYTE = 1024**3


def metric_text(value: float | None) -> str:
    """Returns a metric in four or five digits; `None` is how JSON rows hold a value that is not finite."""
    if value is None or not math.isfinite(value):
        return "not finite" if value is None else str(value)
    size = abs(value)
    if value == 0 or 1e-3 <= size < 10:
        return f"{value:.4f}"
    return f"{value:.2f}" if 10 <= size < 1e5 else f"{value:.3e}"


def count_text(value: float) -> str:
    """Returns a count with thousands separators: `1,281,167`."""
    return f"{value:,.0f}"


def rate_text(value: float) -> str:
    """Returns a rate with thousands separators, and decimals only where they say something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def percent_text(ratio: float) -> str:
    """Returns a ratio in `[0, 1]` as a whole percentage: `3%`."""
    return f"{100 * ratio:.0f}%"


def memory_text(num_bytes: float) -> str:
    """Returns bytes in MiB below 10 GiB and in GiB above."""
    if num_bytes < 10 * _GIBIBYTE:
        return f"{num_bytes / _MEBIBYTE:,.0f} MiB"
    return f"{num_bytes / _GIBIBYTE:,.1f} GiB"


def duration_text(seconds: float) -> str:
    """Returns a duration in its two largest units: `0.4s`, `12s`, `3m05s`, `2h10m`, `4d06h`."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    minutes, whole_seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{whole_seconds:02d}s" if minutes else f"{whole_seconds}s"
