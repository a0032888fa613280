"""The timer tells waiting from computing, with a clock that the test moves."""

import pytest

from distkeras.observability.timers import StepTimer, resident_memory_bytes


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def pass_(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def timer(clock):
    timer = StepTimer(clock)
    clock.pass_(50)
    timer.start()
    return timer


def _steps(timer, clock, waiting, computing, num_steps=1, num_examples=8):
    with timer.waiting():
        clock.pass_(waiting)
    clock.pass_(computing)
    timer.step(num_steps, num_examples)


def test_an_interval_separates_waiting_from_computing(timer, clock):
    _steps(timer, clock, waiting=0.25, computing=0.75, num_steps=10, num_examples=320)
    _steps(timer, clock, waiting=0.75, computing=0.25, num_steps=10, num_examples=320)
    interval = timer.summarize()
    assert interval.num_steps == 20
    assert interval.seconds == 2.0
    assert interval.examples_per_second == 320
    assert interval.step_milliseconds == 100
    assert interval.input_wait_ratio == 0.5
    assert interval.memory_bytes > 2**20


def test_waiting_that_python_cannot_see_is_added(timer, clock):
    clock.pass_(2)
    timer.waited(0.5)
    timer.step(1, 8)
    assert timer.summarize().input_wait_ratio == 0.25


def test_the_first_interval_is_the_warm_up_and_is_kept_apart(timer, clock):
    _steps(timer, clock, waiting=0, computing=30)
    assert timer.summarize().throughput()["warm_up"] is True
    _steps(timer, clock, waiting=0.5, computing=1.5)
    assert "warm_up" not in timer.summarize().throughput()
    overall = timer.overall()
    assert overall.warm_up_seconds == 30
    assert overall.seconds == 2
    assert overall.input_wait_ratio == 0.25
    assert overall.examples_per_second == 4


def test_throughput_has_the_keys_of_a_train_row(timer, clock):
    timer.summarize()
    _steps(timer, clock, waiting=1, computing=1)
    keys = {"examples_per_second", "input_wait_ratio", "step_milliseconds", "memory_bytes"}
    assert set(timer.summarize().throughput()) == keys


def test_a_pause_is_not_time_of_a_step(timer, clock):
    timer.summarize()
    clock.pass_(1)
    with timer.paused():
        clock.pass_(100)
    timer.step(1, 8)
    assert timer.summarize().seconds == 1
    assert timer.overall().step_milliseconds[99] == pytest.approx(1000, rel=0.01)


def test_the_fetch_at_a_logging_point_belongs_to_the_interval(timer, clock):
    _steps(timer, clock, waiting=0, computing=1)
    clock.pass_(3)
    assert timer.summarize().seconds == 4


def test_percentiles_are_good_to_one_percent_and_weigh_by_steps(timer, clock):
    timer.summarize()
    for milliseconds in range(1, 101):
        _steps(timer, clock, waiting=0, computing=milliseconds / 1000 * 5, num_steps=5)
    percentiles = timer.overall().step_milliseconds
    assert percentiles == {50: pytest.approx(50, rel=0.011), 90: pytest.approx(90, rel=0.011)} | {
        99: pytest.approx(99, rel=0.011)
    }


def test_nothing_measured_yet(timer):
    interval = timer.summarize()
    assert (interval.examples_per_second, interval.step_milliseconds, interval.input_wait_ratio) == (0, 0, 0)
    assert timer.overall().step_milliseconds == {}
    assert timer.overall().examples_per_second == 0
    assert StepTimer().overall().warm_up_seconds == 0


def test_waiting_counts_also_when_the_input_fails(timer, clock):
    def fail():
        with timer.waiting():
            clock.pass_(2)
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        fail()
    assert timer.summarize().input_wait_ratio == 1.0


def test_the_real_clock_and_memory():
    timer = StepTimer()
    timer.step(1, 1)
    assert timer.summarize().seconds > 0
    before = resident_memory_bytes()
    block = bytearray(64 * 2**20)
    assert resident_memory_bytes() - before > 32 * 2**20
    assert len(block)
