"""What all offline pages have in common: how their templates are read, and their style."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


def templates(folder: Path, *, autoescape: bool = True) -> Environment:
    """Returns the templates in a folder; a name that a template uses and nobody gave is an error.

    Args:
        folder: Where they lie.
        autoescape: Whether texts are made safe for HTML.
    """
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=autoescape,  # noqa: S701 (off only for Markdown, which has its own `cell` filter)
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def stylesheet() -> Markup:
    """Returns the style of every page, to be put into it."""
    return Markup(Path(__file__).with_name("page.css").read_text(encoding="utf-8"))  # noqa: S704 (our own file)
