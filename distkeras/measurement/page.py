"""The page of a bench: its result as one offline HTML file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distkeras.config.documents import render_document
from distkeras.errors import MissingDependencyError
from distkeras.measurement import tables
from distkeras.measurement.published import CURVES, compare
from distkeras.measurement.simulation import HEADER, explanation, text_rows
from distkeras.observability.formats import percent_text

if TYPE_CHECKING:
    from distkeras.observability.report.drawing import Chart

# So many processes' trials are listed at most: the page stays below 1 MB.
MAX_TRIALS = 1000


def render(result: Mapping[str, Any]) -> str:
    """Returns the page: everything inline, no script, nothing fetched.

    Args:
        result: What `result.make_result` returned; with `simulation.simulate`'s as `simulation`, where there is one.

    Raises:
        MissingDependencyError: If Jinja2 or matplotlib is not installed.
    """
    for module, package in (("jinja2", "Jinja2"), ("matplotlib", "matplotlib")):
        if find_spec(module) is None:
            raise MissingDependencyError(package, "report")
    from markupsafe import Markup

    from distkeras.measurement import charts
    from distkeras.observability.report.templates import stylesheet, templates

    bound, _, explanation = result["verdict"].partition(": ")
    of_settings = charts.setting_chart(result)
    simulation = result.get("simulation")
    return (
        templates(Path(__file__).parent)
        .get_template("bench.html.j2")
        .render(
            name=result["name"],
            date=result["date"],
            setting=result["setting"]["name"],
            bound=bound,
            explanation=explanation,
            warnings=result["warnings"],
            numbers=tables.key_numbers(result),
            charts=[charts.share_chart(result), charts.ablation_chart(result)],
            setting_charts=[of_settings] if of_settings else [],
            shares=tables.share_rows(result),
            ablations=tables.ablation_rows(result),
            setting_header=tables.SETTING_HEADER,
            settings=tables.setting_rows(result),
            trial_header=tables.TRIAL_HEADER,
            trials=tables.trial_rows(result)[:MAX_TRIALS],
            simulation=simulation and _simulated(simulation, charts.efficiency_chart(result)),
            command=shlex.join(map(str, result["command"])),
            environment=tables.machine_rows(result),
            config=render_document(result["config"]),
            stylesheet=stylesheet(),
            inline=Markup,
        )
    )


def _simulated(simulation: Mapping[str, Any], chart: Chart) -> dict[str, Any]:
    """Returns what the page shows of a simulation, and of what others published."""
    sources = list(dict.fromkeys(point.source for curve in CURVES for point in curve.points))
    return {
        "explanation": explanation(simulation),
        "knee": simulation["knee"],
        "knob": simulation["knob"],
        "published": simulation["published"],
        "chart": chart,
        "header": HEADER,
        "rows": text_rows(simulation),
        "published_rows": [
            (
                one.curve.model,
                str(one.point.num_workers),
                percent_text(one.point.efficiency),
                percent_text(one.modelled),
                f"[{sources.index(one.point.source) + 1}]",
                one.curve.cluster,
            )
            for one in compare()
        ],
        "sources": sources,
    }
