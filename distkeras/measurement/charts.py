"""The charts of a bench: what a step goes into, what each way of training takes, how fast each setting is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes

from distkeras.measurement.tables import ABLATIONS, SHARES
from distkeras.observability.formats import percent_text, rate_text
from distkeras.observability.report.drawing import ACCENT, INK, MUTED, Chart, draw, shortened

Result = Mapping[str, Any]
# A bar and the gap below it, in inches.
_ROW = 0.42
_MAX_SETTINGS = 24


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
    rates = {setting["name"]: setting["examples_per_second"] for setting in settings}
    said = "; ".join(f"{name}: {rate_text(rate)}" for name, rate in rates.items())
    spans = [setting["examples_per_second_interval"] for setting in settings]
    bars = [(name, rate, rate_text(rate)) for name, rate in rates.items()]
    return _bar_chart("Examples per second", f"Examples per second: {said}.", bars, spans)


def _bar_chart(
    title: str,
    description: str,
    bars: list[tuple[str, float, str]],
    spans: list[tuple[float, float]] | None = None,
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
        axes.set_yticks(places, [shortened(name, 42) for name, _, _ in bars])
        axes.set_xlim(0, 1.22 * most)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)

    return Chart(title, description, draw(paint, width=4.6, height=0.3 + _ROW * len(bars)))
