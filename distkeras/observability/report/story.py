"""The report in sentences: what was trained, how it went, and what was slow."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, Literal

from distkeras.observability.formats import (
    count_text,
    duration_text,
    memory_text,
    metric_text,
    percent_text,
    rate_text,
)
from distkeras.observability.metrics_file import Row
from distkeras.observability.report.facts import Facts

Bound = Literal["input-bound", "balanced", "compute-bound", "not measured"]

# A third of the time is worth an hour of work on the input; below a tenth nothing is to be won there.
_INPUT_BOUND = 0.3
_COMPUTE_BOUND = 0.1

_STATUS = {
    "running": "Still running",
    "completed": "Completed",
    "interrupted": "Interrupted by the user",
    "preempted": "Preempted",
    "failed": "Failed",
}


def subject_sentence(facts: Facts) -> str:
    """Returns what was trained, on what data."""
    task = str(facts.configured("task.kind") or "training").replace("_", " ")
    model = str(facts.configured("model.builder") or "a model")
    parameters = facts.manifest.get("num_parameters")
    size = f" ({count_text(parameters)} parameters)" if parameters else ""
    return f"{task.capitalize()} with {model}{size}, trained on {_data_name(facts)}."


def result_sentence(facts: Facts) -> str:
    """Returns how it ended: status, the metric that counts, steps and time."""
    manifest = facts.manifest
    status = _STATUS.get(str(manifest.get("status")), str(manifest.get("status")))
    done, planned = manifest.get("step") or 0, manifest.get("num_steps") or 0
    steps = (
        f"{count_text(done)} steps"
        if done >= planned
        else f"{count_text(done)} of {count_text(planned)} steps"
    )
    seconds = facts.elapsed_seconds()
    time = f" in {duration_text(seconds)}" if seconds is not None else ""
    main = main_metric(facts)
    metric = f": {main[0]} {metric_text(main[1])}" if main else ""
    return f"{status} after {steps}{time}{metric}."


def main_metric(facts: Facts) -> tuple[str, float | None] | None:
    """Returns name and value of the metric that counts: of the test, else of the last validation."""
    tested = (facts.evaluation or {}).get("metrics") or {}
    if tested:
        return _first_choice(tested, "test_")
    for row in reversed(facts.rows_of("epoch")):
        validated = {name: value for name, value in row["metrics"].items() if name.startswith("val_")}
        if validated:
            return _first_choice(validated, "val_")
    return None


def verdict(facts: Facts) -> tuple[Bound, str]:
    """Returns whether input or compute limits the speed, and the sentence that says it."""
    rows = facts.measured_rows()
    if not rows:
        return "not measured", "no interval after the first one, which includes compiling"
    waiting = input_wait_ratio(rows)
    said = f"{percent_text(waiting)} of a step waits for input"
    gain = f"{1 / max(1 - waiting, 0.01):.1f}x" if waiting >= _COMPUTE_BOUND else f"{1 / (1 - waiting):.2f}x"
    if waiting >= _INPUT_BOUND:
        return "input-bound", f"{said}; input without any cost would make it up to {gain} as fast"
    if waiting >= _COMPUTE_BOUND:
        return "balanced", f"{said}; input without any cost would make it up to {gain} as fast"
    return "compute-bound", f"{said}; faster input would make it at most {gain} as fast"


def input_wait_ratio(rows: Sequence[Row]) -> float:
    """Returns the share of time spent waiting for input, over intervals weighted by their step time."""
    weights = [row["step_milliseconds"] or 0.0 for row in rows]
    waited = sum(weight * (row["input_wait_ratio"] or 0.0) for weight, row in zip(weights, rows, strict=True))
    return min(waited / sum(weights), 1.0) if sum(weights) > 0 else 0.0


def key_numbers(facts: Facts) -> list[tuple[str, str]]:
    """Returns the few numbers shown large, as pairs of name and text."""
    numbers: list[tuple[str, str]] = []
    main = main_metric(facts)
    if main:
        numbers.append((main[0], metric_text(main[1])))
    rows = facts.measured_rows()
    if rows:
        seconds = sum(row["step_milliseconds"] or 0 for row in rows) / len(rows)
        rates = sorted(row["examples_per_second"] or 0 for row in rows)
        numbers.append(("examples/s, median", rate_text(rates[len(rates) // 2])))
        numbers.append(("ms a step, mean", f"{seconds:.3g}"))
        numbers.append(("memory, peak", memory_text(max(row["memory_bytes"] or 0 for row in rows))))
    seconds = facts.elapsed_seconds()
    if seconds is not None:
        numbers.append(("from start to end", duration_text(seconds)))
    return numbers


def data_numbers(facts: Facts) -> list[tuple[str, str]]:
    """Returns the sizes of the data and its parts, as pairs of name and text."""
    data: Mapping[str, Any] = facts.manifest.get("data") or {}
    names = {"num_examples": "examples", "train": "training", "validation": "validation", "test": "test"}
    numbers = [(text, count_text(data[key])) for key, text in names.items() if isinstance(data.get(key), int)]
    classes = data.get("class_names")
    if classes:
        numbers.append(("classes", count_text(len(classes))))
    if data.get("fingerprint"):
        numbers.append(("fingerprint", str(data["fingerprint"])))
    return numbers


def reproduce_command(facts: Facts) -> str:
    """Returns the command line that started the run, quoted for a shell; empty where it is not known."""
    command = facts.manifest.get("command") or (facts.environment or {}).get("command") or []
    return shlex.join(str(part) for part in command)


def environment_numbers(facts: Facts) -> list[tuple[str, str]]:
    """Returns machine, versions and what fixes the numbers of the run, as pairs of name and text."""
    environment, manifest = facts.environment or {}, facts.manifest
    pairs: list[tuple[str, Any]] = [(name, environment.get(name)) for name in ("platform", "python", "cpu")]
    pairs.append(("cores", environment.get("num_cores")))
    pairs.append(
        ("memory", memory_text(environment["memory_bytes"]) if environment.get("memory_bytes") else None)
    )
    pairs += [
        ("gpu", ", ".join(str(value) for value in gpu.values())) for gpu in environment.get("gpus") or []
    ]
    pairs += sorted((environment.get("versions") or manifest.get("versions") or {}).items())
    topology: Mapping[str, Any] = manifest.get("topology") or {}
    pairs += [(name.replace("_", " "), value) for name, value in topology.items()]
    pairs += [
        (name.replace("_", " "), manifest.get(name))
        for name in ("seed", "git_revision", "attempts", "identity")
    ]
    return [(name, str(value)) for name, value in pairs if value is not None]


def _first_choice(metrics: Mapping[str, float | None], prefix: str) -> tuple[str, float | None]:
    names = list(metrics)
    better = [name for name in names if not name.endswith("loss")]
    name = f"{prefix}accuracy" if f"{prefix}accuracy" in metrics else (better or names)[0]
    said = "validation " if prefix == "val_" else "test "
    return said + name.removeprefix(prefix).replace("_", " "), metrics[name]


def _data_name(facts: Facts) -> str:
    kind = facts.configured("data.source.kind")
    path = facts.configured("data.source.path")
    name = PurePath(str(path)).name if path else f"{kind} data" if kind else "its data"
    examples = (facts.manifest.get("data") or {}).get("num_examples")
    return f"{name} ({count_text(examples)} examples)" if examples else name
