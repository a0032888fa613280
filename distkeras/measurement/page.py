"""The page of a bench: its result as one offline HTML file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distkeras.config.documents import render_document
from distkeras.errors import MissingDependencyError
from distkeras.measurement import tables

# So many processes' trials are listed at most: the page stays below 1 MB.
MAX_TRIALS = 1000


def render(result: Mapping[str, Any]) -> str:
    """Returns the page: everything inline, no script, nothing fetched.

    Args:
        result: What `result.make_result` returned.

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
            command=shlex.join(map(str, result["command"])),
            environment=tables.machine_rows(result),
            config=render_document(result["config"]),
            stylesheet=stylesheet(),
            inline=Markup,
        )
    )
