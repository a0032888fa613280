"""What a line of progress says, and what it leaves out where there is little room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from distkeras.observability.formats import (
    duration_text,
    memory_text,
    metric_text,
    percent_text,
    rate_text,
)
from distkeras.observability.timers import IntervalSummary

_GAP = "  "
_MAX_METRICS = 6


@dataclass(frozen=True)
class Extent:
    """How long the run is, which does not change while it trains.

    Attributes:
        num_epochs: Epochs of the whole run.
        num_steps: Steps of the whole run.
        num_replicas: Model replicas over all workers.
    """

    num_epochs: int
    num_steps: int
    num_replicas: int = 1


@dataclass(frozen=True)
class ProgressPoint:
    """Where a run is at one logging point.

    Attributes:
        epoch: The epoch, counted from 0.
        step: Steps completed in the whole run.
        interval: What the timer measured since the last point.
        metrics: Values by name, most important first; `loss` is shown first wherever it stands.
    """

    epoch: int
    step: int
    interval: IntervalSummary
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class _Part:
    key: str
    value: str
    short: str
    importance: float


def remaining_seconds(point: ProgressPoint, extent: Extent) -> float | None:
    """Returns the time that the steps left will take at this pace; None while it is not known.

    Validation and saving are not in it; nor is the pace of the warm-up, which compiles.
    """
    if point.interval.is_warm_up or point.interval.num_steps == 0:
        return None
    return (extent.num_steps - point.step) * point.interval.step_milliseconds / 1000


def plain_line(point: ProgressPoint, extent: Extent) -> str:
    """Returns the line for logs: every number, as `key=value` without spaces inside."""
    return " ".join(f"{part.key}={part.value.replace(' ', '')}" for part in _parts(point, extent))


def terminal_line(point: ProgressPoint, extent: Extent, width: int) -> str:
    """Returns the line for a terminal, at most `width` columns wide; the least important parts go first."""
    return _fit([(part.short, part.importance) for part in _parts(point, extent)], width)


def _fit(parts: Sequence[tuple[str, float]], width: int) -> str:
    kept = list(parts)
    while len(kept) > 1 and len(_GAP.join(text for text, _ in kept)) > width:
        kept.remove(min(kept, key=lambda part: part[1]))
    return _GAP.join(text for text, _ in kept)[: max(width, 0)]


def _parts(point: ProgressPoint, extent: Extent) -> list[_Part]:
    epoch = f"{point.epoch + 1}/{extent.num_epochs}"
    step = f"{point.step}/{extent.num_steps}"
    parts = [_Part("epoch", epoch, f"epoch {epoch}", 99), _Part("step", step, f"step {step}", 98)]
    parts += _metric_parts(point.metrics)
    parts += _throughput_parts(point.interval, extent)
    seconds = remaining_seconds(point, extent)
    if seconds is not None:
        text = duration_text(seconds)
        parts.append(_Part("eta", text, f"ETA {text}", 80))
    return parts


def _metric_parts(metrics: Mapping[str, float]) -> list[_Part]:
    names = sorted(metrics, key=lambda name: name != "loss")[:_MAX_METRICS]
    texts = [(name, metric_text(metrics[name])) for name in names]
    # Loss outlives everything but the position, the first metric all rates; the others go before the rates.
    ranks = [97, 90, *(40 - index for index in range(_MAX_METRICS))]
    return [
        _Part(name, text, f"{name} {text}", rank) for (name, text), rank in zip(texts, ranks, strict=False)
    ]


def _throughput_parts(interval: IntervalSummary, extent: Extent) -> list[_Part]:
    rate, wait, memory = (
        interval.examples_per_second,
        percent_text(interval.input_wait_ratio),
        memory_text(interval.memory_bytes),
    )
    parts = [_Part("examples_per_second", _bare(rate), f"{rate_text(rate)} examples/s", 70)]
    if extent.num_replicas > 1:
        each = rate / extent.num_replicas
        parts.append(_Part("examples_per_second_per_replica", _bare(each), f"{rate_text(each)}/replica", 30))
    parts.append(_Part("input_wait", wait, f"input {wait}", 60))
    parts.append(_Part("memory", _bare_text(memory), memory, 20))
    return parts


def _bare(rate: float) -> str:
    return _bare_text(rate_text(rate))


def _bare_text(text: str) -> str:
    return text.replace(",", "")
