"""Sizes of data as people read them."""

from __future__ import annotations

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def size_text(num_bytes: float) -> str:
    """Returns bytes in the largest unit of which there is at least one: `812 bytes`, `3.4 KiB`, `17 GiB`."""
    size = float(num_bytes)
    for unit in _UNITS[:-1]:
        if size < 1024:
            return f"{size:.0f} {unit}" if size >= 9.95 or unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} {_UNITS[-1]}"
