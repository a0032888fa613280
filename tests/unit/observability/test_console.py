"""Nothing foreign reaches the console: checked on real file descriptors, in a process of its own."""

import io
import os
import subprocess
import sys

import pytest

from distkeras.errors import ResourceError
from distkeras.observability.console import owned_console

SPEAK = """
import os, subprocess, sys
from pathlib import Path
from distkeras.observability.console import owned_console
print("before out")
try:
    with owned_console(Path(sys.argv[1])) as console:
        os.write(2, b"C++ on descriptor 2\\n")
        os.write(1, b"C++ on descriptor 1\\n")
        print("python print")
        print("python stderr", file=sys.stderr)
        subprocess.run(["echo", "child"], check=True)
        print("our result", file=console.stdout)
        print("our progress", file=console.stderr)
        with owned_console(Path(sys.argv[1] + ".inner")) as inner:
            os.write(2, b"C++ inside\\n")
            print("inner result", file=inner.stdout)
        if "raise" in sys.argv:
            raise RuntimeError("stop")
except RuntimeError:
    print("caught")
print("after out")
os.write(2, b"after err\\n")
"""


def _speak(tmp_path, *arguments):
    command = [sys.executable, "-c", SPEAK, str(tmp_path / "logs" / "rank-0.log"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("arguments", [(), ("raise",)])
def test_foreign_lines_go_to_the_log_and_ours_to_the_console(tmp_path, arguments):
    result = _speak(tmp_path, *arguments)
    out = ["before out", "our result", *(["caught"] if arguments else []), "after out"]
    assert result.stdout.splitlines() == out
    assert result.stderr.splitlines() == ["our progress", "after err"]
    log = (tmp_path / "logs" / "rank-0.log").read_text().splitlines()
    foreign = {"C++ on descriptor 2", "C++ on descriptor 1", "python print", "python stderr", "child"}
    # The inner block's console is the outer block's log: its result is foreign to the real one.
    assert set(log) == foreign | {"inner result"}
    assert (tmp_path / "logs" / "rank-0.log.inner").read_text() == "C++ inside\n"


def test_a_reader_that_went_away_is_an_error_of_the_print_only(tmp_path):
    script = """
import sys
from pathlib import Path
from distkeras.observability.console import owned_console
with owned_console(Path(sys.argv[1])) as console:
    try:
        print("nobody reads this", file=console.stdout)
    except BrokenPipeError:
        print("caught", file=console.stderr)
print("end", file=sys.stderr)
"""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", script, str(tmp_path / "a.log")]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=True)
    os.close(write)
    assert result.stderr == "caught\nend\n"


def test_streams_that_are_not_descriptors_are_used_as_they_are(tmp_path, monkeypatch):
    ours = io.StringIO()
    monkeypatch.setattr(sys, "stdout", ours)
    with owned_console(tmp_path / "a.log") as console:
        print("foreign")
        print("ours", file=console.stdout)
    assert ours.getvalue() == "ours\n"
    assert sys.stdout is ours
    assert (tmp_path / "a.log").read_text() == "foreign\n"


def test_no_descriptor_is_left_open(tmp_path):
    num_open = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with owned_console(tmp_path / "a.log"):
            pass
    assert len(os.listdir("/proc/self/fd")) == num_open


def test_a_log_that_cannot_be_opened_is_said_and_the_console_stays(tmp_path, capfd):
    (tmp_path / "logs").write_text("")
    with (
        pytest.raises(ResourceError, match="A file is in the way: could not open the log file"),
        owned_console(tmp_path / "logs" / "rank-0.log"),
    ):
        pass
    os.write(1, b"still here\n")
    assert capfd.readouterr().out == "still here\n"
