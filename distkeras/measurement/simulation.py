"""More workers than there are here: a measured result put into the cost model, and what comes out as a table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from distkeras.errors import ConfigError
from distkeras.measurement.advice import advise, knee
from distkeras.measurement.cost_model import BACKWARD_SHARE, Prediction, StepFacts, predict, predict_up_to
from distkeras.measurement.network import (
    JAX_CPU,
    NCCL,
    TENSORFLOW_CPU,
    Algorithm,
    Network,
    between_cpus,
    with_software_apart,
)
from distkeras.measurement.network_fit import MeasuredStep, NetworkFit, fit_network
from distkeras.measurement.plan import LARGE
from distkeras.measurement.published import compare, describe
from distkeras.measurement.quantities import bandwidth_text, seconds_text
from distkeras.observability.formats import count_text, percent_text, rate_text

Result = Mapping[str, Any]
# Between CPUs no exchange was seen to begin before the last gradient is there: a worker that has one core computes on
# the one thread that would start it. Timestamps in the graph, 8 layers of 1024, batch 512, a link of 1 Gb/s (2 cores,
# 2026-11-21): last gradient after 854 ms, first sum after 860.
CPU_OVERLAP = 0.0
# Less of a step is not what its input costs, but noise.
_LEAST_INPUT = 0.05
HEADER = ("workers", "examples/s", "a step", "efficiency", "what a step waits for")
# Bytes a second, and seconds: where neither is named, nor measured.
BANDWIDTH, LATENCY = 100e9 / 8, 10e-6
# A curve has so many points at most, evenly spaced on a logarithmic axis.
_MAX_POINTS = 60


@dataclass(frozen=True)
class Link:
    """The network of a simulation, and where it is from.

    Attributes:
        network: What connects the workers.
        description: What it is, as it goes on after "workers on".
    """

    network: Network
    description: str


def link_of(results: Sequence[Result], bandwidth: float | None = None, latency: float | None = None) -> Link:
    """Returns the network that is named, or else the one that measured steps show.

    Args:
        results: What benches measured, the one that is simulated first. Where nothing is named, a network is fitted to
            those with several workers, if there is more than one.
        bandwidth: Of each worker's link, in bytes a second; None: not named.
        latency: Of a message on it, in seconds; None: not named.

    Raises:
        ConfigError: If several results do not tell the latency from the bandwidth, or are not of the same devices.
    """
    if bandwidth is None and latency is None and len(results) > 1:
        return _measured_link(results)
    bandwidth, latency = bandwidth or BANDWIDTH, LATENCY if latency is None else latency
    description = _links_text(bandwidth, latency)
    algorithms = _algorithms(results[0])
    if algorithms != TENSORFLOW_CPU:
        if not _on_gpu(results[0]):
            description += "; what JAX's sums between CPUs leave of these is not known"
        return Link(Network(bandwidth=bandwidth, latency=latency, algorithms=algorithms), description)
    network = between_cpus(bandwidth, latency)
    return Link(
        network,
        f"{description}; of these TensorFlow's sums between CPUs leave {bandwidth_text(1 / network.byte_seconds)} "
        f"and {seconds_text(network.message_seconds)} a message",
    )


def _measured_link(results: Sequence[Result]) -> Link:
    kinds = [(one["step"]["device"], one["setting"]["engine"]) for one in results]
    if len(set(kinds)) > 1:
        raise ConfigError(
            "The results are of different devices or engines, whose networks are not one.",
            place="--from",
            received=[f"{engine} on {device}" for device, engine in kinds],
            remedy="give results of one kind, or name the network: --bandwidth and --latency",
        )
    fit = fit_results(results)
    sums_in_tensorflow = fit.network.algorithms == TENSORFLOW_CPU
    network = with_software_apart(fit.network) if sums_in_tensorflow else fit.network
    return Link(network, f"the network that was measured: {fit.describe().removesuffix('.')}")


def fit_results(results: Sequence[Result]) -> NetworkFit:
    """Returns the network that results of several workers show; those of one worker say nothing of it.

    Raises:
        ConfigError: If they do not tell the latency from the bandwidth: their gradients must differ in size.
    """
    measured = [_measured_step(one) for one in results if one["setting"]["num_workers"] > 1]
    return fit_network(measured, _algorithms(results[0]))


def _measured_step(result: Result) -> MeasuredStep:
    """What is left out of both, input and commits, is nothing that a network could explain."""
    step = replace(facts_of(result), input_examples_per_second=math.inf)
    return MeasuredStep(step, result["setting"]["num_workers"], result["ablations"]["bare"] / 1000)


def _links_text(bandwidth: float, latency: float) -> str:
    return f"links of {bandwidth_text(bandwidth)}, {seconds_text(latency)} that nobody shares"


def _on_gpu(result: Result) -> bool:
    return result["step"]["device"] == "gpu"


def _algorithms(result: Result) -> tuple[Algorithm, ...]:
    if _on_gpu(result):
        return NCCL
    return JAX_CPU if result["setting"]["engine"] == "jax" else TENSORFLOW_CPU


def facts_of(result: Result) -> StepFacts:
    """Returns a step of one worker as a bench measured it.

    What its input could give is known only where a step is longer for it; else it counts as fast enough.

    Raises:
        ConfigError: If the workers do not exchange gradients in every step.
    """
    reduction = result["config"]["topology"]["reduction"]
    refuse_unmodelled(reduction)
    step, setting = result["step"], result["setting"]
    seconds = {name: milliseconds / 1000 for name, milliseconds in result["ablations"].items()}
    batch_size = setting["global_batch_size"] // setting["num_workers"]
    alone = "apart" if setting["num_workers"] > 1 else "bare"
    of_input = result["shares"]["input"]
    element_bytes = max(1, step["gradient_bytes"] // max(1, step["num_trainable_parameters"]))
    sent_bytes = min(element_bytes, 2) if reduction == "bfloat16" else element_bytes
    return StepFacts(
        batch_size=batch_size,
        compute_seconds=seconds[alone],
        compute_deviation=_deviation(result, alone),
        doubled_compute_seconds=_doubled(seconds, alone),
        input_examples_per_second=batch_size / (seconds[alone] + of_input * seconds["real"])
        if of_input > _LEAST_INPUT
        else math.inf,
        gradient_bytes=step["gradient_bytes"] * sent_bytes / element_bytes,
        element_bytes=sent_bytes,
        bucket_bytes=step["bucket_bytes"],
        overlap=BACKWARD_SHARE if _on_gpu(result) else CPU_OVERLAP,
    )


def refuse_unmodelled(reduction: Any) -> None:
    """Refuses workers that train apart and meet only now and then: the model knows nothing of them.

    Args:
        reduction: `topology.reduction`.

    Raises:
        ConfigError: If it is not the name of a type.
    """
    if not isinstance(reduction, str):
        raise ConfigError(
            "Workers that meet only every so many steps are not modelled.",
            place="topology.reduction",
            received=reduction,
            remedy="simulate with --set topology.reduction=full, which exchanges in every step",
        )


def simulate(
    result: Result, network: Network, workers: Sequence[int], description: str | None = None
) -> dict[str, Any]:
    """Returns what the model says of a number of workers, as JSON values.

    Args:
        result: What a bench measured.
        network: What would connect the workers.
        workers: Numbers of workers, fewest first.
        description: What `network` is, as `Link` has it; None: links that have its bandwidth and latency.
    """
    step = facts_of(result)
    predictions = [predict(step, network, number) for number in workers]
    curve = predict_up_to(step, network, max(workers))
    return {
        "model": True,
        "network": description or _links_text(network.bandwidth, network.latency),
        # Of what is sent, software and all; null: nothing was seen to take time.
        "bandwidth_bytes_per_second": 1 / network.byte_seconds if network.byte_seconds else None,
        "latency_seconds": network.message_seconds,
        "batch_size_per_worker": step.batch_size,
        "gradient_bytes": step.gradient_bytes,
        "workers": [_values(one) for one in predictions],
        "curve": [[one.num_workers, one.efficiency] for one in _thinned(curve)],
        "knee": knee(curve).describe(),
        "knob": advise(predictions[-1]),
        "published": describe(compare()),
    }


def text_rows(simulation: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Returns a row a number of workers, below `HEADER`."""
    return [
        (
            count_text(one["num_workers"]),
            rate_text(one["examples_per_second"]),
            seconds_text(one["step_seconds"]),
            percent_text(one["efficiency"]),
            _waiting_text(one),
        )
        for one in simulation["workers"]
    ]


