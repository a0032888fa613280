"""`distkeras runs`, on runs that lie on disk."""

import json
import os
import pty
import subprocess
import sys
import time

from typer.testing import CliRunner

from distkeras.cli.runs_commands import runs_app


def invoke(*arguments, **options):
    return CliRunner().invoke(runs_app, list(map(str, arguments)), **options)


def test_the_list_fits_sixty_columns(make_run):
    make_run(
        "a-name-that-is-much-longer-than-its-column",
        status="interrupted",
        step=1_234_567,
        finished=time.time() - 90_000,
    )
    result = invoke("list")
    header, line = result.stdout.splitlines()
    assert header.split() == ["NAME", "STATUS", "STEP", "RESULT", "AGE"]
    assert line.split()[:5] == ["a-name-tha...", "interrupted", "1,234,567", "accuracy", "0.5000"]
    assert len(line) <= 60


def test_a_damaged_run_does_not_hide_the_others(make_run):
    make_run("good")
    make_run("broken").manifest_path.write_text("{")
    rows = json.loads(invoke("list", "--json").stdout)["runs"]
    assert [(row["name"], row["status"]) for row in rows] == [("broken", "damaged"), ("good", "completed")]
    assert "damaged" in invoke("list").stdout


def test_no_runs_are_said_in_words(tmp_path):
    assert invoke("list", "--output-dir", tmp_path).stdout == f"no runs in {tmp_path}\n"


def test_show_prints_facts_below_one_another(make_run):
    make_run("first", error="It broke.\nmore")
    lines = invoke("show", "first").stdout.splitlines()
    assert lines[0] == "runs/first"
    facts = dict(line.split(maxsplit=1) for line in lines[1:])
    assert facts["steps"] == "20 of 20"
    assert facts["error"] == "It broke."
    assert facts["test_accuracy"] == "0.5000"
    assert facts["command"] == "distkeras train --config 'my file.yaml'"


def test_show_json_is_one_object(make_run):
    make_run("first")
    shown = json.loads(invoke("show", "first", "--json").stdout)
    assert (shown["attempts"], shown["run"], shown["metrics"]["val_loss"]) == (3, "runs/first", 0.5)


def test_diff_names_keys_and_puts_metrics_side_by_side(make_run):
    make_run("first")
    make_run("second", accuracy=0.75, batch=4)
    lines = invoke("diff", "first", "second").stdout.splitlines()
    assert "training.global_batch_size: 8 -> 4" in lines
    assert ["test_accuracy", "0.5000", "0.7500"] in [line.split() for line in lines]
    compared = json.loads(invoke("diff", "first", "second", "--json").stdout)
    assert {"key": "training.global_batch_size", "a": "8", "b": "4"} in compared["config"]
    assert compared["metrics"]["test_accuracy"] == {"a": 0.5, "b": 0.75}


def test_diff_of_a_run_with_itself_says_so(make_run):
    make_run("first")
    assert invoke("diff", "first", "first").stdout.startswith("the configs are equal\n")


def test_clean_refuses_without_a_terminal(make_run):
    run = make_run("first")
    result = invoke("clean", "first")
    assert result.exit_code == 2
    assert "error: A run is removed only after a yes" in result.stderr
    assert "fix: add --yes" in result.stderr
    assert run.exists()


def test_clean_removes_what_the_run_wrote_and_keeps_the_rest(make_run):
    run = make_run("first")
    (run.path / "notes.txt").write_text("mine")
    result = invoke("clean", "first", "--yes")
    assert result.stdout == "runs/first was removed\nkept, because no run wrote it: notes.txt\n"
    assert [path.name for path in run.path.iterdir()] == ["notes.txt"]


def test_clean_json_is_one_object(make_run):
    run = make_run("first")
    assert json.loads(invoke("clean", "first", "--yes", "--json").stdout) == {
        "removed": "runs/first",
        "kept": [],
    }
    assert not run.path.exists()


def test_clean_leaves_a_run_in_use_alone(make_run):
    run = make_run("first")
    with run.locked():
        result = invoke("clean", "first", "--yes")
    assert result.exit_code == 4
    assert "in use by process" in result.stderr
    assert run.exists()


def answer(text):
    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "distkeras", "runs", "clean", "first"]
    process = subprocess.Popen(
        command, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    os.close(terminal)
    os.write(controller, f"{text}\n".encode())
    out, err = process.communicate(timeout=60)
    os.close(controller)
    return process.returncode, out, err


def test_clean_asks_on_a_terminal(make_run):
    run = make_run("first")
    code, out, err = answer("n")
    assert (code, out) == (0, "nothing was removed\n")
    assert "Remove runs/first with its weights and results?" in err
    assert run.exists()
    assert answer("y")[:2] == (0, "runs/first was removed\n")
    assert not run.path.exists()
