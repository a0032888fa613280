"""Counting acts on real streams: a pseudo-terminal, a pipe without a reader, a text buffer."""

import io
import os
import pty
import re
import select
import threading
import time

import pytest

from distkeras.cli import counting
from distkeras.cli.counting import Counting, announced
from distkeras.observability.progress import Progress


def test_elsewhere_it_says_how_much_there_is():
    stream = io.StringIO()
    with Counting(stream, "reading", 2000) as shown:
        shown.advance(1000)
        shown.advance(1000)
    assert stream.getvalue() == "reading: 2,000 examples\n"


def test_elsewhere_a_long_work_is_heard_of(monkeypatch):
    monkeypatch.setattr(counting, "SECONDS_BETWEEN_LINES", 0.0)
    stream = io.StringIO()
    with Counting(stream, "reading", 2000) as shown:
        shown.advance(500)
        shown.advance(1500)
    assert stream.getvalue().splitlines() == ["reading: 2,000 examples", "reading: 500 examples, 25%"]


def test_quiet_says_nothing():
    stream = io.StringIO()
    with Counting(stream, "reading", 10, quiet=True) as shown:
        shown.advance(10)
    assert stream.getvalue() == ""


@pytest.mark.parametrize("term", ["xterm-256color", "dumb"])
def test_a_terminal_shows_a_bar_unless_it_is_dumb(monkeypatch, term):
    monkeypatch.setenv("TERM", term)
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stream:
        with Counting(stream, "reading", 200) as shown:
            for _ in range(20):
                shown.advance(10)
        stream.flush()
        text = b""
        while select.select([ours], [], [], 0.2)[0]:
            text += os.read(ours, 100_000)
    os.close(ours)
    said = text.decode()
    assert ("100%" in said) == (term != "dumb")
    assert ("reading: 200 examples" in said) == (term == "dumb")
    if term != "dumb":
        assert re.search(r"reading .*━", said)


def test_a_reader_that_has_gone_stops_nothing():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering=1) as stream:
        with Counting(stream, "reading", 10) as shown:
            shown.advance(5)
            shown.advance(5)
        # What could not be written is still in the buffer, and closing would try again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def test_what_takes_long_is_heard_of_again_and_leaves_no_thread(monkeypatch):
    monkeypatch.setattr(counting, "SECONDS_BETWEEN_LINES", 0.02)
    stream, before = io.StringIO(), threading.active_count()
    with Progress(stream) as progress, announced(progress, "opening the data"):
        deadline = time.monotonic() + 20
        while stream.getvalue().count("\n") < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    first, *again = stream.getvalue().splitlines()
    assert first == "opening the data"
    assert len(again) >= 2
    assert all(re.fullmatch(r"opening the data: [\d.]+s", line) for line in again)
    assert threading.active_count() == before