def explanation(simulation: Mapping[str, Any]) -> str:
    """Returns what the numbers are, and what they are not."""
    return (
        "a model, nothing of it was measured: workers like one of those measured here, with "
        f"{simulation['batch_size_per_worker']:,} examples a step each, on {simulation['network']}; "
        "input comes evenly, and steps vary as they did here"
    )


def _thinned(curve: Sequence[Prediction]) -> list[Prediction]:
    """Returns the first and the last point of a curve, and of those between them what a chart can show."""
    ratio = max(1.0, curve[-1].num_workers ** (1 / _MAX_POINTS))
    kept = [curve[0]]
    for one in curve[1:-1]:
        if one.num_workers >= ratio * kept[-1].num_workers:
            kept.append(one)
    return [*kept, *curve[1:][-1:]]


def _deviation(result: Result, ablation: str) -> float:
    measured = [
        rank["deviation_milliseconds"] / 1000
        for trial in result["trials"]
        if trial["ablation"] == ablation
        for rank in trial["ranks"]
    ]
    return statistics.median(measured) if measured else 0.0


def _doubled(seconds: Mapping[str, float], alone: str) -> float | None:
    """Seconds of a step on twice the batch, by what `LARGE` times the batch took; None: that was not measured."""
    if "large" not in seconds:
        return None
    return seconds[alone] + max(0.0, seconds["large"] - seconds[alone]) / (LARGE - 1)


def _values(one: Prediction) -> dict[str, Any]:
    return {
        "num_workers": one.num_workers,
        "examples_per_second": one.examples_per_second,
        "step_seconds": one.step_seconds,
        "efficiency": one.efficiency,
        "input_wait_seconds": one.input_wait_seconds,
        "slowest_wait_seconds": one.slowest_wait_seconds,
        "exchange_seconds": one.exchange_seconds,
    }


def _waiting_text(one: Mapping[str, Any]) -> str:
    names = {
        "input_wait_seconds": "input",
        "slowest_wait_seconds": "the slowest",
        "exchange_seconds": "gradients",
    }
    waits = {text: one[name] / one["step_seconds"] for name, text in names.items()}
    said = [f"{text} {percent_text(share)}" for text, share in waits.items() if share >= 0.01]
    return ", ".join(said) or "nothing"
