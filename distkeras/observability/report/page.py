"""The report's two renderings: what goes into the templates, and how their text is made safe."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

from markupsafe import Markup

from distkeras.observability.formats import count_text, metric_text
from distkeras.observability.report import charts, story
from distkeras.observability.report.drawing import shortened, thinned
from distkeras.observability.report.facts import Facts, Json, parse_time
from distkeras.observability.report.templates import stylesheet, templates

# The parts that grow with the run are bounded, so that a page stays below 1 MB whatever the run was.
_MAX_CLASSES = 50
_MAX_EPOCHS = 50
_MAX_WORST = 24
_MAX_PICTURE_CHARACTERS = 300_000
_MAX_TEXT_CHARACTERS = 50_000
_MAX_LABEL_CHARACTERS = 60
_PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+=*")
_FOLDER = Path(__file__).parent


def render_html(facts: Facts) -> str:
    """Returns the page: everything inline, no script, nothing fetched."""
    environment = templates(_FOLDER)
    charts_of_page = _charts(facts)
    return environment.get_template("page.html.j2").render(
        **_context(facts), stylesheet=stylesheet(), **charts_of_page, inline=Markup
    )


def render_markdown(facts: Facts) -> str:
    """Returns the same report as Markdown, without charts and pictures."""
    environment = templates(_FOLDER, autoescape=False)
    environment.filters["cell"] = markdown_text
    environment.filters["fenced"] = fenced
    return environment.get_template("page.md.j2").render(**_context(facts))


def markdown_text(value: object) -> str:
    """Returns text that Markdown shows as it is: on one line, no markup, no HTML."""
    text = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;")
    # An underscore inside a word (`val_loss`) is plain text already.
    return re.sub(r"([\\`*{}\[\]|#>~$]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def fenced(text: str) -> str:
    """Returns a code block whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text.rstrip()}\n{fence}"


def worst_examples(evaluation: Json) -> list[dict[str, Any]]:
    """Returns the examples with the largest loss, with pictures as long as the page has room for them."""
    names = (evaluation.get("classification") or {}).get("class_names") or []
    room = _MAX_PICTURE_CHARACTERS
    examples: list[dict[str, Any]] = []
    for worst in (evaluation.get("worst") or [])[:_MAX_WORST]:
        picture = worst.get("picture")
        if not (isinstance(picture, str) and len(picture) <= room and _PICTURE.fullmatch(picture)):
            picture = None
        room -= len(picture or "")
        examples.append(
            {
                "place": shortened(str(worst.get("place", "")), _MAX_LABEL_CHARACTERS),
                "target": _answer_text(worst.get("target"), names),
                "prediction": _answer_text(worst.get("prediction"), names),
                "loss": metric_text(worst.get("loss")),
                "picture": picture,
            }
        )
    return examples


def class_rows(evaluation: Json) -> list[dict[str, str]]:
    """Returns the per-class table: all classes in their order, or the weakest by F1 where they are many."""
    classes = (evaluation.get("classification") or {}).get("per_class") or []
    if len(classes) > _MAX_CLASSES:
        classes = sorted(classes, key=lambda one: one["f1"] or 0.0)[:_MAX_CLASSES]
    return [
        {
            "name": shortened(str(one["name"]), _MAX_LABEL_CHARACTERS),
            **{key: metric_text(one[key]) for key in ("precision", "recall", "f1")},
            "support": count_text(one["support"]),
        }
        for one in classes
    ]


def epoch_table(facts: Facts) -> tuple[list[str], list[list[str]]]:
    """Returns header and rows of the metrics at the end of each epoch, thinned where epochs are many."""
    rows = facts.rows_of("epoch")
    names = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    table = [
        [str(row["epoch"] + 1)]
        + [metric_text(row["metrics"][name]) if name in row["metrics"] else "" for name in names]
        for row in thinned(rows, _MAX_EPOCHS)
    ]
    return ["epoch", *names], table


def _context(facts: Facts) -> dict[str, Any]:
    evaluation = facts.evaluation or {}
    bound, explanation = story.verdict(facts)
    header, epochs = epoch_table(facts)
    return {
        "name": facts.manifest.get("name", "run"),
        "status": facts.manifest.get("status"),
        "created": _moment_text(facts.manifest.get("created")),
        "subject": story.subject_sentence(facts),
        "result": story.result_sentence(facts),
        "error": _bounded(str(facts.manifest.get("error") or "")),
        "bound": bound,
        "explanation": explanation,
        "key_numbers": story.key_numbers(facts),
        "data_numbers": story.data_numbers(facts),
        "arithmetic": facts.manifest.get("arithmetic") or "",
        "environment": story.environment_numbers(facts),
        "command": story.reproduce_command(facts),
        "config": _bounded(facts.config_text),
        "epoch_header": header,
        "epochs": epochs,
        "split": evaluation.get("split", "test"),
        "num_evaluated": count_text(evaluation.get("num_examples") or 0),
        "test_metrics": [
            (name.replace("_", " "), metric_text(value))
            for name, value in (evaluation.get("metrics") or {}).items()
        ],
        "classes": class_rows(evaluation),
        "num_classes": len((evaluation.get("classification") or {}).get("per_class") or []),
        "worst": worst_examples(evaluation),
    }


def _charts(facts: Facts) -> dict[str, Sequence[charts.Chart]]:
    evaluation = facts.evaluation or {}
    classification: Mapping[str, Any] = evaluation.get("classification") or {}
    regression: Mapping[str, Any] = evaluation.get("regression") or {}
    names, matrix = classification.get("class_names"), classification.get("confusion_matrix")
    return {
        "curves": charts.curves(facts),
        "speed_charts": charts.speed_charts(facts),
        "confusion": [charts.confusion_chart(names, matrix)] if names and matrix else [],
        "regression": charts.regression_charts(
            regression.get("targets") or [], regression.get("predictions") or []
        ),
    }


def _answer_text(value: object, names: Sequence[str]) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return shortened(names[value], _MAX_LABEL_CHARACTERS)
    if isinstance(value, float):
        return metric_text(value)
    return shortened(str(value), _MAX_LABEL_CHARACTERS)


def _bounded(text: str) -> str:
    if len(text) <= _MAX_TEXT_CHARACTERS:
        return text
    return (
        text[:_MAX_TEXT_CHARACTERS] + f"\n... {count_text(len(text) - _MAX_TEXT_CHARACTERS)} characters more"
    )


def _moment_text(value: object) -> str:
    moment = parse_time(value)
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if moment else ""
