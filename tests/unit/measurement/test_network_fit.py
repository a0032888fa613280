"""A network is found again from steps that were made with it, and published steps predict those held out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distkeras.errors import ConfigError
from distkeras.measurement.cost_model import StepFacts, predict
from distkeras.measurement.network import TENSORFLOW_CPU, Network
from distkeras.measurement.network_fit import MeasuredStep, fit_network
from distkeras.measurement.published import CURVES

STEP = StepFacts(
    batch_size=64, compute_seconds=0.01, compute_deviation=3e-4, gradient_bytes=1e5, bucket_bytes=4 * 1024**2
)
SIZES = (3e4, 3e5, 3e6, 3e7)


def made(network: Network, overlap: float = 0.0, num_workers: int = 2) -> list[MeasuredStep]:
    steps = [replace(STEP, gradient_bytes=size, overlap=overlap) for size in SIZES]
    return [
        MeasuredStep(step, num_workers, predict(step, network, num_workers).step_seconds) for step in steps
    ]


@pytest.mark.parametrize("overlap", [0.0, 0.6])
@pytest.mark.parametrize(("latency", "bandwidth"), [(3.3e-4, 8.5e8), (1e-5, 12.5e9), (5e-3, 1e8)])
def test_what_steps_were_made_with_is_found(latency: float, bandwidth: float, overlap: float) -> None:
    network = Network(latency=latency, bandwidth=bandwidth, algorithms=TENSORFLOW_CPU)
    fit = fit_network(made(network, overlap))
    assert fit.network.latency == pytest.approx(latency, rel=1e-6)
    assert fit.network.bandwidth == pytest.approx(bandwidth, rel=1e-6)
    assert fit.largest_error < 1e-9


def test_errors_are_shared_out_and_told() -> None:
    network = Network(latency=3.3e-4, bandwidth=8.5e8, algorithms=TENSORFLOW_CPU)
    steps = [
        replace(step, seconds=step.seconds * factor)
        for step, factor in zip(made(network), (1.01, 0.99, 1.01, 0.99), strict=True)
    ]
    fit = fit_network(steps)
    assert fit.network.latency == pytest.approx(3.3e-4, rel=0.3)
    assert fit.network.bandwidth == pytest.approx(8.5e8, rel=0.05)
    assert 0.002 < fit.largest_error < 0.02
    assert fit.describe().startswith("4 measured steps fit a network of ")
    assert fit.describe().endswith(" a message, with errors of up to 1% of a step.")


def test_steps_of_one_worker_say_nothing() -> None:
    network = Network(latency=3.3e-4, bandwidth=8.5e8, algorithms=TENSORFLOW_CPU)
    fit = fit_network([MeasuredStep(STEP, 1, 0.5), *made(network)])
    assert len(fit.measured) == len(fit.residuals) == len(SIZES)
    assert fit.network.latency == pytest.approx(3.3e-4)


def test_steps_that_are_as_fast_as_without_an_exchange_have_an_ideal_network() -> None:
    steps = [MeasuredStep(replace(STEP, gradient_bytes=size), 2, STEP.compute_seconds) for size in SIZES]
    fit = fit_network(steps)
    assert (fit.network.latency, fit.network.bandwidth) == (0, float("inf"))
    assert "unlimited" in fit.describe()


@pytest.mark.parametrize("sizes", [(), (3e6,), (3e6, 3e6), (8 * 1024**2, 32 * 1024**2)])
def test_steps_that_do_not_tell_latency_from_bandwidth_are_refused(sizes: tuple[float, ...]) -> None:
    steps = [MeasuredStep(replace(STEP, gradient_bytes=size), 2, 0.1) for size in sizes]
    with pytest.raises(ConfigError, match="do not tell the latency") as caught:
        fit_network(steps)
    assert caught.value.place == "measured steps"
    assert "differ in size" in str(caught.value.remedy)


def test_a_step_takes_time() -> None:
    with pytest.raises(ConfigError, match="seconds must be above zero"):
        fit_network([MeasuredStep(STEP, 2, 0.0)])


def measured_sum(num_bytes: float, milliseconds: float) -> MeasuredStep:
    nothing_else = StepFacts(
        batch_size=1, compute_seconds=1e-9, gradient_bytes=num_bytes, bucket_bytes=4 * 1024**2
    )
    return MeasuredStep(nothing_else, 2, milliseconds / 1000)


# Two processes on loopback; the milliseconds are those that distribution/collectives.py tells of.
RINGS = [measured_sum(8e3, 0.63), measured_sum(260e3, 0.97), measured_sum(1e6, 1.8)]
GATHERS = [measured_sum(8e3, 0.36), measured_sum(260e3, 0.62)]


def test_sums_in_a_ring_measured_here_predict_those_held_out() -> None:
    for held_out in RINGS:
        fit = fit_network([one for one in RINGS if one is not held_out], algorithms=("ring",))
        predicted = predict(held_out.step, fit.network, 2).step_seconds
        assert predicted == pytest.approx(held_out.seconds, rel=0.12)


def test_sums_in_a_ring_measured_here_predict_the_gathers() -> None:
    ring = fit_network(RINGS, algorithms=("ring",)).network
    network = replace(ring, algorithms=TENSORFLOW_CPU)
    for gather in GATHERS:
        predicted = predict(gather.step, network, 2).step_seconds
        assert predicted == pytest.approx(gather.seconds, rel=0.15)


def test_a_network_fitted_to_two_published_models_predicts_the_third() -> None:
    """Horovod on 16 GPUs over TCP, which reaches only a part of 25 Gb/s: nominal, the model is far off."""
    tcp = {curve.model: curve for curve in CURVES if "25 Gb/s TCP" in curve.cluster}
    steps = [
        MeasuredStep(tcp[model].step, 16, tcp[model].step.compute_seconds / tcp[model].points[0].efficiency)
        for model in ("Inception V3", "VGG-16")
    ]
    fit = fit_network(steps, algorithms=("ring",))
    held_out = tcp["ResNet-101"]
    predicted = predict(held_out.step, fit.network, 16).efficiency
    assert predicted == pytest.approx(held_out.points[0].efficiency, abs=0.03)
    assert fit.network.bandwidth < 0.7 * held_out.network.bandwidth
