"""The contact sheet: an inspection as one offline HTML page."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

from distkeras.data.inspection.result import Column, Inspection, Sample
from distkeras.data.inspection.statistics import Distribution
from distkeras.data.sizes import size_text
from distkeras.errors import MissingDependencyError
from distkeras.observability.formats import count_text, percent_text

# The parts that grow with the data are bounded, so that a page stays below 1 MB whatever the data is.
MAX_PICTURE_BYTES = 450_000
MAX_COLUMNS = 200
MAX_CLASSES = 60
MAX_PROBLEMS = 50
MAX_NAME_CHARACTERS = 60
MAX_TEXT_CHARACTERS = 300
_BAR_WIDTH, _BAR_HEIGHT = 160, 36


def render(inspection: Inspection) -> str:
    """Returns the page: everything inline, no script, nothing fetched.

    Raises:
        MissingDependencyError: If Jinja2 is not installed.
    """
    if find_spec("jinja2") is None:
        raise MissingDependencyError("Jinja2", "report")
    from markupsafe import Markup

    from distkeras.observability.report.templates import stylesheet, templates

    return (
        templates(Path(__file__).parent)
        .get_template("contact_sheet.html.j2")
        .render(
            name=inspection.name,
            kind=inspection.kind.replace("_", " "),
            numbers=_key_numbers(inspection),
            facts=list(inspection.facts.items()),
            columns=[_column_row(column, Markup) for column in inspection.columns[:MAX_COLUMNS]],
            num_columns=len(inspection.columns),
            classes=_class_rows(inspection),
            num_classes=len(inspection.classes or ()),
            problems=inspection.problems[:MAX_PROBLEMS],
            num_problems=len(inspection.problems),
            groups=list(_groups(inspection.samples)),
            stylesheet=stylesheet(),
        )
    )


def histogram_svg(distribution: Distribution) -> str:
    """Returns a small histogram as an `<svg>` element, in the page's colours."""
    most = max(distribution.counts) or 1
    width = _BAR_WIDTH / len(distribution.counts)
    bars = [
        f'<rect x="{place * width:.1f}" y="{_BAR_HEIGHT * (1 - count / most):.1f}" width="{max(width - 1, 0.5):.1f}" '
        f'height="{_BAR_HEIGHT * count / most:.1f}"/>'
        for place, count in enumerate(distribution.counts)
        if count
    ]
    return (
        f'<svg class="histogram" viewBox="0 0 {_BAR_WIDTH} {_BAR_HEIGHT}" fill="var(--accent)" aria-hidden="true">'
        f"{''.join(bars)}</svg>"
    )


def number_text(value: float) -> str:
    """Returns a number in at most five digits, or whole where it is."""
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e15 else f"{value:.4g}"


def _key_numbers(inspection: Inspection) -> list[tuple[str, str]]:
    numbers = [("examples", count_text(inspection.num_examples))]
    if inspection.num_bytes is not None:
        numbers.append(("on the disk", size_text(inspection.num_bytes)))
    if inspection.classes is not None:
        numbers.append(("classes", count_text(len(inspection.classes))))
    numbers.append(("bad records", count_text(len(inspection.problems))))
    return numbers


def _column_row(column: Column, markup: Any) -> dict[str, Any]:
    return {
        "name": _shortened(column.name, MAX_NAME_CHARACTERS),
        "type": column.type,
        "shape": " x ".join("?" if size is None else str(size) for size in column.shape),
        "role": column.role,
        "missing": count_text(column.num_missing),
        "distinct": "" if column.num_distinct is None else count_text(column.num_distinct),
        "numbers": [
            (
                title,
                [number_text(getattr(one, key)) for key in ("min", "mean", "max", "std")],
                markup(histogram_svg(one)),
            )
            for title, one in column.numbers.items()
        ],
        "counts": [
            (title, [(_shortened(what, MAX_NAME_CHARACTERS), count_text(count)) for what, count in counts])
            for title, counts in column.counts.items()
            if counts
        ],
        "facts": list(column.facts.items()),
    }


def _class_rows(inspection: Inspection) -> list[dict[str, Any]]:
    classes = inspection.classes or ()
    total = sum(count for _, count in classes) or 1
    most = max((count for _, count in classes), default=1) or 1
    return [
        {
            "name": _shortened(name, MAX_NAME_CHARACTERS),
            "count": count_text(count),
            "share": percent_text(count / total),
            "width": f"{100 * count / most:.1f}",
        }
        for name, count in classes[:MAX_CLASSES]
    ]


def _groups(samples: Sequence[Sample]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Samples by class, with pictures as long as the page has room for them."""
    room = MAX_PICTURE_BYTES
    for name, members in groupby(samples, key=lambda sample: sample.class_name or ""):
        shown: list[dict[str, Any]] = []
        for sample in members:
            picture = sample.picture
            if picture is not None:
                room -= len(picture)
                if room < 0:
                    continue
            encoded = (
                None if picture is None else f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
            )
            text = None if sample.text is None else _shortened(sample.text, MAX_TEXT_CHARACTERS)
            shown.append(
                {"place": _shortened(sample.place, MAX_NAME_CHARACTERS), "picture": encoded, "text": text}
            )
        if shown:
            yield _shortened(name, MAX_NAME_CHARACTERS), shown


def _shortened(text: str, limit: int) -> str:
    visible = "".join(character if character.isprintable() else " " for character in text)
    return visible if len(visible) <= limit else visible[: limit - 1] + "…"
