"""From what a user types for RUN to the run's directory."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from distkeras.cli.options import RUNS
from distkeras.errors import ConfigError
from distkeras.observability.run_directory import RunDirectory, list_runs


def find_run(argument: str) -> RunDirectory:
    """Returns the run that is meant: a directory with a run in it, or a name below `runs/`.

    Raises:
        ConfigError: If there is no such run; it names one that is called alike.
    """
    for path in (Path(argument), RUNS / argument):
        if RunDirectory(path).exists():
            return RunDirectory(path)
    raise ConfigError(f"There is no run {argument!r}.", place=_looked_in(argument), remedy=_remedy(argument))


def _looked_in(argument: str) -> str:
    if Path(argument).is_dir():
        return f"{argument} has no manifest.json, which every run has"
    return f"neither ./{argument} nor {RUNS / argument}" if not Path(argument).is_absolute() else argument


def _remedy(argument: str) -> str:
    names = [run.path.name for run in list_runs(RUNS)]
    if close := get_close_matches(Path(argument).name, names, n=1):
        return f"did you mean {close[0]}?"
    if names:
        return "distkeras runs list shows the runs that exist"
    return "train one: distkeras train --config FILE"
