"""What rank zero says is shown by the process that started it: every line once, none before it is whole."""

from __future__ import annotations

import io
from pathlib import Path

from distkeras.observability.progress import Progress
from distkeras.observability.progress_line import Extent, ProgressPoint
from distkeras.observability.relay import RelayedProgress, RelayReader
from distkeras.observability.timers import IntervalSummary

POINT = ProgressPoint(0, 5, IntervalSummary(5, 80, 0.5, 0.1, 1000, False), {"loss": 0.25})


def shown_directly() -> str:
    stream = io.StringIO()
    tell(Progress(stream))
    return stream.getvalue()


def tell(progress: Progress) -> None:
    progress.announce("opening the data")
    progress.begin(Extent(1, 10, 2))
    progress.update(POINT)
    progress.close()
    progress.announce("testing")


def test_the_relay_shows_what_progress_itself_would(tmp_path: Path) -> None:
    path, stream = tmp_path / "progress.jsonl", io.StringIO()
    reader = RelayReader(path, Progress(stream))
    reader.show_news()  # the file is not there yet
    tell(RelayedProgress(path))
    reader.show_news()
    reader.show_news()
    assert stream.getvalue() == shown_directly()


def test_what_an_earlier_attempt_said_is_not_shown_again(tmp_path: Path) -> None:
    path, stream = tmp_path / "progress.jsonl", io.StringIO()
    RelayedProgress(path).announce("old")
    reader = RelayReader(path, Progress(stream))
    RelayedProgress(path).announce("new")
    reader.show_news()
    assert stream.getvalue() == "new\n"


def test_a_line_is_shown_once_it_is_whole(tmp_path: Path) -> None:
    path, stream = tmp_path / "progress.jsonl", io.StringIO()
    reader = RelayReader(path, Progress(stream))
    path.write_text('{"announce": "fi')
    reader.show_news()
    assert stream.getvalue() == ""
    with path.open("a") as file:
        file.write('rst"}\n')
    reader.show_news()
    assert stream.getvalue() == "first\n"
