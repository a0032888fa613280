"""More workers than there are here: a measured result put into the cost model, and what comes out as a table."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from distkeras.errors import ConfigError
from distkeras.measurement.advice import advise, knee
from distkeras.measurement.cost_model import BACKWARD_SHARE, Prediction, StepFacts, predict, predict_up_to
from distkeras.measurement.network import Network
from distkeras.measurement.published import compare, describe
from distkeras.measurement.quantities import bandwidth_text, seconds_text
from distkeras.observability.formats import count_text, percent_text, rate_text

Result = Mapping[str, Any]
# Less of a step is not waiting for input, but fetching it.
_WAITS = 0.05
HEADER = ("workers", "examples/s", "a step", "efficiency", "what a step waits for")


def facts_of(result: Result) -> StepFacts:
    """Returns a step of one worker as a bench measured it.

    What its input could give is known only where training waits for it; else it counts as fast enough.

    Raises:
        ConfigError: If the result lacks what the model needs.
    """
    try:
        step, setting = result["step"], result["setting"]
        batch_size = setting["global_batch_size"] // setting["num_workers"]
        alone = "apart" if setting["num_workers"] > 1 else "bare"
        waits = result["input_wait_ratio"] > _WAITS
        return StepFacts(
            batch_size=batch_size,
            compute_seconds=result["ablations"][alone] / 1000,
            compute_deviation=_deviation(result, alone),
            doubled_compute_seconds=_doubled(result["ablations"], alone),
            input_examples_per_second=result["examples_per_second"] / setting["num_workers"]
            if waits
            else math.inf,
            gradient_bytes=step["gradient_bytes"],
            element_bytes=max(1, step["gradient_bytes"] // max(1, step["num_trainable_parameters"])),
            bucket_bytes=step["bucket_bytes"],
            overlap=BACKWARD_SHARE,
        )
    except KeyError as error:
        raise ConfigError(
            "The result lacks what a simulation needs.",
            place="--from",
            received=f"no {error.args[0]}",
            remedy="measure it again with this version: distkeras bench --config FILE --out RESULT.json",
        ) from error


def simulate(result: Result, network: Network, workers: Sequence[int]) -> dict[str, Any]:
    """Returns what the model says of a number of workers, as JSON values.

    Args:
        result: What a bench measured.
        network: What would connect the workers.
        workers: Numbers of workers, fewest first.
    """
    step = facts_of(result)
    predictions = [predict(step, network, number) for number in workers]
    return {
        "model": True,
        "bandwidth_bytes_per_second": network.bandwidth,
        "latency_seconds": network.latency,
        "batch_size_per_worker": step.batch_size,
        "gradient_bytes": step.gradient_bytes,
        "workers": [_values(one) for one in predictions],
        "knee": knee(predict_up_to(step, network, max(workers))).describe(),
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
    bandwidth, latency = simulation["bandwidth_bytes_per_second"], simulation["latency_seconds"]
    return (
        "a model, nothing of it was measured: workers like one of those measured here, with "
        f"{simulation['batch_size_per_worker']:,} examples a step each, on links of {bandwidth_text(bandwidth)}, "
        f"{seconds_text(latency)} that nobody shares"
    )


def _deviation(result: Result, ablation: str) -> float:
    measured = [
        rank["deviation_milliseconds"] / 1000
        for trial in result["trials"]
        if trial["ablation"] == ablation
        for rank in trial["ranks"]
    ]
    return statistics.median(measured) if measured else 0.0


def _doubled(ablations: Mapping[str, float], alone: str) -> float | None:
    """Seconds of a step on twice the batch, by what four times the batch took; None: that was not measured."""
    if "large" not in ablations:
        return None
    return (ablations[alone] + max(0.0, ablations["large"] - ablations[alone]) / 3) / 1000


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
