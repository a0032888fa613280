"""`distkeras config`, mounted on an application of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from distkeras.cli.config_commands import config_app
from distkeras.config import load_config, schema, to_mapping

ROOT = Path(__file__).parents[3]
APPLICATION = "import typer; from distkeras.cli.config_commands import config_app as c; a = typer.Typer(); "
APPLICATION += "a.add_typer(c); a(prog_name='distkeras')"
DIGITS = """\
task: {kind: image_classification}
data:
  source: {kind: arrays, path: digits.npz}
model: {builder: cnn}
training: {epochs: 20}
"""


@pytest.fixture
def digits(tmp_path):
    path = tmp_path / "digits.yaml"
    path.write_text(DIGITS)
    return path


def run(*arguments):
    app = typer.Typer()
    app.add_typer(config_app)
    return CliRunner().invoke(app, ["config", *map(str, arguments)])


def process(*arguments, **options):
    command = [sys.executable, "-c", APPLICATION, "config", *map(str, arguments)]
    return subprocess.run(
        command,
        text=True,
        check=False,
        cwd=ROOT,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def test_show_prints_yaml_that_loads_again(digits, tmp_path):
    result = run("show", "--config", digits, "--set", "training.epochs=3", "--set", "seed=5")
    assert result.exit_code == 0
    again = tmp_path / "again.yaml"
    again.write_text(result.stdout)
    assert load_config(again) == load_config(digits, ["training.epochs=3", "seed=5"])


def test_show_json_prints_one_object(digits):
    result = run("show", "--config", digits, "--json")
    assert json.loads(result.stdout) == to_mapping(load_config(digits))


def test_check_says_what_is_right_in_one_line(digits):
    result = run("check", "--config", digits)
    summary = "valid; run 'digits', image_classification, cnn, 20 epochs, global batch 64"
    assert (result.exit_code, result.stdout) == (0, f"{digits}: {summary}\n")


def test_check_counts_one_epoch(digits):
    assert ", 1 epoch, " in run("check", "--config", digits, "--set", "training.epochs=1").stdout


def test_check_lists_every_problem_on_stderr_and_exits_2(digits):
    result = run("check", "--config", digits, "--set", "training.epoch=3", "--set", "data.source.kind=csvv")
    assert (result.exit_code, result.stdout) == (2, "")
    lines = result.stderr.splitlines()
    assert lines[0] == f"error: 2 problems in {digits}"
    assert {line.split(":")[0] for line in lines[1:]} == {"  training.epoch", "  data.source.kind"}


def test_check_json_holds_the_verdict(digits):
    good = json.loads(run("check", "--config", digits, "--json").stdout)
    assert (good["valid"], good["name"], len(good["identity"])) == (True, "digits", 64)
    result = run("check", "--config", digits, "--json", "--set", "epochs=3")
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {
        "valid": False,
        "problems": [
            {
                "key": "epochs",
                "problem": "unknown key; did you mean training.epochs?",
                "source": "from --set epochs=3",
            }
        ],
    }


def test_a_missing_file_is_a_sentence_and_exit_2(tmp_path):
    result = run("show", "--config", tmp_path / "no.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[0] == "error: The config file does not exist."
    assert f"  where: {tmp_path / 'no.yaml'}" in result.stderr


def test_debug_adds_the_traceback(digits):
    result = run("show", "--config", digits, "--set", "x", "--debug")
    assert result.exit_code == 2
    assert "error: --set takes KEY=VALUE" in result.stderr
    assert "Traceback (most recent call last)" in result.stderr


def test_schema_prints_json():
    assert json.loads(run("schema").stdout) == schema()


def test_diff_prints_dotted_keys_with_both_values(digits, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(
        DIGITS.replace("20", "30").replace("builder: cnn", "builder: cnn, arguments: {depth: 2}")
    )
    assert run("diff", digits, other).stdout.splitlines() == [
        'name: "digits" -> "other"',
        "model.arguments.depth: (absent) -> 2",
        "training.epochs: 20 -> 30",
    ]
    assert json.loads(run("diff", digits, other, "--json").stdout) == {
        "differences": [
            {"key": "name", "a": "digits", "b": "other"},
            {"key": "model.arguments.depth", "b": 2},
            {"key": "training.epochs", "a": 20, "b": 30},
        ]
    }


def test_diff_of_equal_configs_says_so(digits):
    result = run("diff", digits, digits)
    assert (result.exit_code, result.stdout) == (0, "no differences\n")


def test_a_path_is_printed_in_one_piece_without_a_terminal(tmp_path):
    folder = tmp_path.joinpath(*["a rather long folder name"] * 6)
    result = process("check", "--config", folder / "no.yaml", env={"COLUMNS": "60", "PYTHONPATH": str(ROOT)})
    assert f"  where: {folder / 'no.yaml'}\n" in result.stderr


def test_a_reader_that_leaves_ends_the_verb_in_silence():
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    result = process("schema", stdout=reader.stdin)
    reader.stdin.close()
    assert (result.returncode, result.stderr) == (141, "")


def test_text_to_a_reader_that_leaves_is_silent_too(digits):
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    result = process("show", "--config", digits, stdout=reader.stdin)
    reader.stdin.close()
    assert (result.returncode, result.stderr) == (141, "")


def test_help_needs_neither_the_config_nor_tensorflow():
    code = (
        "import sys, distkeras.cli.config_commands;"
        "heavy = {'tensorflow', 'keras', 'ray', 'yaml', 'distkeras.config.sections'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout == "[]\n"


def test_the_config_room_imports_neither_tensorflow_nor_keras_nor_ray():
    code = "import sys, distkeras.config; print(sorted({'tensorflow', 'keras', 'ray'} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout == "[]\n"
