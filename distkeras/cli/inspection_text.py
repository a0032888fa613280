"""An inspection as lines that fit 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from distkeras.cli.tables import aligned, shortened

if TYPE_CHECKING:
    from distkeras.data.inspection.result import Column, Inspection

WIDTH = 80
MAX_NAME_WIDTH = 16
MAX_TYPE_WIDTH = 14
MAX_COLUMNS = 40
MAX_CLASSES = 20
MAX_PROBLEMS = 10
_BAR = 24


def inspection_lines(inspection: Inspection) -> list[str]:
    """Returns what `distkeras data inspect` prints."""
    from distkeras.data.sizes import size_text
    from distkeras.observability.formats import count_text

    size = "" if inspection.num_bytes is None else f", {size_text(inspection.num_bytes)}"
    head = f"{inspection.kind}, {count_text(inspection.num_examples)} examples{size}"
    # The path stands alone and is never cut: it is there to be copied.
    lines = [inspection.name, head, ""]
    shown = inspection.columns[:MAX_COLUMNS]
    heads = aligned([("column", "type", "missing", "distinct", "values"), *map(_head, shown)])
    lines.append(heads[0])
    for head, column in zip(heads[1:], shown, strict=True):
        lines += [head, *(f"    {value}" for value in list(_values(column))[1:])]
    hidden = len(inspection.columns) - MAX_COLUMNS
    if hidden > 0:
        lines.append(f"and {hidden} more columns")
    lines += _class_lines(inspection)
    lines += [shortened(f"{title}: {value}", WIDTH) for title, value in inspection.facts.items()]
    return [shortened(line, WIDTH) if place else line for place, line in enumerate(lines)] + _problems(
        inspection
    )


def _head(column: Column) -> tuple[str, ...]:
    from distkeras.observability.formats import count_text

    name = shortened(column.name, MAX_NAME_WIDTH - 2) + (" *" if column.role == "label" else "")
    shape = "x".join("?" if size is None else str(size) for size in column.shape)
    kind = shortened(f"{column.type} {shape}".rstrip(), MAX_TYPE_WIDTH)
    distinct = "" if column.num_distinct is None else count_text(column.num_distinct)
    return name, kind, count_text(column.num_missing), distinct, next(_values(column), "")


def _values(column: Column) -> Iterator[str]:
    for title, one in column.numbers.items():
        what = "" if title == "value" else f"{title} "
        yield f"{what}{_number(one.min)} to {_number(one.max)}, mean {_number(one.mean)}, std {_number(one.std)}"
    for title, counts in column.counts.items():
        pairs = ", ".join(f"{what} {count}" for what, count in counts)
        if pairs:
            yield pairs if title == "values" else f"{title}: {pairs}"
    if column.facts:
        yield " ".join(f"{title} {value}" for title, value in column.facts.items())


def _class_lines(inspection: Inspection) -> list[str]:
    from distkeras.observability.formats import count_text, percent_text

    if not inspection.classes:
        return []
    total = sum(count for _, count in inspection.classes) or 1
    most = max(count for _, count in inspection.classes) or 1
    rows = [
        (
            shortened(name, MAX_NAME_WIDTH),
            count_text(count),
            percent_text(count / total),
            "#" * -(-_BAR * count // most),
        )
        for name, count in inspection.classes[:MAX_CLASSES]
    ]
    hidden = len(inspection.classes) - MAX_CLASSES
    more = [f"and {hidden} more classes"] if hidden > 0 else []
    return ["", f"{len(inspection.classes)} classes (*)", *aligned(rows, indent=2), *more]


def _problems(inspection: Inspection) -> list[str]:
    if not inspection.problems:
        return ["no bad records"]
    rows = [(problem.place, problem.stage, problem.reason) for problem in inspection.problems[:MAX_PROBLEMS]]
    hidden = len(inspection.problems) - MAX_PROBLEMS
    more = [f"  and {hidden} more"] if hidden > 0 else []
    # Not cut to the width: a place is there to be copied.
    noun = "record" if len(inspection.problems) == 1 else "records"
    return [f"{len(inspection.problems)} bad {noun}", *aligned(rows, indent=2), *more]


def _number(value: float) -> str:
    is_readable = value == round(value) or abs(value) >= 1000
    return f"{value:.0f}" if is_readable and abs(value) < 1e6 else f"{value:.3g}"
