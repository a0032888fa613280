"""The charts of a bench: what a step goes into, what each way of training takes, how fast each setting is, and what a
model says of more workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes

from distkeras.measurement.published import CURVES
from distkeras.measurement.tables import ABLATIONS, SHARES
from distkeras.observability.formats import percent_text, rate_text
from distkeras.observability.report.drawing import ACCENT, INK, MUTED, Chart, draw, shortened

Result = Mapping[str, Any]
# A bar and the gap below it, in inches.
_ROW = 0.42
_MAX_SETTINGS = 24
# Of a chart that has half the page, in inches.
_WIDTH = 4.6
# One for each model of a published figure; they lie upon each other, so that colour alone would not tell them apart.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")


def share_chart(result: Result) -> Chart:
    """Returns how large each share of a step is."""
    shown = {text.strip(): result["shares"][name] for name, text in SHARES.items()}
    shares = {text: share for text, share in shown.items() if share >= 0.005}
    said = ", ".join(f"{name} {percent_text(value)}" for name, value in shares.items())
    bars = [(name, 100 * value, f"{100 * value:.0f}%") for name, value in shares.items()]
    return _bar_chart("What a step goes into", f"Shares of a step: {said}.", bars)


def ablation_chart(result: Result) -> Chart:
    """Returns what a step takes in each way of training."""
    taken = {name: result["ablations"][name] for name in ABLATIONS if name in result["ablations"]}
    said = ", ".join(f"{name} {value:.3g}" for name, value in taken.items())
    bars = [(name.replace("_", " "), value, f"{value:.3g} ms") for name, value in taken.items()]
    return _bar_chart("Milliseconds of a step", f"Milliseconds of a step: {said}.", bars)


def setting_chart(result: Result) -> Chart | None:
    """Returns how fast each setting is; None where there is only one."""
    settings = result["settings"][:_MAX_SETTINGS]
    if len(settings) < 2:
        return None
    title, num_settings = "Examples per second", len(result["settings"])
    if num_settings > len(settings):
        title += f", the first {len(settings)} of {num_settings} settings"
    rates = {setting["name"]: setting["examples_per_second"] for setting in settings}
    said = "; ".join(f"{name}: {rate_text(rate)}" for name, rate in rates.items())
    spans = [setting["examples_per_second_interval"] for setting in settings]
    bars = [(name, rate, rate_text(rate)) for name, rate in rates.items()]
    return _bar_chart(title, f"{title}: {said}.", bars, spans, width=2 * _WIDTH)


def efficiency_chart(result: Result) -> Chart:
    """Returns the simulated efficiency over the number of workers, beside figures that others published."""
    simulation = result["simulation"]
    published: dict[str, list[tuple[int, float]]] = {}
    for curve in CURVES:
        published.setdefault(curve.model, []).extend(
            (point.num_workers, point.efficiency) for point in curve.points
        )
    said = ", ".join(
        f"{one['num_workers']:,} workers {percent_text(one['efficiency'])}" for one in simulation["workers"]
    )

    def paint(axes: Axes) -> None:
        for marker, (model, points) in zip(MARKERS, published.items(), strict=False):
            workers, shares = zip(*points, strict=True)
            axes.scatter(
                workers,
                [100 * share for share in shares],
                marker=marker,
                facecolors="none",
                edgecolors=MUTED,
                s=26,
                label=model,
            )
        workers, shares = zip(*simulation["curve"], strict=True)
        axes.plot(
            workers, [100 * share for share in shares], color=ACCENT, label="this config, modelled", zorder=3
        )
        if result["scaling_efficiency"] is not None:
            axes.scatter(
                [result["setting"]["num_workers"]],
                [100 * result["scaling_efficiency"]],
                color=ACCENT,
                s=34,
                zorder=4,
                label="this config, measured here",
            )
        axes.set_xscale("log", base=2)
        most = max(*workers, *(number for points in published.values() for number, _ in points))
        ticks = [2**power for power in range(0, most.bit_length() + 1, 1 + most.bit_length() // 11)]
        axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlim(0.9, 1.15 * most)
        axes.set_ylim(0, 105)
        axes.set_yticks(range(0, 101, 20), [f"{share}%" for share in range(0, 101, 20)])
        axes.set_xlabel("workers")
        # Below the axes: the curves leave no corner free.
        axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)

    return Chart(
        "Efficiency over the number of workers",
        f"Modelled efficiency: {said}. Published figures of {', '.join(published)} lie beside it.",
        draw(paint, width=5.2, height=4.4),
    )


def _bar_chart(
    title: str,
    description: str,
    bars: list[tuple[str, float, str]],
    spans: list[tuple[float, float]] | None = None,
    width: float = _WIDTH,
) -> Chart:
    def paint(axes: Axes) -> None:
        places = list(range(len(bars)))
        values = [value for _, value, _ in bars]
        axes.barh(places, values, color=ACCENT, alpha=0.75, height=0.6)
        for place, (low, high) in zip(places, spans or [], strict=False):
            axes.plot([low, high], [place, place], color=INK, linewidth=1)
        most = max([*values, *(high for _, high in spans or [])], default=1) or 1
        for place, (_, value, text) in zip(places, bars, strict=True):
            axes.text(
                max(value, spans[place][1] if spans else 0) + 0.015 * most,
                place,
                text,
                va="center",
                color=MUTED,
            )
        axes.set_yticks(places, [shortened(name, round(9 * width)) for name, _, _ in bars])
        axes.set_xlim(0, 1.22 * most)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)

    return Chart(title, description, draw(paint, width=width, height=0.3 + _ROW * len(bars)))
