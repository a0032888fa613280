"""Bandwidths, durations and lists of numbers as people write them: `100Gb`, `10us`, `8,64,512`; sizes as text."""

from __future__ import annotations

import math
import re

from distkeras.errors import ConfigError
from distkeras.observability.formats import rate_text

_NUMBER = r"(?P<number>\d+(?:\.\d+)?)\s*"
_PREFIX = r"(?P<prefix>(?:[kKMGT]i?)?)"
_BANDWIDTH = re.compile(rf"{_NUMBER}{_PREFIX}(?P<unit>bits?|b|B)(?:/s|ps)?")
_DURATION = re.compile(
    rf"{_NUMBER}(?P<unit>ns|us|µs|μs|ms|s)"
)  # two letters look like this: micro, and the Greek mu
_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0}


def parse_bandwidth(text: str, place: str) -> float:
    """Reads a bandwidth: `100Gb`, `25Gbit/s` and `10Gbps` are bits a second, `12.5GB` and `1GiB/s` bytes a second.

    Args:
        text: The bandwidth. The case of the letters counts: `b` is a bit, `B` a byte.
        place: Where it was given, such as `--bandwidth`.

    Returns:
        Bytes a second.

    Raises:
        ConfigError: If it is not a bandwidth, or is none at all.
    """
    match = _BANDWIDTH.fullmatch(text.strip())
    value = 0.0 if match is None else float(match["number"]) * _factor(match["prefix"])
    if match is None or value == 0:
        raise ConfigError(
            "This is not a bandwidth.",
            place=place,
            received=text,
            remedy="write a number above zero and a unit: 100Gb is gigabits a second, 12.5GB gigabytes a second",
        )
    return value if match["unit"] == "B" else value / 8


def parse_duration(text: str, place: str) -> float:
    """Reads a duration: `500ns`, `10us`, `1.5ms` or `2s`.

    Args:
        text: The duration.
        place: Where it was given, such as `--latency`.

    Returns:
        Seconds.

    Raises:
        ConfigError: If it is not a duration.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ConfigError(
            "This is not a duration.",
            place=place,
            received=text,
            remedy="write a number and a unit, such as 10us, 0.5ms or 2s",
        )
    return float(match["number"]) * _SECONDS[match["unit"]]


def parse_numbers(text: str | None, place: str) -> list[int]:
    """Reads whole numbers: `8,64,512`.

    Args:
        text: The numbers, with commas between them; None: there are none.
        place: Where they were given, such as `--workers`.

    Raises:
        ConfigError: If one of them is not a whole number above zero.
    """
    parts = [part.strip() for part in text.split(",")] if text is not None else []
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(
            "These are not whole numbers above zero.",
            place=place,
            received=text,
            remedy="write them with commas between them, such as 8,64,512",
        )
    return [int(part) for part in parts]


def bandwidth_text(bytes_per_second: float) -> str:
    """Returns a bandwidth in bits, as networks are sold: `100 Gb/s`."""
    if math.isinf(bytes_per_second):
        return "unlimited"
    return f"{_scaled(8 * bytes_per_second)}b/s"


def size_text(num_bytes: float) -> str:
    """Returns a size in decimal units: `25 MB`."""
    return f"{_scaled(num_bytes)}B"


def seconds_text(seconds: float) -> str:
    """Returns a short duration in three digits, in the unit that fits: `10 us`, `1.25 ms`, `2 s`."""
    for unit in ("s", "ms"):
        if seconds >= 0.9995 * _SECONDS[unit]:
            return f"{rate_text(seconds / _SECONDS[unit])} {unit}"
    return f"{rate_text(seconds / _SECONDS['us'])} us"


def _factor(prefix: str) -> float:
    base = 1024.0 if prefix.endswith("i") else 1000.0
    return base ** _POWERS[prefix.removesuffix("i")]


def _scaled(value: float) -> str:
    for prefix in ("T", "G", "M", "k"):
        if value >= 0.9995 * _factor(prefix):
            return f"{rate_text(value / _factor(prefix))} {prefix}"
    return f"{rate_text(value)} "


def check_positive(name: str, value: float) -> None:
    """Raises `ConfigError` where a number is not above zero."""
    if not value > 0:
        raise ConfigError(
            f"{name} must be above zero.", place=name, received=value, remedy="give a larger one"
        )


def check_not_negative(name: str, value: float) -> None:
    """Raises `ConfigError` where a number is below zero, or not finite."""
    if not 0 <= value < math.inf:
        raise ConfigError(
            f"{name} must be zero or more.", place=name, received=value, remedy="give another one"
        )
