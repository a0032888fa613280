"""Progress while a run trains: one live line on a terminal, one plain line an interval elsewhere."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from distkeras.observability.progress_line import Extent, ProgressPoint, plain_line, terminal_line

if TYPE_CHECKING:
    from rich.live import Live

_UNKNOWN_WIDTH = 80


class Progress:
    """Shows one run on a text stream. Rank zero has one; the other ranks have a quiet one.

    On a terminal a single line is rewritten in place, never wider than the terminal; elsewhere each point is
    one `key=value` line. Nobody has to read it: when the reader goes away (`| head`), training goes on.

    Args:
        stream: Where it is shown, usually the console's own stderr.
        quiet: Show nothing at all.
    """

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._extent: Extent | None = None
        self._live: Live | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def announce(self, text: str) -> None:
        """Says on a line of its own what happens now: `importing TensorFlow`."""
        if self._quiet:
            return
        with self._quiet_without_reader():
            if self._live is None:
                print(text, file=self._stream, flush=True)
            else:
                self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def begin(self, extent: Extent) -> None:
        """Says how long the run is, which is known only once its data is open."""
        self._extent = extent

    def update(self, point: ProgressPoint) -> None:
        """Shows where the run is; nothing before `begin`."""
        if self._quiet or self._extent is None:
            return
        if not self._is_terminal:
            self.announce(plain_line(point, self._extent))
            return
        with self._quiet_without_reader():
            self._draw(point, self._extent)

    def close(self) -> None:
        """Leaves the last line standing and gives the terminal back. Harmless when repeated."""
        live, self._live = self._live, None
        if live is not None:
            with self._quiet_without_reader():
                live.stop()

    def _draw(self, point: ProgressPoint, extent: Extent) -> None:
        from rich.text import Text

        if self._live is None:
            self._live = _start_live(self._stream)
        width = self._width()
        self._live.console.width = width
        # The last column stays free: some terminals wrap as soon as it is written.
        line = Text(terminal_line(point, extent, width - 1), no_wrap=True, overflow="crop")
        self._live.update(line, refresh=True)

    def _width(self) -> int:
        # Not rich's own measure: it asks descriptors 0, 1 and 2, and the last two lead to a log file now.
        with suppress(OSError, ValueError):
            return os.get_terminal_size(self._stream.fileno()).columns or _UNKNOWN_WIDTH
        return _UNKNOWN_WIDTH

    @contextmanager
    def _quiet_without_reader(self) -> Generator[None]:
        try:
            yield
        except OSError:
            self._quiet = True


def _start_live(stream: TextIO) -> Live:
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream, force_terminal=True, highlight=False)
    live = Live(
        console=console,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
        vertical_overflow="crop",
    )
    live.start()
    return live
