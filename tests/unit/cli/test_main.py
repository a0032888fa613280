"""The command as a whole: its verbs, its help, and what it costs to ask for it."""

import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from distkeras import __version__
from distkeras.cli.main import app
from distkeras.cli.options import complete_key, complete_run

VERBS = (
    "doctor",
    "init",
    "train",
    "evaluate",
    "predict",
    "bench",
    "report",
    "data",
    "config",
    "runs",
    "launch",
    "verify",
)


def invoke(*arguments):
    return CliRunner().invoke(app, list(arguments), prog_name="distkeras")


def test_help_names_every_verb_and_cuts_no_sentence():
    result = invoke("--help")
    assert result.exit_code == 0
    for verb in VERBS:
        assert re.search(rf"^  {verb} +[A-Z].*\.$", result.stdout, re.MULTILINE), verb


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_fits_sixty_columns(verb):
    command = [sys.executable, "-m", "distkeras", verb, "--help"]
    environment = os.environ | {"COLUMNS": "60"}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert max(map(len, result.stdout.splitlines())) <= 60


def test_help_loads_neither_frameworks_nor_the_config():
    heavy = "{'tensorflow', 'keras', 'ray', 'numpy', 'pyarrow', 'pydantic', 'matplotlib'}"
    code = f"import sys, distkeras.cli.main; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_python_m_prints_the_version():
    command = [sys.executable, "-m", "distkeras", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == (f"distkeras {__version__}\n", "")


@pytest.mark.parametrize(("typed", "meant"), [("trian", "train"), ("evalute", "evaluate"), ("run", "runs")])
def test_a_misspelt_verb_gets_a_suggestion(typed, meant):
    result = invoke(typed)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert re.search(rf"No such command '{typed}'. Did you mean .*'{meant}'", result.stderr)


@pytest.mark.parametrize("arguments", [["train"], ["predict", "x"], ["evaluate"], ["runs", "diff", "a"]])
def test_what_is_missing_is_named(arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Missing" in result.stderr


def test_runs_and_keys_are_completed(make_run):
    make_run("first")
    make_run("second")
    assert list(complete_run("f")) == ["first"]
    assert "training.epochs=" in list(complete_key("training.ep"))


def test_the_shell_gets_its_completions(make_run):
    make_run("first")
    environment = os.environ | {"_DISTKERAS_COMPLETE": "complete_bash", "COMP_WORDS": "distkeras report f"}
    environment |= {"COMP_CWORD": "2"}
    command = [sys.executable, "-m", "distkeras"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.stdout.split() == ["first"]
