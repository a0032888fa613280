"""A config from beginning to end: trained, evaluated on its test data, reported."""

from __future__ import annotations

from distkeras.config import Config, identity
from distkeras.errors import MissingDependencyError
from distkeras.evaluation.outcome import Outcome, read_outcome
from distkeras.observability.report import write_report
from distkeras.observability.run_directory import RunDirectory
from distkeras.runners.local import LocalRun, local_run, train_config
from distkeras.runners.stoppable import stoppable


def complete_run(config: Config, *, quiet: bool = False) -> Outcome:
    """Does what a run still lacks: training to its last epoch, the test, the report.

    Without the packages of the extra `report` it says so and leaves test or report out: the model is trained.

    Raises:
        DistkerasError: What went wrong, by kind.
    """
    # Inside the run's record, so that it says why the attempt ended.
    with local_run(config, identity(config), quiet=quiet) as local, stoppable():
        if local.unfinished or not _is_tested(local.directory, config):
            _train_and_test(local, config)
        else:
            local.progress.announce(f"{local.directory.path} is complete: nothing is left to train")
        try:
            write_report(local.directory)
        except MissingDependencyError as error:
            local.progress.announce(f"no report: {error.problem} {error.remedy}")
    return read_outcome(local.directory)


def _is_tested(run: RunDirectory, config: Config) -> bool:
    return run.read_evaluation() is not None or not _keeps_test_data(config)


def _keeps_test_data(config: Config) -> bool:
    return config.data.test is not None or config.data.split.test > 0


def _train_and_test(local: LocalRun, config: Config) -> None:
    trained, experiment = train_config(local, config)
    local.progress.close()
    from distkeras.evaluation.evaluation import evaluate

    if experiment.splits.test is None:
        local.progress.announce("no test: the config keeps no data for it (data.split.test)")
        return
    local.progress.announce(f"testing on {experiment.splits.test.num_examples:,} examples")
    try:
        local.directory.write_evaluation(evaluate(trained, experiment))
    except MissingDependencyError as error:
        local.progress.announce(f"no test: {error.problem} {error.remedy}")
