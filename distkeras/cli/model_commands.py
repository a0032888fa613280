"""`distkeras evaluate`, `predict` and `report`: what is done with a run that has been trained."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from distkeras.cli.console import exit_on_error, print_json, print_line, stdout
from distkeras.cli.options import DebugOption, JsonOption, QuietOption, RunArgument, SetOption
from distkeras.cli.run_argument import find_run
from distkeras.cli.tables import aligned


class Split(StrEnum):
    """A part of a run's data."""

    test = "test"
    validation = "validation"
    train = "train"


SplitOption = Annotated[Split, typer.Option("--split", metavar="PART", help="test, validation or train.")]
DataOption = Annotated[
    Path,
    typer.Option("--data", metavar="PATH", help="New data: a file, a folder, or a config with data.source."),
]
OutOption = Annotated[
    Path, typer.Option("--out", metavar="FILE", help="Where the predictions go, .csv or .parquet.")
]


def evaluate(
    run: RunArgument,
    split: SplitOption = Split.test,
    overrides: SetOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure a run on a part of its data.

    The test part renews what the run's report shows.
    """
    with exit_on_error(debug) as ending:
        from distkeras.evaluation.loading import opened_run
        from distkeras.observability.formats import count_text, metric_text

        directory = find_run(run)
        ending.log = directory.log_path(0)
        with opened_run(directory, overrides or (), quiet=quiet) as opened:
            from distkeras.evaluation.evaluation import evaluate as evaluate_split

            opened.progress.announce(f"evaluating the {split} data")
            result = evaluate_split(opened.trained, opened.experiment, str(split))
            if split is Split.test:
                directory.write_evaluation(result)
        if json:
            facts = {"run": directory.path, "split": split, "step": opened.trained.step}
            print_json({**facts, "num_examples": result["num_examples"], "metrics": result["metrics"]})
            return
        print_line(f"{directory.path}: {count_text(result['num_examples'])} {split} examples", stdout())
        rows = [(name, metric_text(value)) for name, value in result["metrics"].items()]
        print_line("\n".join(aligned(rows, indent=2)), stdout())


def predict(
    run: RunArgument,
    data: DataOption,
    out: OutOption,
    overrides: SetOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write predictions for new data.

    One row an example, in order; labels are not needed. The data is read like the run's own; what differs is
    corrected with --set data.source.KEY=VALUE.
    """
    with exit_on_error(debug) as ending:
        from distkeras.evaluation.loading import opened_run
        from distkeras.evaluation.new_data import check_output, new_source_section, of_run
        from distkeras.observability.formats import count_text

        directory = find_run(run)
        check_output(out, data)
        section = new_source_section(directory, data, overrides or ())
        ending.log = directory.log_path(0)
        with opened_run(directory, of_run(overrides or ()), quiet=quiet) as opened:
            from distkeras.evaluation.prediction_file import predict_source, write_predictions

            source, outputs = predict_source(opened, section)
            write_predictions(out, source, opened.experiment.task.decode(outputs))
        if json:
            print_json({"run": directory.path, "rows": source.num_examples, "out": out})
        else:
            print_line(f"{out}: {count_text(source.num_examples)} predictions", stdout())


def report(run: RunArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Write a run's report again."""
    with exit_on_error(debug):
        from distkeras.observability.report import write_report

        directory = find_run(run)
        path = write_report(directory)
        if json:
            print_json({"run": directory.path, "report": path, "markdown": directory.report_markdown_path})
        else:
            print_line(str(path), stdout())
