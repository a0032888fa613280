"""Rules about the source text: what is never executed, never asserted, never left open."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MODULES = sorted((ROOT / "distkeras").rglob("*.py"))
FORBIDDEN = {
    "pickle": r"^\s*(import|from) (pickle|cloudpickle|dill|joblib)\b",
    "yaml.load": r"\byaml\.(load|unsafe_load|full_load)\(",
    "eval or exec": r"(?<![\w.])(eval|exec)\(",
    "allow_pickle": r"allow_pickle\s*=\s*True",
    "an open end": r"\b(TODO|FIXME|XXX|NotImplementedError)\b",
    "the topology's environment": r"\b(TF_CONFIG|os\.environ\[.(RANK|WORLD_SIZE))",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_module_contains(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in MODULES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(FORBIDDEN[what], line)
        and not line.lstrip().startswith(("#", '"', "`"))
        and "``" not in line
        and path.name != "topology.py"
    ]
    assert found == []


def test_no_module_asserts() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def test_every_public_name_has_a_docstring() -> None:
    naked = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in MODULES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert naked == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_is_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("name", ["utils", "helpers", "common", "misc"])
def test_no_module_is_a_drawer(name: str) -> None:
    assert [path for path in MODULES if path.stem == name] == []
