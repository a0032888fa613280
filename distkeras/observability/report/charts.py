"""The charts of a report, each a pure function of the run's facts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from distkeras.observability.formats import count_text, metric_text, rate_text
from distkeras.observability.metrics_file import Row
from distkeras.observability.report.drawing import (
    ACCENT,
    INK,
    LINE,
    MUTED,
    ON_ACCENT,
    Chart,
    draw,
    shortened,
    thinned,
)
from distkeras.observability.report.facts import Facts

_MAX_CURVES = 8
_MAX_POINTS = 400
_MAX_SCATTER = 1000
_MAX_COUNTED_CLASSES = 12
_MAX_LABELLED_CLASSES = 20
_MEBIBYTE = 1024**2

Points = list[tuple[float, float]]


def curves(facts: Facts) -> list[Chart]:
    """Returns one chart a metric: training by step, training and validation by epoch."""
    names = dict.fromkeys(name.removeprefix("val_") for row in facts.rows for name in row["metrics"])
    names = [name for name in names if not name.startswith("test_")]
    charts = [_curve(facts, name) for name in names[:_MAX_CURVES]]
    return [chart for chart in charts if chart is not None]


def speed_charts(facts: Facts) -> list[Chart]:
    """Returns throughput, input wait and memory over steps; none before two intervals were measured."""
    rows = facts.measured_rows()
    if len(rows) < 2:
        return []
    rate = _series(rows, "examples_per_second", 1)
    wait = _series(rows, "input_wait_ratio", 100)
    memory = _series(rows, "memory_bytes", 1 / _MEBIBYTE)
    wait_text = f"Share of a step that waits for input, by step: {_range_text(wait, '%')}."
    return [
        _over_steps("Examples per second", f"Examples per second by step: {_range_text(rate)}.", rate, None),
        _over_steps("Input wait, % of a step", wait_text, wait, 100),
        _over_steps("Memory, MiB", f"Resident memory by step: {_range_text(memory, ' MiB')}.", memory, None),
    ]


def confusion_chart(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> Chart:
    """Returns the confusion matrix: rows are the true classes, columns the predicted ones."""
    counts = np.asarray(matrix, dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right = count_text(float(np.trace(counts)))
    description = (
        f"Confusion matrix of {len(names)} classes: {right} of {count_text(float(counts.sum()))} examples "
        f"lie on the diagonal, where the prediction is right."
    )
    size = 4.7 if len(names) <= _MAX_COUNTED_CLASSES else 5.2
    svg = draw(lambda axes: _paint_confusion(axes, names, counts, shares), width=size, height=size)
    return Chart("Confusion matrix", description, svg)


def regression_charts(targets: Sequence[float], predictions: Sequence[float]) -> list[Chart]:
    """Returns predictions against targets, and the residuals."""
    pairs = [pair for pair in zip(targets, predictions, strict=False) if _finite(pair)]
    pairs = thinned(pairs, _MAX_SCATTER)
    if not pairs:
        return []
    residuals = [(target, prediction - target) for target, prediction in pairs]
    mean = sum(abs(residual) for _, residual in residuals) / len(residuals)
    shown = f"for {count_text(len(pairs))} examples"
    return [
        Chart(
            "Prediction against target",
            f"Predictions against targets {shown}; right ones lie on the diagonal line.",
            draw(lambda axes: _paint_scatter(axes, pairs, "target", "prediction", diagonal=True)),
        ),
        Chart(
            "Residuals",
            f"Prediction minus target {shown}; the mean absolute residual is {metric_text(mean)}.",
            draw(
                lambda axes: _paint_scatter(axes, residuals, "target", "prediction - target", diagonal=False)
            ),
        ),
    ]


def _curve(facts: Facts, name: str) -> Chart | None:
    steps_per_epoch = facts.steps_per_epoch() or 1.0
    by_step = _metric_points(facts.rows_of("train"), name, steps_per_epoch)
    by_epoch = _metric_points(facts.rows_of("epoch"), name, steps_per_epoch)
    validation = _metric_points(facts.rows_of("epoch"), f"val_{name}", steps_per_epoch)
    if not (by_step or by_epoch or validation):
        return None
    unit = "epoch" if facts.steps_per_epoch() else "step"

    def paint(axes: Axes) -> None:
        axes.plot(
            *_columns(by_step),
            color=MUTED,
            alpha=0.4,
            linewidth=1.2,
            marker=_dots(by_step),
            label="training, by step",
        )
        axes.plot(*_columns(by_epoch), color=MUTED, label="training", marker=_dots(by_epoch))
        axes.plot(*_columns(validation), color=ACCENT, label="validation", marker=_dots(validation))
        _frame(axes, unit)
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(
            *_drawn(handles, labels), loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=3, columnspacing=1.1
        )

    said = [
        f"{label} from {metric_text(points[0][1])} to {metric_text(points[-1][1])}"
        for label, points in (("training", by_epoch or by_step), ("validation", validation))
        if points
    ]
    return Chart(name.replace("_", " "), f"{name} by {unit}: {', '.join(said)}.", draw(paint))


def _drawn(handles: Sequence[Any], labels: Sequence[str]) -> tuple[list[Any], list[str]]:
    pairs = [pair for pair in zip(handles, labels, strict=True) if len(pair[0].get_xdata())]
    return [handle for handle, _ in pairs], [label for _, label in pairs]


def _metric_points(rows: Sequence[Row], name: str, steps_per_epoch: float) -> Points:
    return [
        (row["step"] / steps_per_epoch, row["metrics"][name])
        for row in thinned(rows, _MAX_POINTS)
        if row["metrics"].get(name) is not None
    ]


def _series(rows: Sequence[Row], key: str, scale: float) -> Points:
    points = thinned(rows, _MAX_POINTS)
    return [(row["step"], row[key] * scale) for row in points if row.get(key) is not None]


def _over_steps(title: str, description: str, points: Points, top: float | None) -> Chart:
    def paint(axes: Axes) -> None:
        axes.plot(*_columns(points), color=ACCENT)
        axes.fill_between(*_columns(points), color=ACCENT, alpha=0.12, linewidth=0)
        _frame(axes, "step")
        axes.set_ylim(0, top or 1.15 * max((value for _, value in points), default=1) or 1)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: count_text(value)))

    return Chart(title, description, draw(paint, width=3.5, height=2.2))


def _frame(axes: Axes, unit: str) -> None:
    axes.set_xlabel(unit)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.margins(x=0.02)


def _paint_confusion(axes: Axes, names: Sequence[str], counts: Any, shares: Any) -> None:
    axes.grid(visible=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_aspect("equal")
    axes.spines["bottom"].set_visible(False)
    num_classes = len(names)
    axes.set(xlim=(-0.5, num_classes - 0.5), ylim=(num_classes - 0.5, -0.5))
    if num_classes > _MAX_LABELLED_CLASSES:
        _paint_shares(axes, shares)
        return
    labels = [shortened(name, 12) for name in names]
    upright = max(len(label) for label in labels) > 3
    size = 10 if num_classes <= _MAX_COUNTED_CLASSES else 8
    axes.set_xticks(range(num_classes), labels, rotation=90 if upright else 0, fontsize=size)
    axes.set_yticks(range(num_classes), labels, fontsize=size)
    for row, column in np.ndindex(counts.shape):
        _paint_cell(axes, row, column, counts[row, column], shares[row, column], num_classes)


def _paint_cell(axes: Axes, row: int, column: int, count: float, share: float, num_classes: int) -> None:
    from matplotlib.patches import Rectangle

    corner = (column - 0.47, row - 0.47)
    colour, alpha = (ACCENT, 0.1 + 0.9 * share) if count else (LINE, 0.35)
    axes.add_patch(Rectangle(corner, 0.94, 0.94, facecolor=colour, alpha=alpha, linewidth=0))
    # With more classes a cell is too small on a phone for its number; the shade still tells.
    if count and num_classes <= _MAX_COUNTED_CLASSES:
        text_colour = ON_ACCENT if share > 0.55 else INK
        axes.text(column, row, count_text(count), ha="center", va="center", color=text_colour)


def _paint_shares(axes: Axes, shares: Any) -> None:
    # Many classes: one picture instead of thousands of shapes. Its pixels cannot follow the page's colours,
    # so they are one mid blue, as opaque as the share is large, which reads on light and on dark.
    pixels = np.zeros((*shares.shape, 4))
    pixels[..., :3] = (0.23, 0.47, 0.85)
    pixels[..., 3] = np.sqrt(shares)
    axes.imshow(pixels, interpolation="nearest")


def _paint_scatter(axes: Axes, points: Points, x_label: str, y_label: str, *, diagonal: bool) -> None:
    axes.plot(
        *_columns(points),
        linestyle="",
        marker="o",
        markersize=3.5,
        color=ACCENT,
        alpha=0.5,
        markeredgewidth=0,
    )
    if diagonal:
        axes.axline((points[0][0], points[0][0]), slope=1, color=MUTED, linewidth=1)
    else:
        axes.axhline(0, color=MUTED, linewidth=1)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)


def _columns(points: Points) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _dots(points: Points) -> str | None:
    return "." if len(points) <= 2 else None


def _range_text(points: Points, unit: str = "") -> str:
    values = sorted(value for _, value in points)
    if not values:
        return "not finite"
    return f"from {rate_text(values[0])}{unit} to {rate_text(values[-1])}{unit}"


def _finite(pair: tuple[float | None, float | None]) -> bool:
    return all(value is not None and math.isfinite(value) for value in pair)
