"""A result as rows of text: what the console and the page show alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distkeras.measurement.passes import coverage, interval_depth
from distkeras.measurement.plan import LARGE
from distkeras.observability.formats import memory_text, percent_text, rate_text

Result = Mapping[str, Any]

SHARES = {
    "compute": "computing",
    "input": "input",
    "communication": "between workers",
    "waiting": "  of which waiting for the slowest",
    "keeping": "commits, validation, logging",
    "commits": "  of which commits",
    "validation": "  of which validation",
    "logging": "  of which logging and the turn of epochs",
    "host": "fixed cost of a step",
}
ABLATIONS = {
    "real": "as the config says",
    "one_batch": "without the cost of input",
    "bare": "and no commits, validation, logging",
    "apart": "and workers that never talk",
    "large": f"and on {LARGE} times the batch",
    "alone": "one worker as the config says, the others' cores idle",
}
SETTING_HEADER = ("setting", "examples/s", "interval", "ms a step", "input", "memory", "CPU-s per 1000")
TRIAL_HEADER = ("trial", "pass", "examples/s", "p50 ms", "p90 ms", "p99 ms", "input", "memory")


def key_numbers(result: Result) -> list[tuple[str, str, str]]:
    """Returns the few numbers that are shown first: name, median, and between what it lies, where that is known."""
    step = result["step"]
    rate, waits = result["examples_per_second_interval"], result["input_wait_interval"]
    numbers = [
        ("examples/s", rate_text(result["examples_per_second"]), _span(rate, rate_text)),
        ("ms a step", _digits(step["mean_milliseconds"]), ""),
        *(
            (f"ms a step, {name}", _digits(value), _span(step["percentile_intervals"][name], _digits))
            for name, value in step["percentile_milliseconds"].items()
        ),
        ("input wait", percent_text(result["input_wait_ratio"]), _span(waits, percent_text)),
        ("peak memory", memory_text(step["peak_memory_bytes"]), ""),
    ]
    if step["joules_per_1000_examples"] is not None:
        numbers.append(("energy", f"{step['joules_per_1000_examples']:.3g} J for 1,000 examples", ""))
    if result["scaling_efficiency"] is not None:
        span = _span(result["scaling_efficiency_interval"], percent_text)
        numbers.append(("scaling efficiency", percent_text(result["scaling_efficiency"]), span))
    if result["slowest_rank"] is not None:
        numbers.append(("slowest worker", f"rank {result['slowest_rank']}", ""))
    return numbers


def certainty(result: Result) -> str:
    """Returns how far the intervals can be trusted."""
    passes = result["passes"]
    if passes == 1:
        return "one pass: how far its numbers can be trusted is not known; use more --pairs"
    sure = percent_text(coverage(passes, interval_depth(passes)))
    return f"intervals are of {passes} passes and hold the true median with a probability of {sure}"


def share_rows(result: Result) -> list[tuple[str, str, str]]:
    """Returns a row a share of a step: what it is, how large, and between which of the passes."""
    shares, spans = result["shares"], result["intervals"]
    has_workers = result["setting"]["num_workers"] > 1
    return [
        (text, percent_text(shares[name]), _span(spans[name], percent_text))
        for name, text in SHARES.items()
        if has_workers or name not in ("communication", "waiting")
    ]


def ablation_rows(result: Result) -> list[tuple[str, str, str]]:
    """Returns a row a way of training: its name, what it lacks, and its milliseconds a step."""
    return [
        (name, ABLATIONS[name], f"{result['ablations'][name]:.3g}\N{NO-BREAK SPACE}ms")
        for name in ABLATIONS
        if name in result["ablations"]
    ]


def setting_rows(result: Result) -> list[tuple[str, ...]]:
    """Returns a row a setting, below `SETTING_HEADER`."""
    return [
        (
            setting["name"],
            rate_text(setting["examples_per_second"]),
            _span(setting["examples_per_second_interval"], rate_text),
            _digits(setting["step_milliseconds"]),
            percent_text(setting["input_wait_ratio"]),
            memory_text(setting["peak_memory_bytes"]),
            f"{setting['cpu_seconds_per_1000_examples']:.3g}",
        )
        for setting in result["settings"]
    ]


def trial_rows(result: Result) -> list[tuple[str, ...]]:
    """Returns a row a trial and process, below `TRIAL_HEADER`."""
    return [
        (
            f"{trial['ablation']}: {trial['setting']}"
            + (f", rank {rank['rank']}" if len(trial["ranks"]) > 1 else ""),
            str(trial["pass"] + 1),
            rate_text(rank["examples_per_second"]),
            *(f"{rank['step_milliseconds'][name]:.3g}" for name in ("p50", "p90", "p99")),
            percent_text(rank["input_wait_ratio"]),
            memory_text(rank["peak_memory_bytes"]),
        )
        for trial in result["trials"]
        for rank in trial["ranks"]
    ]


def machine_rows(result: Result) -> list[tuple[str, str]]:
    """Returns machine, versions and how it was measured, as pairs of name and text."""
    machine = result["machine"]
    rows = [
        ("measured", f"{result['date']}: {result['passes']} passes, {result['seconds']:g} s a trial"),
        ("certainty", certainty(result)),
        ("cpu", f"{machine['cpu']}, {machine['num_cores']} cores"),
        ("memory", memory_text(machine["memory_bytes"])),
    ]
    rows += [("gpu", ", ".join(map(str, gpu.values()))) for gpu in machine["gpus"]]
    rows.append(("platform", machine["platform"]))
    return rows + sorted(result["versions"].items())


def _digits(milliseconds: float) -> str:
    return f"{milliseconds:.3g}"


def _span(interval: Sequence[float], text: Callable[[float], str]) -> str:
    low, high = map(text, interval)
    return low if low == high else f"{low} to {high}"
