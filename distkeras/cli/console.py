"""What a verb says: results on stdout, everything else on stderr, errors as sentences with an exit code."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import sys
import traceback
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

import typer
from rich.console import Console

from distkeras.errors import DistkerasError, InterruptedRunError, PreemptedError, error_text

MAX_ERROR_LINES = 12
# Wide enough that a table piped into a file is not cut; rich would assume 80 columns.
WIDTH_WITHOUT_TERMINAL = 200
EXIT_INTERRUPTED = 130
# What a shell reports for a process that SIGPIPE ended (128 + 13): the reader left, nothing failed.
EXIT_BROKEN_PIPE = 141
# Being told to stop is no error: the run goes on where it was committed.
_PREFIXES = {PreemptedError.exit_code: "stopped", InterruptedRunError.exit_code: "stopped"}


@dataclass
class Ending:
    """What the end of a verb can tell beside the error itself.

    Attributes:
        log: Where a run's log is: an unexpected error's traceback is added to it, and the message names it.
    """

    log: Path | None = None


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise  # rich would exit 1 here; `exit_on_error` decides


def stdout() -> Console:
    """Returns a console for results: plain text, no markup, no wrapping where there is no terminal."""
    return _console(sys.stdout)


def stderr() -> Console:
    """Returns a console for everything that is not the result of a verb."""
    return _console(sys.stderr)


def print_line(text: str, console: Console) -> None:
    """Prints text that is never cut or wrapped by us, so that a long path can be copied in one piece."""
    console.print(text, soft_wrap=True)


def print_json(value: Mapping[str, Any]) -> None:
    """Prints one JSON object on stdout. NaN and infinity, which JSON does not have, become null."""
    # ASCII, so that any encoding of stdout can hold it.
    sys.stdout.write(json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


@contextlib.contextmanager
def exit_on_error(debug: bool = False) -> Generator[Ending]:
    """Ends the verb with a sentence on stderr and an exit code where its body raises.

    A `DistkerasError` gives its own text and code, Ctrl-C 130, anything else one line and 1. A reader of
    stdout that has gone (`| head`) ends the verb in silence.

    Args:
        debug: Whether the traceback follows the sentence.

    Yields:
        What the verb may fill in once it knows its run.
    """
    ending = Ending()
    try:
        yield ending
        sys.stdout.flush()
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except DistkerasError as error:
        _report(error.lines(), debug, prefix=_PREFIXES.get(error.exit_code, "error"))
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        print_line("interrupted", stderr())
        raise typer.Exit(EXIT_INTERRUPTED) from error
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone(sys.stdout):
            _discard(sys.stdout)
            raise typer.Exit(EXIT_BROKEN_PIPE) from error
        _report([*_unexpected(error, debug), *_logged(ending.log)], debug)
        raise typer.Exit(1) from error


def _console(file: TextIO) -> Console:
    width = None if file.isatty() else WIDTH_WITHOUT_TERMINAL
    return _Console(file=file, width=width, markup=False, emoji=False, highlight=False)


def _report(lines: list[str], debug: bool, prefix: str = "error") -> None:
    lines = "\n".join(lines).splitlines()
    if len(lines) > MAX_ERROR_LINES:
        lines = [*lines[: MAX_ERROR_LINES - 1], "  ..."]
    with contextlib.suppress(BrokenPipeError):
        print_line("\n".join([f"{prefix}: {lines[0]}", *lines[1:]]), stderr())
        if debug:
            print_line(traceback.format_exc().rstrip(), stderr())


def _unexpected(error: Exception, debug: bool) -> list[str]:
    sentence = f"unexpected {error_text(error)}"
    return [sentence if debug else f"{sentence} (run again with --debug for the traceback)"]


def _logged(log: Path | None) -> list[str]:
    """Adds the traceback to a run's log, where the messages that led to the error are."""
    if log is None or not log.exists():
        return []
    with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as file:
        file.write(traceback.format_exc())
    return [f"  log: {log}"]


def _reader_is_gone(file: TextIO) -> bool:
    """Tells the reader of stdout from a pipe of the program's own, whose loss is an error."""
    poll = select.poll()
    poll.register(file.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _discard(file: TextIO) -> None:
    # Python flushes stdout once more at exit, and would complain there.
    os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {name: _finite(inside) for name, inside in cast("Mapping[Any, Any]", value).items()}
        case list() | tuple():
            return [_finite(inside) for inside in cast("list[Any]", value)]
        case os.PathLike():
            return os.fspath(cast("os.PathLike[str]", value))
        case _:
            return value
