"""The knee is where efficiency falls, and the knob is the change that helps most."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distkeras.measurement.advice import advise, knee, knob, knobs
from distkeras.measurement.cost_model import BACKWARD_SHARE, StepFacts, predict, predict_up_to
from distkeras.measurement.network import Network

STEP = StepFacts(
    batch_size=64, compute_seconds=0.1, gradient_bytes=100e6, bucket_bytes=25e6, overlap=BACKWARD_SHARE
)
RING = Network(bandwidth=12.5e9, latency=1e-4, algorithms=("ring",))


def test_the_knee_is_the_last_number_that_is_worth_it() -> None:
    found = knee(predict_up_to(STEP, RING, 512))
    assert found.last is not None
    assert found.first_below is not None
    assert found.last.efficiency >= 0.9 > found.first_below.efficiency
    assert found.first_below.num_workers == found.last.num_workers + 1
    assert found.describe() == (
        f"Up to {found.last.num_workers} workers each gives at least 90% of what one alone does; "
        f"with {found.first_below.num_workers} it is {100 * found.first_below.efficiency:.1f}%."
    )


def test_a_knee_may_be_past_all_that_was_looked_at() -> None:
    found = knee(predict_up_to(STEP, RING, 8))
    assert found.first_below is None
    assert found.describe() == "Up to 8 workers, the most looked at, each gives at least 90%."


def test_no_number_may_be_worth_it() -> None:
    slow = replace(RING, bandwidth=1e9)
    found = knee([predict(STEP, slow, num_workers) for num_workers in (8, 64)], threshold=0.5)
    assert found.last is None
    assert found.describe() == "No number of workers is worth it: with 8 it is 43.4%, less than 50%."
    assert knee([]).describe() == "No number of workers is worth it: nothing was predicted."


@pytest.mark.parametrize(
    ("change", "step", "network"),
    [
        ("gradients in bfloat16", replace(STEP, overlap=0.0), Network(bandwidth=1.7e9, latency=1e-5)),
        (
            "buckets twice as large",
            replace(STEP, bucket_bytes=1e5, element_bytes=2, overlap=0.0),
            Network(bandwidth=1e12, latency=1e-4),
        ),
        ("half the spread of the workers' steps", replace(STEP, compute_deviation=0.05), RING),
        ("an input twice as fast", replace(STEP, input_examples_per_second=200.0), RING),
        ("half the latency", replace(STEP, gradient_bytes=1e3, compute_seconds=1e-5), RING),
        (
            "twice the bandwidth",
            replace(STEP, element_bytes=2, overlap=0.0),
            Network(bandwidth=1e10, latency=1e-9),
        ),
    ],
)
def test_the_knob_is_the_change_that_helps_most(change: str, step: StepFacts, network: Network) -> None:
    before = predict(step, network, 64)
    best = knob(before, keep_batch=True)
    assert best.change == change
    assert best.gain >= max(other.gain for other in knobs(before) if other.keeps_batch) - 0.01
    assert best.gain == pytest.approx(best.after.examples_per_second / before.examples_per_second)
    assert best.gain > 1.05
    sentence = (
        f"With 64 workers the change that helps most: {change}, {best.gain:.2f} times the examples a second ("
    )
    assert best.describe().startswith(sentence)
    assert f"{change}, {best.gain:.2f} times" in advise(before)


def test_a_larger_batch_helps_most_where_the_exchange_is_waited_for() -> None:
    before = predict(STEP, replace(RING, bandwidth=1e9), 64)
    assert not knob(before).keeps_batch
    assert advise(before) == (
        "With 64 workers the change that helps most: twice the batch on each worker, 1.71 times the examples a second "
        "(training.global_batch_size, with a learning rate to match); with the same batch: gradients in bfloat16, "
        "1.56 times the examples a second (topology.reduction: bfloat16)."
    )


def test_an_input_that_is_waited_for_is_not_helped_by_a_larger_batch() -> None:
    before = predict(replace(STEP, input_examples_per_second=200.0), RING, 64)
    assert knob(before).change == "an input twice as fast"
    assert advise(before).count("times the examples") == 1


def test_a_change_is_what_its_words_say() -> None:
    by_change = {one.change: one.after for one in knobs(predict(STEP, RING, 64))}
    assert by_change["twice the batch on each worker"].step == replace(
        STEP, batch_size=128, compute_seconds=0.2
    )
    assert by_change["twice the bandwidth"].network == replace(RING, bandwidth=25e9)
    assert by_change["half the latency"].network == replace(RING, latency=5e-5)
    assert by_change["gradients in bfloat16"].step == replace(STEP, gradient_bytes=50e6, element_bytes=2)
    assert by_change["buckets twice as large"].step.num_buckets == 2
    assert {after.num_workers for after in by_change.values()} == {64}


def test_twice_the_batch_takes_as_long_as_was_measured() -> None:
    step = replace(STEP, compute_deviation=0.01, doubled_compute_seconds=0.15)
    after = {one.change: one.after.step for one in knobs(predict(step, RING, 64))}
    doubled = after["twice the batch on each worker"]
    assert (doubled.batch_size, doubled.compute_seconds) == (128, 0.15)
    assert doubled.compute_deviation == pytest.approx(0.015)
    assert doubled.doubled_compute_seconds is None


def test_only_changes_that_can_be_made_are_offered() -> None:
    one_bucket = replace(STEP, gradient_bytes=1e6, element_bytes=2)
    changes = {one.change for one in knobs(predict(one_bucket, RING, 64))}
    assert changes == {
        "twice the batch on each worker",
        "twice the bandwidth",
        "half the latency",
        "half the spread of the workers' steps",
    }


def test_nothing_is_recommended_where_nothing_helps() -> None:
    text = advise(predict(replace(STEP, gradient_bytes=1e3), replace(RING, latency=0.0), 64))
    assert text == "With 64 workers, no one change gives as much as 5%."
