"""The options that verbs share, so that they read the same in every `--help`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

RUNS = Path("runs")


def complete_run(incomplete: str) -> Iterator[str]:
    """Yields the runs below `runs/` whose names begin like what was typed, for the shell's completion."""
    from distkeras.observability.run_directory import list_runs

    yield from (run.path.name for run in list_runs(RUNS) if run.path.name.startswith(incomplete))


def complete_key(incomplete: str) -> Iterator[str]:
    """Yields the config keys that begin like what was typed, ready for a value."""
    from distkeras.config.keys import all_keys

    dotted = sorted(".".join(key) for key in all_keys())
    yield from (f"{key}=" for key in dotted if key.startswith(incomplete))


ConfigOption = Annotated[Path, typer.Option("--config", metavar="FILE", help="The config file, YAML.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change one key, e.g. training.epochs=3. May be repeated.",
        autocompletion=complete_key,
    ),
]
RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run's directory, or its name below runs/.", autocompletion=complete_run
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, the rest on stderr.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Show no progress, only results and errors.")]
