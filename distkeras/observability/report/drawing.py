"""Charts as inline SVG that takes its colours and its font from the page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

# matplotlib needs real colours. These stand for CSS variables, so that one chart serves light and dark pages.
INK: Final = "#010101"
MUTED: Final = "#010102"
LINE: Final = "#010103"
ACCENT: Final = "#010104"
ON_ACCENT: Final = "#010105"
_VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", ACCENT: "accent", ON_ACCENT: "on-accent"}

_STYLE: dict[RcKeyType, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "distkeras",
    "svg.image_inline": True,
    # A class may be named `$5`: text is text, never a formula.
    "text.parse_math": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.handlelength": 1.1,
    "legend.borderpad": 0.2,
}
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


@dataclass(frozen=True)
class Chart:
    """One chart of the page.

    Attributes:
        title: What it shows, above it.
        description: The same in words and numbers, for those who do not see it.
        svg: The `<svg>` element.
    """

    title: str
    description: str
    svg: str


def draw(paint: Callable[[Axes], None], *, width: float = 4.4, height: float = 2.7) -> str:
    """Returns the `<svg>` element of a chart that `paint` draws.

    Args:
        paint: Draws on empty axes.
        width: Inches; the page scales the chart to its column, so this sets the relative size of text.
        height: Inches.
    """
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # The reader's browser has its own fonts: what DejaVu lacks is no loss.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width, height), layout="constrained")
        paint(figure.subplots())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    return _for_page(buffer.getvalue().decode())


def thinned(points: Sequence[Any], limit: int) -> list[Any]:
    """Returns at most `limit` of the points, evenly spaced, the first and the last among them."""
    if len(points) <= limit:
        return list(points)
    return [points[round(index * (len(points) - 1) / (limit - 1))] for index in range(limit)]


def shortened(text: str, limit: int) -> str:
    """Returns a label in at most `limit` visible characters."""
    visible = "".join(character if character.isprintable() else " " for character in text)
    return visible if len(visible) <= limit else visible[: limit - 1] + "…"


def _for_page(document: str) -> str:
    svg = document[document.index("<svg") :]
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    # The page's column decides the size, the viewBox keeps the shape.
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", '<svg aria-hidden="true"', 1)
