"""Several passes of one measurement: intervals that hold the median, and gains that are more than noise."""

from itertools import product

import pytest

from distkeras.measurement.passes import coverage, gains, is_faster, median_interval


def test_an_interval_leaves_out_the_ends_once_there_are_enough_values():
    assert median_interval([3.0]) == (3.0, 3.0)
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert median_interval(list(range(8))) == (1, 6)


@pytest.mark.parametrize(("num", "depth"), [(1, 0), (2, 0), (5, 0), (7, 0), (8, 1), (11, 2), (30, 10)])
def test_an_interval_is_made_of_values_so_many_places_in(num: int, depth: int) -> None:
    assert median_interval([float(x) for x in reversed(range(num))]) == (depth, num - 1 - depth)
    assert num < 5 or coverage(num, depth) >= 0.9
    assert coverage(num, depth + 1) < 0.9


def test_coverage_is_the_share_of_samples_that_enclose_the_median() -> None:
    for num, depth in ((5, 0), (8, 1), (9, 2)):
        signs = [sum(sample) for sample in product((0, 1), repeat=num)]
        enclosing = [depth < above < num - depth for above in signs]
        assert coverage(num, depth) == pytest.approx(sum(enclosing) / len(enclosing))


def test_what_is_faster_is_faster_in_every_pass_and_by_more_than_noise() -> None:
    assert gains([120.0, 90.0], [100.0, 100.0]) == [1.2, 0.9]
    assert is_faster([120.0, 111.0, 130.0], [100.0, 100.0, 90.0])
    assert not is_faster([120.0, 95.0, 115.0], [100.0, 130.0, 90.0])
    assert not is_faster([104.0, 104.0, 104.0], [100.0, 100.0, 100.0])
