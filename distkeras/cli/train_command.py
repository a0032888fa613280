"""`distkeras train`: from a config to a trained, tested and reported model."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distkeras.cli.console import exit_on_error, print_json, print_line, stdout
from distkeras.cli.options import ConfigOption, DebugOption, JsonOption, QuietOption, SetOption
from distkeras.cli.tables import aligned
from distkeras.errors import InterruptedRunError, PreemptedError
from distkeras.observability.run_directory import RunDirectory

if TYPE_CHECKING:
    from distkeras.config import Config
    from distkeras.evaluation.outcome import Outcome

DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Open the data and build the model, say what would run, stop there.")
]


WaitOption = Annotated[
    float,
    typer.Option(
        "--wait", metavar="SECONDS", min=0.0, help="On Ray: wait so long for machines that are still to come."
    ),
]


def train(
    config: ConfigOption,
    overrides: SetOption = None,
    dry_run: DryRunOption = False,
    wait: WaitOption = 0.0,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train, test and report what a config says.

    The same command resumes a run that was stopped.
    """
    with exit_on_error(debug) as ending:
        from distkeras.config import load_config
        from distkeras.runners.stoppable import stoppable

        loaded = load_config(config, overrides or ())
        directory = RunDirectory(loaded.output_dir / loaded.name)
        with stoppable():
            if dry_run:
                _show_rehearsal(loaded, json=json, quiet=quiet)
                return
            ending.log = directory.log_path(0)
            outcome = _complete(loaded, json=json, quiet=quiet, wait_seconds=wait)
        if json:
            print_json(outcome.as_mapping())
        else:
            print_line("\n".join(_outcome_lines(loaded, outcome)), stdout())


def _complete(config: Config, *, json: bool, quiet: bool, wait_seconds: float) -> Outcome:
    from distkeras.evaluation.outcome import read_outcome
    from distkeras.evaluation.whole_run import complete_run

    try:
        return complete_run(config, quiet=quiet, wait_seconds=wait_seconds)
    except (InterruptedRunError, PreemptedError):
        # A script that will resume the run wants to know how far it got.
        if json:
            print_json(read_outcome(RunDirectory(config.output_dir / config.name)).as_mapping())
        raise


def _outcome_lines(config: Config, outcome: Outcome) -> list[str]:
    from distkeras.observability.environment import this_program
    from distkeras.observability.formats import count_text, metric_text, percent_text, rate_text

    rows = [(name, metric_text(value)) for name, value in (outcome.test_metrics or outcome.metrics).items()]
    if outcome.examples_per_second is not None and outcome.input_wait_ratio is not None:
        rows.append(("examples/s", rate_text(outcome.examples_per_second)))
        rows.append(("input wait", percent_text(outcome.input_wait_ratio)))
    if outcome.report is not None:
        rows.append(("report", str(outcome.report)))
    run, program = shlex.quote(str(outcome.run)), shlex.join(this_program())
    return [
        f"{config.name}: {outcome.status}, {count_text(outcome.step)} steps",
        *aligned(rows, indent=2),
        f"next: {program} predict {run} --data PATH --out predictions.csv",
        f"      {program} runs show {run}",
    ]


def _show_rehearsal(config: Config, *, json: bool, quiet: bool) -> None:
    from distkeras.runners.rehearsal import rehearse

    facts = rehearse(config, quiet=quiet)
    if json:
        print_json({"status": "dry run", **facts})
    else:
        print_line("\n".join(_rehearsal_lines(config, facts)), stdout())


def _rehearsal_lines(config: Config, facts: Mapping[str, Any]) -> list[str]:
    from distkeras.observability.formats import count_text

    data, topology = facts["data"], facts["topology"]
    parts = [f"{count_text(data[part])} {part}" for part in ("train", "validation", "test") if part in data]
    rows = [
        ("run", f"{facts['run']}: {facts['start']}"),
        ("data", ", ".join(parts)),
        ("batches", facts["arithmetic"]),
        ("model", f"{config.model.builder}, {count_text(facts['num_parameters'])} parameters"),
        ("devices", f"{topology['num_replicas']} x {topology['device']}"),
        ("steps", f"{count_text(facts['num_steps'])} in {count_text(config.training.epochs)} epochs"),
    ]
    return [f"{config.name}: dry run, nothing was written", *aligned(rows, indent=2)]
