"""A config from beginning to end: trained, evaluated on its test data, reported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from distkeras.config import Config, config_from_mapping, identity
from distkeras.config.canonical import to_mapping
from distkeras.errors import MissingDependencyError
from distkeras.evaluation.outcome import Outcome, read_outcome
from distkeras.observability.report import write_report
from distkeras.observability.run_directory import RunDirectory
from distkeras.runners.attempt import Attempt
from distkeras.runners.group import run_group
from distkeras.runners.local import local_run, train_config
from distkeras.runners.stoppable import stoppable
from distkeras.runners.workers import WorkerTask, worker_attempt
from distkeras.topology import Worker

if TYPE_CHECKING:
    from distkeras.training.experiment import Experiment
    from distkeras.training.session import Trained


def complete_run(config: Config, *, quiet: bool = False, wait_seconds: float = 0.0) -> Outcome:
    """Does what a run still lacks: training to its last epoch, the test, the report.

    Without the packages of the extra `report` it says so and leaves test or report out: the model is trained.

    Args:
        config: The run.
        quiet: Show no progress.
        wait_seconds: On Ray, how long to wait for machines that the cluster does not have yet.

    Raises:
        DistkerasError: What went wrong, by kind.
    """
    # Inside the run's record, so that it says why the attempt ended.
    with local_run(config, identity(config), quiet=quiet) as attempt, stoppable():
        if not attempt.unfinished and _is_tested(attempt.directory, config):
            attempt.progress.announce(f"{attempt.directory.path} is complete: nothing is left to train")
        elif config.topology.kind == "local":
            _train_and_test(attempt, config)
        else:
            run_group(attempt, f"{__name__}:work", {"config": to_mapping(config)}, wait_seconds=wait_seconds)
        attempt.progress.close()
        try:
            write_report(attempt.directory)
        except MissingDependencyError as error:
            attempt.progress.announce(f"no report: {error.problem} {error.remedy}")
    return read_outcome(attempt.directory)


def work(task: WorkerTask, worker: Worker) -> None:
    """Trains and tests a config as one of several workers. Collective."""
    config = config_from_mapping(task.payload["config"], origin=task.directory, base_folder=Path.cwd())
    with worker_attempt(config, task, worker) as attempt:
        _train_and_test(attempt, config).placement.leave()


def _is_tested(run: RunDirectory, config: Config) -> bool:
    return run.read_evaluation() is not None or not _keeps_test_data(config)


def _keeps_test_data(config: Config) -> bool:
    return config.data.test is not None or config.data.split.test > 0


def _train_and_test(attempt: Attempt, config: Config) -> Trained:
    trained, experiment = train_config(attempt, config)
    _test(attempt, trained, experiment)
    return trained


def _test(attempt: Attempt, trained: Trained, experiment: Experiment) -> None:
    attempt.progress.close()
    from distkeras.evaluation.evaluation import evaluate

    if experiment.splits.test is None:
        attempt.progress.announce("no test: the config keeps no data for it (data.split.test)")
        return
    attempt.progress.announce(f"testing on {experiment.splits.test.num_examples:,} examples")
    try:
        evaluation = evaluate(trained, experiment)
    except MissingDependencyError as error:
        attempt.progress.announce(f"no test: {error.problem} {error.remedy}")
        return
    if attempt.writes:
        attempt.directory.write_evaluation(evaluation)
