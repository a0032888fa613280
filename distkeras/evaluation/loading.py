"""A run on disk, opened again: its config, its data and its trained model."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distkeras.config import Config, config_from_mapping, identity
from distkeras.config.documents import read_document
from distkeras.config.overrides import Override, apply_overrides, parse_override
from distkeras.errors import ConfigError
from distkeras.observability.console import owned_console
from distkeras.observability.logs import rank_log
from distkeras.observability.progress import Progress
from distkeras.observability.run_directory import RunDirectory
from distkeras.runners.attempt import Attempt
from distkeras.runners.record import require_same_data

if TYPE_CHECKING:
    from distkeras.training.experiment import Experiment
    from distkeras.training.session import Trained


@dataclass(frozen=True)
class OpenedRun:
    """A trained model with everything that it was trained with.

    Attributes:
        config: The run's config.
        directory: Its files.
        progress: Where a person is told what happens.
        experiment: Its data and task.
        trained: Its model.
    """

    config: Config
    directory: RunDirectory
    progress: Progress
    experiment: Experiment
    trained: Trained


def load_run_config(run: RunDirectory, overrides: Sequence[Override] = ()) -> Config:
    """Returns the config that a run was started with.

    Args:
        run: The run.
        overrides: Changes to it; relative paths in them start at the working directory.

    Raises:
        ConfigError: If there is no run, it was started from Python, or the changed config is not valid.
    """
    run.read_manifest()
    if not run.config_path.is_file():
        raise ConfigError(
            "This run has no config: it was started from Python, where its model and data are.",
            place=str(run.path),
            remedy="evaluate and predict there, with the model that `dk.Trainer` trained",
        )
    document = apply_overrides(read_document(run.config_path), overrides)
    return config_from_mapping(document, origin=str(run.config_path), base_folder=Path.cwd())


@contextmanager
def opened_run(
    run: RunDirectory, overrides: Sequence[str] = (), *, quiet: bool = False
) -> Generator[OpenedRun]:
    """Opens a run's data and loads its model; what libraries print meanwhile goes to the run's log.

    Args:
        run: The run.
        overrides: `--set` arguments that change where it runs or where its data lies, not its numbers.
        quiet: Say nothing.

    Raises:
        ConfigError: If there is no run, or `overrides` make it another one.
        DataError: If its data is missing, or no longer what it was trained on.
        CheckpointError: If it has no weights that can be trusted.
    """
    config = load_run_config(run, [parse_override(argument) for argument in overrides])
    _check_same_run(run, config)
    log = run.log_path(0)
    with ExitStack() as stack:
        stack.enter_context(rank_log(log, 0))
        console = stack.enter_context(owned_console(log))
        progress = stack.enter_context(Progress(console.stderr, quiet=quiet))
        yield _open(config, Attempt(config, run, False, console, progress, command=""))


def _open(config: Config, attempt: Attempt) -> OpenedRun:
    placement = attempt.place()
    from distkeras.training.experiment import open_experiment
    from distkeras.training.session import load

    attempt.progress.announce(f"opening the {config.data.source.kind} data of the run")
    experiment = open_experiment(config, attempt.surroundings(placement))
    train = experiment.splits.train
    require_same_data(attempt.directory, train.fingerprint, train.name)
    trained = load(
        config, experiment.build_model, experiment.data, placement=placement, run=attempt.directory
    )
    manifest = attempt.directory.read_manifest()
    if manifest["status"] != "completed":
        attempt.progress.announce(
            f"the run is {manifest['status']}: the weights of its last commit are used, step {trained.step}"
        )
    return OpenedRun(config, attempt.directory, attempt.progress, experiment, trained)


def _check_same_run(run: RunDirectory, config: Config) -> None:
    if identity(config) != run.read_manifest()["identity"]:
        raise ConfigError(
            "With these changes it is another run: its model or its split would not be the one that was trained.",
            place=str(run.path),
            remedy="change only topology, logging and data.source.path here, or train a new run",
        )
