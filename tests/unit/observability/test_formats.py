"""Numbers read the same everywhere."""

import pytest

from distkeras.observability import formats


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0000"),
        (0.12345, "0.1235"),
        (-2.5, "-2.5000"),
        (0.00012, "1.200e-04"),
        (43.2041, "43.20"),
        (2900.0, "2900.00"),
        (123456.0, "1.235e+05"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (None, "not finite"),
    ],
)
def test_a_metric_has_four_or_five_digits(value, text):
    assert formats.metric_text(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (12.4, "12s"),
        (59.7, "1m00s"),
        (185, "3m05s"),
        (7800, "2h10m"),
        (367200, "4d06h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds, text):
    assert formats.duration_text(seconds) == text


def test_counts_rates_shares_and_memory():
    assert formats.count_text(1281167) == "1,281,167"
    assert [formats.rate_text(value) for value in (51234.4, 100, 3.14159, 0)] == [
        "51,234",
        "100",
        "3.14",
        "0",
    ]
    assert formats.percent_text(0.034) == "3%"
    assert formats.memory_text(812 * 2**20) == "812 MiB"
    assert formats.memory_text(12.5 * 2**30) == "12.5 GiB"
