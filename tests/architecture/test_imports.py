"""The rules of the house: who may import whom, what stays light, and which names are public."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import distkeras

ROOT = Path(__file__).parent.parent.parent
HEAVY = ("tensorflow", "keras", "ray", "jax", "torch", "pandas", "sklearn", "matplotlib")


def test_import_contracts_hold() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "import distkeras",
        "import distkeras; dir(distkeras)",
        "import distkeras.cli.main",
        "import distkeras.config",
        "import distkeras.topology, distkeras.errors",
        "import distkeras.observability.run_directory, distkeras.observability.report",
        "import distkeras.checkpoint.commit",
        "import distkeras.data.order, distkeras.data.batches",
        "import distkeras.runners.record",
        "from distkeras import Run, Topology, load_config, DistkerasError",
    ],
)
def test_stays_light(statement: str, run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    code = f"import sys\n{statement}\nprint(sorted(set(sys.modules) & set({HEAVY!r})))"
    result = run_python("-c", code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_help_imports_nothing_heavy(run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    code = (
        "import sys; from distkeras.cli.main import main\n"
        "sys.argv = ['distkeras', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"print(sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)"
    )
    result = run_python("-c", code)
    assert result.stderr.strip() == "[]"
    assert "train" in result.stdout


def test_public_names_are_these() -> None:
    assert distkeras.__all__ == [
        "Config",
        "DistkerasError",
        "Run",
        "Scale",
        "Topology",
        "Trainer",
        "load_config",
        "prepare",
        "scale",
    ]
    assert set(distkeras.__all__) <= set(dir(distkeras))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'distkeras' has no attribute 'Trainner'"):
        distkeras.Trainner  # noqa: B018
