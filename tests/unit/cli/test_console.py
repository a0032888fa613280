"""Errors become sentences and exit codes; results stay whole."""

import io
import json
import math
import os
from pathlib import Path

import pytest
import typer

from distkeras.cli.console import exit_on_error, print_json, print_line, stderr, stdout
from distkeras.errors import (
    ConfigError,
    DataError,
    DistkerasError,
    InterruptedRunError,
    PreemptedError,
    ResourceError,
)


def exit_code_of(error, debug=False):
    with pytest.raises(typer.Exit) as caught, exit_on_error(debug):
        raise error
    return caught.value.exit_code


@pytest.mark.parametrize(("error", "code"), [(ConfigError, 2), (DataError, 3), (ResourceError, 4)])
def test_an_error_of_ours_gives_its_text_and_code(capsys, error, code):
    assert exit_code_of(error("It broke.", place="here", received=3, remedy="Mend it.")) == code
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err == "error: It broke.\n  where: here\n  received: 3\n  fix: Mend it.\n"


def fail_with_log(log):
    def verb():
        with exit_on_error() as ending:
            ending.log = log
            raise RuntimeError("first")

    with pytest.raises(typer.Exit):
        verb()


@pytest.mark.parametrize(("error", "code"), [(InterruptedRunError, 130), (PreemptedError, 75)])
def test_being_told_to_stop_is_no_error(capsys, error, code):
    assert exit_code_of(error("It was told to.", remedy="resume with: x")) == code
    assert capsys.readouterr().err == "stopped: It was told to.\n  fix: resume with: x\n"


def test_an_unexpected_error_names_the_log_and_leaves_its_traceback_there(capsys, tmp_path):
    log = tmp_path / "rank-0.log"
    log.write_text("before\n")
    fail_with_log(log)
    assert capsys.readouterr().err.endswith(f"(run again with --debug for the traceback)\n  log: {log}\n")
    assert log.read_text().startswith("before\nTraceback (most recent call last):")


def test_a_log_that_was_never_opened_is_not_named(capsys, tmp_path):
    fail_with_log(tmp_path / "rank-0.log")
    assert "log:" not in capsys.readouterr().err


def test_an_error_has_at_most_twelve_lines(capsys):
    exit_code_of(DistkerasError("\n".join(f"line {i}" for i in range(40)), remedy="Mend it."))
    lines = capsys.readouterr().err.splitlines()
    assert (len(lines), lines[0], lines[-1]) == (12, "error: line 0", "  ...")


def test_another_error_is_one_line(capsys):
    assert exit_code_of(RuntimeError("first\nsecond")) == 1
    expected = "error: unexpected RuntimeError: first (run again with --debug for the traceback)\n"
    assert capsys.readouterr().err == expected


def test_an_error_without_words_has_its_type(capsys):
    exit_code_of(MemoryError())
    assert capsys.readouterr().err.startswith("error: unexpected MemoryError (run again")


def test_debug_adds_the_traceback(capsys):
    assert exit_code_of(RuntimeError("first"), debug=True) == 1
    text = capsys.readouterr().err
    assert text.startswith("error: unexpected RuntimeError: first\nTraceback (most recent call last):")
    assert text.endswith("RuntimeError: first\n")


def test_ctrl_c_exits_130(capsys):
    assert exit_code_of(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("error", [typer.Exit(7), typer.Abort(), typer.BadParameter("x")])
def test_what_typer_raises_passes(error, capsys):
    with pytest.raises(type(error)) as caught, exit_on_error():
        raise error
    assert caught.value is error
    assert capsys.readouterr().err == ""


def test_a_pipe_of_the_program_s_own_is_an_error(capfd):
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(typer.Exit) as caught, exit_on_error():
        os.write(write, b"x")
    os.close(write)
    assert caught.value.exit_code == 1
    assert "unexpected BrokenPipeError" in capfd.readouterr().err


def test_what_works_exits_with_nothing(capsys):
    with exit_on_error():
        print_line("fine", stdout())
    assert capsys.readouterr().out == "fine\n"


def test_text_is_neither_wrapped_nor_read_as_markup(capsys):
    text = "/a path/" + "with spaces " * 40 + "[bold]x[/bold] :smile:"
    print_line(text, stdout())
    print_line(text, stderr())
    written = capsys.readouterr()
    assert (written.out, written.err) == (f"{text}\n", f"{text}\n")


def test_a_terminal_of_60_columns_gets_whole_lines(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "60")
    console = stdout()
    print_line("x " * 80, console)
    assert console.width == 60
    assert "x " * 80 in terminal.getvalue()


def test_json_is_one_object_that_any_parser_reads(capsys):
    print_json({"path": Path("a/größe"), "loss": math.nan, "items": (1, math.inf), "inside": {"x": 1.5}})
    text = capsys.readouterr().out
    assert text.isascii()
    assert json.loads(text) == {
        "path": "a/größe",
        "loss": None,
        "items": [1, None],
        "inside": {"x": 1.5},
    }
