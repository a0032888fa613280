"""How much of a long piece of work is done: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from distkeras.observability.formats import count_text, duration_text, percent_text

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from distkeras.observability.progress import Progress

# Nobody should wonder whether it still runs, and a log should not be filled with it.
SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_FRAMES = 0.1


class Counting:
    """Counts examples, and shows it while it is open. When the reader goes away, the work goes on.

    Args:
        stream: Where it is shown, usually the console's own stderr.
        title: What happens: "reading the training data".
        total: How many examples there are.
        quiet: Show nothing at all.
    """

    def __init__(self, stream: TextIO, title: str, total: int, *, quiet: bool = False) -> None:
        self._stream = stream
        self._title = title
        self._total = total
        self._quiet = quiet
        self._done = 0
        self._shown = time.monotonic()
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        if self._quiet:
            return self
        with self._quiet_without_reader():
            if self._stream.isatty() and os.environ.get("TERM") != "dumb":
                self._bar = _start_bar(self._stream, self._title, self._total)
            else:
                self._say(f"{self._title}: {count_text(self._total)} examples")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            with self._quiet_without_reader():
                self._bar.stop()

    def advance(self, num_examples: int) -> None:
        """Says that some more are done."""
        self._done += num_examples
        pause = SECONDS_BETWEEN_FRAMES if self._bar is not None else SECONDS_BETWEEN_LINES
        now = time.monotonic()
        if self._quiet or (now - self._shown < pause and self._done < self._total):
            return
        self._shown = now
        with self._quiet_without_reader():
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[0], completed=self._done, refresh=True)
            elif self._done < self._total:
                share = percent_text(self._done / self._total)
                self._say(f"{self._title}: {count_text(self._done)} examples, {share}")

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)

    @contextmanager
    def _quiet_without_reader(self) -> Generator[None]:
        try:
            yield
        except OSError:
            self._quiet = True


@contextmanager
def announced(progress: Progress, text: str) -> Generator[None]:
    """Says what the block does, and every few seconds that it still does.

    Args:
        progress: Where it is said.
        text: What happens: "opening the csv data".
    """
    done = Event()

    def remind() -> None:
        started = time.monotonic()
        while not done.wait(SECONDS_BETWEEN_LINES):
            progress.announce(f"{text}: {duration_text(time.monotonic() - started)}")

    progress.announce(text)
    thread = Thread(target=remind, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _start_bar(stream: TextIO, title: str, total: int) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    width = 80
    # Not rich's own measure: it asks descriptors 0, 1 and 2, and the last two lead to a log file now.
    with suppress(OSError, ValueError):
        width = os.get_terminal_size(stream.fileno()).columns or width
    bar = Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(compact=True),
        console=Console(file=stream, force_terminal=True, width=width),
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    bar.add_task(title, total=total)
    bar.start()
    return bar
