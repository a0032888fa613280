"""Progress acts on real streams: a pseudo-terminal, a pipe without a reader, a text buffer."""

import fcntl
import io
import os
import pty
import select
import struct
import termios

import pytest

from distkeras.observability.progress import Progress
from distkeras.observability.progress_line import Extent, ProgressPoint
from distkeras.observability.timers import IntervalSummary

EXTENT = Extent(num_epochs=2, num_steps=20)


def _point(step):
    return ProgressPoint(step // 11, step, IntervalSummary(5, 40, 1.0, 0.1, 2**28, False), {"loss": 1 / step})


class Terminal:
    """A pseudo-terminal of a given width; `text` is all that was shown on it."""

    def __init__(self, columns):
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.stream = os.fdopen(theirs, "w")

    def text(self):
        self.stream.flush()
        shown = b""
        # The kernel passes what was written on in pieces, and a little later.
        while select.select([self.ours], [], [], 0.2)[0]:
            shown += os.read(self.ours, 1_000_000)
        return shown.decode()

    def close(self):
        self.stream.close()
        os.close(self.ours)


@pytest.fixture(params=[60, 120])
def terminal(request, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = Terminal(request.param)
    terminal.columns = request.param
    yield terminal
    terminal.close()


def test_without_a_terminal_each_point_is_a_line():
    stream = io.StringIO()
    with Progress(stream) as progress:
        progress.announce("importing TensorFlow")
        progress.update(_point(1))
        progress.begin(EXTENT)
        progress.update(_point(5))
        progress.update(_point(20))
    first, second, third = stream.getvalue().splitlines()
    assert first == "importing TensorFlow"
    assert second.startswith("epoch=1/2 step=5/20 loss=0.2000 ")
    assert third.startswith("epoch=2/2 step=20/20 loss=0.0500 ")


def test_quiet_is_silent():
    stream = io.StringIO()
    with Progress(stream, quiet=True) as progress:
        progress.announce("importing TensorFlow")
        progress.begin(EXTENT)
        progress.update(_point(5))
    assert stream.getvalue() == ""


def test_on_a_terminal_one_line_is_rewritten_in_place(terminal):
    with Progress(terminal.stream) as progress:
        progress.announce("reading [data] 1")
        progress.begin(EXTENT)
        progress.update(_point(5))
        progress.update(_point(10))
        progress.announce("saved [step] 10")
        progress.update(_point(20))
    shown = terminal.text()
    assert shown.startswith("reading [data] 1\r\n")
    assert "saved [step] 10\r\n" in shown
    assert shown.count("\x1b[2K") >= 3, "the line must be erased before it is written again"
    # Two announcements and the last state of the line: nothing else may scroll the terminal.
    assert shown.count("\n") == 3
    drawn = [line for line in shown.replace("\x1b[2K", "\n").splitlines() if "epoch" in line]
    assert len(drawn) >= 3
    assert all(len(line.partition("\x1b")[0]) < terminal.columns for line in drawn)
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor must be shown again"


def test_the_terminal_is_given_back_after_an_error(terminal):
    def fail():
        with Progress(terminal.stream) as progress:
            progress.begin(EXTENT)
            progress.update(_point(5))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert "\x1b[?25h" in terminal.text()


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal(80)
    with Progress(terminal.stream) as progress:
        progress.begin(EXTENT)
        progress.update(_point(5))
    text = terminal.text()
    terminal.close()
    assert text.startswith("epoch=1/2 step=5/20")
    assert "\x1b" not in text


def test_a_reader_that_went_away_does_not_stop_the_run():
    read, write = os.pipe()
    stream = os.fdopen(write, "w")
    os.close(read)
    with Progress(stream) as progress:
        progress.begin(EXTENT)
        for step in (5, 10, 20):
            progress.update(_point(step))
    with pytest.raises(BrokenPipeError):
        stream.close()
