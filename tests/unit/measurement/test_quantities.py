"""Quantities on the command line mean what they say, or the user is told what to write."""

from __future__ import annotations

import math

import pytest

from distkeras.errors import ConfigError
from distkeras.measurement import quantities


@pytest.mark.parametrize(
    ("text", "bytes_per_second"),
    [
        ("100Gb", 12.5e9),
        ("25 Gbit/s", 3.125e9),
        ("10Gbps", 1.25e9),
        ("40Gbits/s", 5e9),
        ("12.5GB", 12.5e9),
        ("800MB/s", 800e6),
        ("1GiB/s", 2**30),
        ("1Gib", 2**30 / 8),
        ("9600b", 1200),
        (" 1Tb ", 125e9),
    ],
)
def test_bits_and_bytes_a_second(text: str, bytes_per_second: float) -> None:
    assert quantities.parse_bandwidth(text, "--bandwidth") == pytest.approx(bytes_per_second)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10us", 1e-5),
        ("10µs", 1e-5),
        ("10μs", 1e-5),
        ("1.5 ms", 1.5e-3),
        ("500ns", 5e-7),
        ("2s", 2),
        ("0us", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert quantities.parse_duration(text, "--latency") == pytest.approx(seconds)


def test_numbers_stay_in_their_order() -> None:
    assert quantities.parse_numbers("512, 8,64,8", "--workers") == [512, 8, 64, 8]


@pytest.mark.parametrize(
    "text", ["100", "100gb", "fast", "0Gb", "-1Gb", "1e3Gb", "Gb", "", "10us", "100 Gb each"]
)
def test_what_is_no_bandwidth_says_what_is(text: str) -> None:
    with pytest.raises(ConfigError, match="This is not a bandwidth") as caught:
        quantities.parse_bandwidth(text, "--bandwidth")
    assert caught.value.place == "--bandwidth"
    assert caught.value.received == text
    assert "100Gb is gigabits a second" in str(caught.value.remedy)


@pytest.mark.parametrize("text", ["10", "10us.", "fast", "-1us", "1 minute", "", "10Gb"])
def test_what_is_no_duration_says_what_is(text: str) -> None:
    with pytest.raises(ConfigError, match="This is not a duration") as caught:
        quantities.parse_duration(text, "--latency")
    assert (caught.value.place, caught.value.received) == ("--latency", text)
    assert "10us" in str(caught.value.remedy)


@pytest.mark.parametrize("text", ["", "8,", "8,many", "0", "-8", "8.5", "1e3"])
def test_what_are_no_numbers_says_what_are(text: str) -> None:
    with pytest.raises(ConfigError, match="These are not whole numbers above zero") as caught:
        quantities.parse_numbers(text, "--workers")
    assert caught.value.place == "--workers"
    assert "8,64,512" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 us"),
        (3.2e-7, "0.32 us"),
        (1e-5, "10 us"),
        (9.994e-4, "999 us"),
        (9.996e-4, "1 ms"),
        (1.254e-3, "1.25 ms"),
        (0.1301, "130 ms"),
        (0.9996, "1 s"),
        (75, "75 s"),
        (2000, "2,000 s"),
    ],
)
def test_a_short_duration_has_three_digits(seconds: float, text: str) -> None:
    assert quantities.seconds_text(seconds) == text


def test_bandwidths_and_sizes_are_read_back() -> None:
    assert quantities.bandwidth_text(12.5e9) == "100 Gb/s"
    assert quantities.bandwidth_text(1.5e6) == "12 Mb/s"
    assert quantities.bandwidth_text(10) == "80 b/s"
    assert quantities.bandwidth_text(math.inf) == "unlimited"
    assert quantities.size_text(25e6) == "25 MB"
    assert quantities.size_text(4 * 2**20) == "4.19 MB"
    assert quantities.size_text(12) == "12 B"
