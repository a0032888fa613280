"""The README's table of sources: every kind is there, and every example is a valid section."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import yaml
from pydantic import TypeAdapter

from distkeras.config.source_sections import Source

README = Path(__file__).parents[2] / "README.md"
EXAMPLES = re.findall(r"^\| `(\{kind: .*?\})` \|", README.read_text(), re.MULTILINE)


def kinds() -> set[str]:
    sections = get_args(get_args(Source)[0])
    return {kind for section in sections for kind in get_args(section.model_fields["kind"].annotation)}


def test_every_kind_has_an_example() -> None:
    assert {yaml.safe_load(example)["kind"] for example in EXAMPLES} == kinds()


def test_every_example_is_valid() -> None:
    for example in EXAMPLES:
        TypeAdapter(Source).validate_python(yaml.safe_load(example), strict=False)
