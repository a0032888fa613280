"""`distkeras runs`: list, show, compare and remove runs. Nothing here needs TensorFlow."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distkeras.cli.console import exit_on_error, print_json, print_line, stderr, stdout
from distkeras.cli.options import RUNS, DebugOption, JsonOption, RunArgument
from distkeras.cli.run_argument import find_run
from distkeras.cli.tables import aligned, shortened
from distkeras.errors import ConfigError, DistkerasError

if TYPE_CHECKING:
    from distkeras.evaluation.outcome import Outcome
    from distkeras.observability.run_directory import RunDirectory

runs_app = typer.Typer(name="runs", help="List, show, compare and remove runs.", no_args_is_help=True)

OutputDirOption = Annotated[Path, typer.Option("--output-dir", metavar="DIR", help="Where the runs are.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

# With the widest other columns a line of the list fits 60 columns.
MAX_NAME_WIDTH = 13
MAX_METRIC_WIDTH = 8


@runs_app.command(name="list")
def list_all(
    output_dir: OutputDirOption = RUNS, json: JsonOption = False, debug: DebugOption = False
) -> None:
    """List runs with status, step and main metric."""
    with exit_on_error(debug):
        from distkeras.observability.run_directory import list_runs

        rows = [_listed(run) for run in list_runs(output_dir)]
        if json:
            print_json({"runs": rows})
        elif rows:
            print_line("\n".join(aligned([_HEADER, *map(_list_line, rows)])), stdout())
        else:
            print_line(f"no runs in {output_dir}", stdout())


@runs_app.command()
def show(run: RunArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Show how far a run got and what it measured."""
    with exit_on_error(debug):
        from distkeras.evaluation.outcome import read_outcome

        directory = find_run(run)
        outcome, manifest = read_outcome(directory), directory.read_manifest()
        if json:
            print_json(manifest | outcome.as_mapping())
        else:
            print_line("\n".join(_shown(outcome, manifest)), stdout())


@runs_app.command()
def diff(a: RunArgument, b: RunArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Compare two runs: configs and metrics."""
    with exit_on_error(debug):
        from distkeras.evaluation.outcome import read_outcome

        first, second = find_run(a), find_run(b)
        config, metrics = _config_differences(first, second), (read_outcome(first), read_outcome(second))
        names = list(dict.fromkeys(name for outcome in metrics for name in outcome.metrics))
        table = {
            name: {"a": metrics[0].metrics.get(name), "b": metrics[1].metrics.get(name)} for name in names
        }
        if json:
            print_json({"a": first.path, "b": second.path, "config": config, "metrics": table})
            return
        lines = [f"{one['key']}: {one['a']} -> {one['b']}" for one in config] or ["the configs are equal"]
        rows = [("", shortened(first.path.name, 16), shortened(second.path.name, 16))]
        rows += [(name, _metric(sides["a"]), _metric(sides["b"])) for name, sides in table.items()]
        print_line("\n".join([*lines, "", *aligned(rows)]), stdout())


@runs_app.command()
def clean(
    run: RunArgument, yes: YesOption = False, json: JsonOption = False, debug: DebugOption = False
) -> None:
    """Remove a run with its weights and results.

    Files that no run wrote are kept.
    """
    with exit_on_error(debug):
        from distkeras.observability.removal import check_removable, remove_run

        directory = find_run(run)
        check_removable(directory)
        if not yes and not _agreed(directory):
            print_line("nothing was removed", stdout())
            return
        kept = remove_run(directory)
        if json:
            print_json({"removed": directory.path, "kept": kept})
            return
        print_line(f"{directory.path} was removed", stdout())
        if kept:
            print_line(f"kept, because no run wrote it: {', '.join(path.name for path in kept)}", stdout())


_HEADER = ("NAME", "STATUS", "STEP", "RESULT", "AGE")


def _listed(run: RunDirectory) -> dict[str, Any]:
    from distkeras.observability.report.facts import load_facts
    from distkeras.observability.report.story import main_metric
    from distkeras.observability.run import Run

    row: dict[str, Any] = {"name": run.path.name, "run": run.path, "status": "damaged"}
    try:
        facts = load_facts(run)
        status = facts.manifest["status"]
        name, value = main_metric(facts) or (None, None)
        when = facts.manifest.get("finished") or run.manifest_path.stat().st_mtime
        step = max(facts.manifest.get("step", 0), Run(run).step)
    except (DistkerasError, KeyError, OSError):
        return row  # one broken run must not hide the others
    return row | {"status": status, "step": step, "metric": name, "value": value, "when": when}


def _list_line(row: dict[str, Any]) -> tuple[str, ...]:
    from distkeras.observability.formats import count_text

    name = shortened(row["name"], MAX_NAME_WIDTH)
    if row["status"] == "damaged":
        return name, "damaged", "", "", ""
    result = "" if row["metric"] is None else f"{_short(row['metric'])} {_metric(row['value'])}"
    return name, row["status"], count_text(row["step"]), result, _age(time.time() - row["when"])


def _age(seconds: float) -> str:
    """`45s`, `12m`, `3h`, `20d`: nobody asks a list for more."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def _short(metric: str) -> str:
    """`val accuracy` as `accuracy`; the longest names of Keras do not fit a narrow terminal."""
    return shortened(metric.rpartition(" ")[2], MAX_METRIC_WIDTH)


def _shown(outcome: Outcome, manifest: dict[str, Any]) -> list[str]:
    from distkeras.observability.formats import count_text, percent_text, rate_text

    steps = count_text(outcome.step) + (f" of {count_text(outcome.num_steps)}" if outcome.num_steps else "")
    rows = [
        ("status", outcome.status),
        ("steps", steps),
        ("attempts", str(manifest.get("attempts", 1))),
        ("seed", str(manifest.get("seed"))),
    ]
    for name in ("arithmetic", "error"):
        if manifest.get(name):
            rows.append((name, str(manifest[name]).partition("\n")[0]))
    rows += [(name, _metric(value)) for name, value in outcome.metrics.items()]
    if outcome.examples_per_second is not None and outcome.input_wait_ratio is not None:
        rows.append(("examples/s", rate_text(outcome.examples_per_second)))
        rows.append(("input wait", percent_text(outcome.input_wait_ratio)))
    if outcome.report is not None:
        rows.append(("report", str(outcome.report)))
    rows.append(("command", shlex.join(manifest.get("command") or [])))
    return [str(outcome.run), *aligned(rows, indent=2)]


def _metric(value: float | None) -> str:
    from distkeras.observability.formats import metric_text

    return "" if value is None else metric_text(value)


def _config_differences(a: RunDirectory, b: RunDirectory) -> list[dict[str, str]]:
    from distkeras.config import ABSENT
    from distkeras.config import diff as config_diff
    from distkeras.config.problems import show as shown
    from distkeras.evaluation.loading import load_run_config

    def text(value: Any) -> str:
        return str(value) if value is ABSENT else shown(value)

    differences = config_diff(load_run_config(a), load_run_config(b))
    return [{"key": key, "a": text(x), "b": text(y)} for key, x, y in differences]


def _agreed(run: RunDirectory) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError(
            "A run is removed only after a yes, and there is no terminal to ask on.",
            place=str(run.path),
            remedy="add --yes",
        )
    # Not typer.confirm: it writes a space to stdout.
    print_line(f"Remove {run.path} with its weights and results? [y/N]", stderr())
    return sys.stdin.readline().strip().lower() in ("y", "yes")
