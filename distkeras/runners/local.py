"""The local runner: one process, which trains on one or more devices of this machine.

`distkeras train` and `dk.Trainer` both go through `local_run`. Nothing here imports TensorFlow before the run
directory is locked and the console is ours, because TensorFlow prints while it is imported.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from distkeras.config import Config, dump_yaml
from distkeras.config.sections import RunSettings
from distkeras.errors import ResourceError
from distkeras.observability.atomic_files import write_bytes
from distkeras.observability.console import OwnedConsole, owned_console
from distkeras.observability.logs import rank_log
from distkeras.observability.progress import Progress
from distkeras.observability.run_directory import RunDirectory
from distkeras.runners import record
from distkeras.runners.attempt import Attempt

if TYPE_CHECKING:
    from distkeras.training.experiment import Experiment
    from distkeras.training.session import Trained


@contextmanager
def local_run(
    settings: RunSettings, digest: str, *, console: OwnedConsole | None = None, quiet: bool = False
) -> Generator[Attempt]:
    """Holds a run directory while it is trained, here or by workers, and writes down how the attempt ended.

    Args:
        settings: The run's settings; they name its directory.
        digest: Hash of everything that changes the run's numbers.
        console: Where to speak; None: take the process's own, and send what libraries print to the run's log.
        quiet: Show no progress.

    Raises:
        ConfigError: If the directory holds another run.
        ResourceError: If it cannot be written, or another process trains there.
    """
    directory = RunDirectory(settings.output_dir / settings.name)
    directory.create()
    who = record.Identity(
        settings.name, digest, settings.seed, settings.training.epochs, record.this_command()
    )
    with ExitStack() as stack:
        stack.enter_context(directory.locked())
        directory.stop_path.unlink(missing_ok=True)  # was meant for an attempt that is over
        unfinished = record.begin(directory, who)
        stack.enter_context(rank_log(directory.log_path(0), 0))
        ours = console or stack.enter_context(owned_console(directory.log_path(0)))
        progress = stack.enter_context(Progress(ours.stderr, quiet=quiet))
        try:
            yield Attempt(settings, directory, unfinished, ours, progress, shlex.join(who.command))
        except BaseException as error:
            with suppress(ResourceError):  # a full disk that ended the run must not hide why it ended
                record.fail(directory, error)
            raise


def current_console() -> OwnedConsole:
    """Returns the console as it is, for callers from Python: a notebook's output is not ours to take."""
    return OwnedConsole(sys.stdout, sys.stderr)


def train_config(attempt: Attempt, config: Config) -> tuple[Trained, Experiment]:
    """Opens what a config describes and trains it. Collective.

    Raises:
        DistkerasError: What went wrong, by kind.
    """
    if attempt.writes:
        write_bytes(attempt.directory.config_path, dump_yaml(config).encode())
    placement = attempt.place()
    from distkeras.training.experiment import open_experiment

    attempt.progress.announce(f"opening the {config.data.source.kind} data")
    experiment = open_experiment(config, attempt.surroundings(placement))
    if attempt.writes:
        attempt.directory.write_preprocessing(experiment.state())
    trained = attempt.train(experiment.build_model, experiment.data, placement)
    if attempt.writes:
        record.describe(attempt.directory, **experiment.facts())
    return trained, experiment
