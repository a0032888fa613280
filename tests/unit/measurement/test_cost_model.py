"""The cost model keeps its limits, and its parts are what a schedule or a draw of many steps gives."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distkeras.errors import ConfigError
from distkeras.measurement.cost_model import (
    BACKWARD_SHARE,
    StepFacts,
    expected_slowest,
    exposed_exchange,
    predict,
    predict_up_to,
)
from distkeras.measurement.network import TENSORFLOW_CPU, Network, all_reduce

STEP = StepFacts(
    batch_size=64,
    compute_seconds=0.1,
    compute_deviation=0.004,
    input_examples_per_second=700.0,
    input_deviation=0.01,
    gradient_bytes=100e6,
    bucket_bytes=25e6,
    overlap=BACKWARD_SHARE,
)
STEADY = replace(STEP, compute_deviation=0.0, input_examples_per_second=math.inf, input_deviation=0.0)
NETWORK = Network(bandwidth=12.5e9, latency=1e-5)
IDEAL = Network(bandwidth=math.inf, latency=0.0)


def test_one_worker_is_what_the_others_are_measured_by() -> None:
    prediction = predict(STEP, NETWORK, 1)
    assert prediction.efficiency == 1
    assert prediction.exchange_seconds == prediction.slowest_wait_seconds == 0
    assert prediction.step_seconds == pytest.approx(expected_slowest(STEP, 1))


@pytest.mark.parametrize("num_workers", [2, 8, 512, 4096])
def test_steady_workers_on_an_ideal_network_lose_nothing(num_workers: int) -> None:
    prediction = predict(STEADY, IDEAL, num_workers)
    assert prediction.efficiency == 1
    assert prediction.examples_per_second == pytest.approx(num_workers * 64 / 0.1)


def test_the_parts_of_a_step_are_all_of_it() -> None:
    prediction = predict(STEP, Network(bandwidth=1e9, latency=1e-4), 64)
    parts = (
        prediction.compute_seconds,
        prediction.input_wait_seconds,
        prediction.slowest_wait_seconds,
        prediction.exchange_seconds,
    )
    assert min(parts) > 0
    assert prediction.step_seconds == pytest.approx(sum(parts))
    assert prediction.examples_per_second == pytest.approx(64 * 64 / sum(parts))
    assert prediction.efficiency == pytest.approx(sum(parts[:2]) / sum(parts))


@pytest.mark.parametrize("num_workers", [2, 16, 512])
def test_a_better_network_is_never_slower(num_workers: int) -> None:
    by_bandwidth = [
        predict(STEADY, replace(NETWORK, bandwidth=b), num_workers).step_seconds
        for b in (1e8, 1e9, 1e10, 1e11)
    ]
    by_latency = [
        predict(STEADY, replace(NETWORK, latency=s), num_workers).step_seconds
        for s in (1e-2, 1e-3, 1e-4, 0.0)
    ]
    assert by_bandwidth == sorted(by_bandwidth, reverse=True)
    assert by_latency == sorted(by_latency, reverse=True)
    assert by_bandwidth[0] > by_bandwidth[-1]
    assert by_latency[0] > by_latency[-1]


def scheduled(step: StepFacts, network: Network, num_workers: int) -> float:
    """Sends the buckets one after the other, and returns how long after computing the last has arrived."""
    seconds = all_reduce(step.gradient_bytes / step.num_buckets, num_workers, network).seconds(network)
    window, free = step.overlap * step.compute_seconds, 0.0
    for index in range(step.num_buckets):
        ready = step.compute_seconds - window + window * (index + 1) / step.num_buckets
        free = max(ready, free) + seconds
    return free - step.compute_seconds


@settings(deadline=None)
@given(
    gradient_bytes=st.floats(1, 1e9),
    bucket_bytes=st.floats(1e6, 1e8),
    overlap=st.floats(0, 1),
    bandwidth=st.floats(1e7, 1e12),
    latency=st.floats(0, 1e-2),
    num_workers=st.integers(2, 600),
)
def test_the_exchange_left_over_is_that_of_the_schedule(
    gradient_bytes: float,
    bucket_bytes: float,
    overlap: float,
    bandwidth: float,
    latency: float,
    num_workers: int,
) -> None:
    step = replace(STEADY, gradient_bytes=gradient_bytes, bucket_bytes=bucket_bytes, overlap=overlap)
    network = Network(bandwidth=bandwidth, latency=latency)
    exposed = exposed_exchange(step, network, num_workers).seconds(network)
    assert exposed == pytest.approx(scheduled(step, network, num_workers), rel=1e-6, abs=1e-9)
    after = exposed_exchange(replace(step, overlap=0.0), network, num_workers).seconds(network)
    assert after - overlap * step.compute_seconds - 1e-9 <= exposed <= after + 1e-9


def test_bfloat16_is_not_gathered() -> None:
    net = Network(bandwidth=1e9, latency=1e-4, algorithms=TENSORFLOW_CPU)
    small = replace(STEADY, gradient_bytes=40e3)
    assert exposed_exchange(small, net, 4).messages == 3
    assert exposed_exchange(replace(small, element_bytes=2), net, 4).messages == 6


def test_a_model_without_gradients_exchanges_nothing() -> None:
    assert predict(replace(STEADY, gradient_bytes=0), NETWORK, 64).efficiency == 1


@pytest.mark.parametrize(
    ("num_workers", "deviations"), [(2, 1 / math.sqrt(math.pi)), (3, 1.5 / math.sqrt(math.pi))]
)
def test_the_slowest_of_two_and_three_is_known_exactly(num_workers: int, deviations: float) -> None:
    step = replace(STEADY, compute_deviation=0.01)
    assert expected_slowest(step, num_workers) == pytest.approx(0.1 + 0.01 * deviations, abs=1e-7)


@pytest.mark.parametrize(
    "changes",
    [
        {"compute_deviation": 0.01},
        {"compute_deviation": 0.01, "input_examples_per_second": 640.0, "input_deviation": 0.02},
        {"compute_deviation": 0.0, "input_examples_per_second": 660.0, "input_deviation": 0.02},
        {"compute_deviation": 1e-4, "input_examples_per_second": 900.0, "input_deviation": 0.05},
        {"compute_deviation": 0.02, "input_examples_per_second": 600.0, "input_deviation": 0.0},
    ],
)
@pytest.mark.parametrize("num_workers", [1, 8, 64])
def test_the_slowest_is_that_of_many_draws(changes: dict[str, Any], num_workers: int) -> None:
    step, rng, shape = replace(STEADY, **changes), np.random.default_rng(0), (20_000, num_workers)
    computing = rng.normal(step.compute_seconds, step.compute_deviation, shape)
    reading = rng.normal(step.input_seconds, step.input_deviation, shape)
    slowest = np.maximum(computing, reading).max(axis=1)
    error = slowest.std() / math.sqrt(len(slowest))
    assert expected_slowest(step, num_workers) == pytest.approx(slowest.mean(), abs=4 * error + 1e-9)


def test_a_slower_input_is_waited_for() -> None:
    step = replace(STEADY, input_examples_per_second=320.0)
    prediction = predict(step, IDEAL, 8)
    assert prediction.input_wait_seconds == pytest.approx(0.1)
    assert prediction.slowest_wait_seconds == 0
    assert prediction.examples_per_second == pytest.approx(8 * 320)


def test_predictions_are_close_to_each_other() -> None:
    counts = [prediction.num_workers for prediction in predict_up_to(STEADY, NETWORK, 700)]
    assert counts[:100] == list(range(1, 101))
    assert counts[-1] == 700
    assert all(1 <= after - before <= 0.02 * after for before, after in itertools.pairwise(counts[100:]))


def test_a_prediction_is_told_with_its_parts() -> None:
    slow = Network(bandwidth=1e9, latency=1e-5)
    text = predict(replace(STEADY, overlap=0.0), slow, 1024).describe()
    assert text == (
        "1,024 workers: 217,872 examples/s, 33% of as many times one. "
        "A step of 301 ms: 100 ms computing, 201 ms exchanging gradients."
    )
    assert (
        predict(STEADY, slow, 1).describe().startswith("1 worker: 640 examples/s, 100% of as many times one.")
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 0},
        {"compute_seconds": 0.0},
        {"compute_deviation": -1.0},
        {"input_examples_per_second": 0.0},
        {"input_deviation": math.nan},
        {"gradient_bytes": -1},
        {"bucket_bytes": 0},
        {"element_bytes": 0},
        {"overlap": 1.5},
    ],
)
def test_facts_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"above zero|zero or more|a share of computing") as caught:
        replace(STEP, **changes)
    assert caught.value.place == next(iter(changes))
    assert caught.value.remedy


def test_there_is_at_least_one_worker() -> None:
    with pytest.raises(ConfigError, match="num_workers must be above zero"):
        predict(STEP, NETWORK, 0)
