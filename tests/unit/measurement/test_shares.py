"""Shares of a step: they are the whole of it, each is what its trials say, and noise makes none negative."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkeras.measurement.shares import (
    Parts,
    StepTimes,
    expected_maximum,
    intervals,
    shares_of,
    typical,
    waiting_seconds,
)

SECONDS = st.floats(1e-6, 1e3)


def whole(shares):
    return (
        shares.input
        + shares.commits
        + shares.validation
        + shares.logging
        + shares.communication
        + shares.host
        + shares.compute
    )


def test_each_share_is_the_difference_of_the_two_trials_that_differ_in_it():
    shares = shares_of(StepTimes(real=10.0, one_batch=6.0, bare=5.0, growth=2.8))
    assert shares.input == pytest.approx(0.4)
    assert shares.keeping == pytest.approx(0.1)
    assert shares.communication == shares.waiting == 0
    assert shares.host == pytest.approx(0.2)  # 5 = a + B b and 14 = a + 4 B b: a is 2
    assert shares.compute == pytest.approx(0.3)


def test_what_workers_spend_on_each_other_is_what_they_save_apart():
    times = StepTimes(
        real=10.0, one_batch=10.0, bare=10.0, apart=(4.0, 6.0), deviations=(0.0, 0.0), growth=3.4
    )
    shares = shares_of(times)
    assert shares.communication == pytest.approx(0.6)
    assert (
        shares.waiting == shares.lagging == pytest.approx(0.2)
    )  # one worker is slower than the other by 2 of 10
    assert shares.host == pytest.approx(0.08)
    assert shares.compute == pytest.approx(0.32)


def test_a_slow_worker_is_waited_for_however_many_there_are():
    apart = (2.0, 2.0, 8.0, 2.0)
    shares = shares_of(StepTimes(real=10.0, one_batch=10.0, bare=10.0, apart=apart))
    assert shares.communication == pytest.approx(0.8)
    assert shares.waiting == pytest.approx(0.6)


def test_what_varies_is_waited_for_and_is_nobodys_lag():
    apart, deviations = (1.0, 1.01), (0.8, 0.8)
    shares = shares_of(StepTimes(real=1.9, one_batch=1.9, bare=1.9, apart=apart, deviations=deviations))
    assert shares.waiting > shares.communication / 2
    assert shares.lagging == pytest.approx(0.01 / 1.9)


def test_what_is_not_steps_is_told_apart():
    parts = Parts(commits=1.0, validation=1.5, logging=0.5)
    shares = shares_of(StepTimes(real=10.0, one_batch=9.0, bare=3.0, parts=parts, real_parts=parts))
    assert shares.commits == pytest.approx(0.2)
    # Of 6 seconds 3 were timed: the rest is shared as these are.
    assert shares.validation == pytest.approx(0.3)
    assert shares.logging == pytest.approx(0.1)
    assert shares.as_mapping()["keeping"] == shares.keeping == pytest.approx(0.6)


def test_a_disk_that_was_slower_with_real_input_is_not_what_input_costs():
    parts, real_parts = Parts(commits=2.0), Parts(commits=6.0)
    shares = shares_of(StepTimes(real=10.0, one_batch=5.0, bare=3.0, parts=parts, real_parts=real_parts))
    assert shares.input == pytest.approx(0.1)
    assert shares.commits == pytest.approx(0.6)


def test_what_was_not_timed_is_the_turn_of_epochs():
    shares = shares_of(StepTimes(real=10.0, one_batch=9.0, bare=8.0))
    assert (shares.commits, shares.validation) == (0.0, 0.0)
    assert shares.logging == pytest.approx(0.1)


def test_without_a_large_batch_the_host_is_not_told_from_computing():
    shares = shares_of(StepTimes(real=10.0, one_batch=10.0, bare=10.0))
    assert (shares.host, shares.compute) == (0.0, 1.0)


@given(
    SECONDS,
    SECONDS,
    SECONDS,
    st.none() | st.floats(0.1, 10),
    st.lists(SECONDS, max_size=4),
    st.lists(st.builds(Parts, *[st.just(0.0) | SECONDS] * 3), min_size=2, max_size=2),
)
def test_shares_are_the_whole_step_whatever_was_measured(real, one_batch, bare, growth, apart, parts):
    shares = shares_of(StepTimes(real, one_batch, bare, tuple(apart), tuple(apart), growth, *parts))
    assert whole(shares) == pytest.approx(1)
    assert all(value >= 0 for value in vars(shares).values())
    assert shares.lagging <= shares.waiting <= shares.communication


@pytest.mark.parametrize(
    ("count", "expected"), [(1, 0.0), (2, 1 / math.sqrt(math.pi)), (3, 0.8463), (10, 1.5388)]
)
def test_the_mean_of_the_largest_of_normal_numbers(count, expected):
    assert expected_maximum(count) == pytest.approx(expected, abs=1e-3)


def test_equal_workers_wait_for_their_deviations():
    assert waiting_seconds([1.0, 1.0], [0.1, 0.1]) == pytest.approx(0.1 / math.sqrt(math.pi))
    assert waiting_seconds([1.0], [0.1]) == 0


def test_of_several_passes_the_median_counts_and_compute_is_the_rest():
    of_passes = [
        shares_of(StepTimes(10.0, one_batch, one_batch, growth=4.0)) for one_batch in (9.0, 5.0, 8.0)
    ]
    shares = typical(of_passes)
    assert shares.input == pytest.approx(0.2)
    assert whole(shares) == pytest.approx(1)
    assert intervals(of_passes)["input"] == pytest.approx((0.1, 0.5))
