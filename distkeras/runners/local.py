"""The local runner: one process, which trains on one or more devices of this machine.

`distkeras train` and `dk.Trainer` both go through `local_run`. Nothing here imports TensorFlow before the run
directory is locked and the console is ours, because TensorFlow prints while it is imported.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from distkeras.config import Config, dump_yaml
from distkeras.config.sections import RunSettings
from distkeras.errors import DataError, DistkerasError, ResourceError
from distkeras.observability.atomic_files import write_bytes
from distkeras.observability.console import OwnedConsole, owned_console
from distkeras.observability.environment import package_versions
from distkeras.observability.logs import rank_log
from distkeras.observability.progress import Progress
from distkeras.observability.run_directory import RunDirectory
from distkeras.observability.writers import JsonLinesWriter, TensorBoardWriter, Writers
from distkeras.runners import record

if TYPE_CHECKING:
    import keras

    from distkeras.training.experiment import Experiment
    from distkeras.training.feeding import TrainingData
    from distkeras.training.session import Placement, Trained


@dataclass(frozen=True)
class LocalRun:
    """A run directory that this process holds, and the console it speaks through.

    Attributes:
        settings: The run's settings.
        directory: Its directory.
        unfinished: Whether there is anything left to train.
        console: Where results and errors go while libraries print into the log.
        progress: Where everything else goes.
    """

    settings: RunSettings
    directory: RunDirectory
    unfinished: bool
    console: OwnedConsole
    progress: Progress

    def place(self) -> Placement:
        """Imports TensorFlow, which takes seconds, seeds the process and chooses its devices.

        Raises:
            ResourceError: If the machine lacks the devices.
            ConfigError: If the global batch does not divide by the replicas.
        """
        version = package_versions(["tensorflow", "tensorflow-cpu"])
        self.progress.announce(f"importing TensorFlow {next(iter(version.values()), '')}".rstrip())
        from distkeras.training.session import place

        return place(self.settings)

    def train(
        self,
        build_model: Callable[[], keras.Model],
        data: TrainingData,
        placement: Placement,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> Trained:
        """Trains to the end, from the last commit where there is one; a finished run's weights are loaded.

        Raises:
            DistkerasError: What went wrong, by kind.
        """
        from distkeras.training import session
        from distkeras.training.checkpoints import load_latest
        from distkeras.training.feeding import batch_plan
        from distkeras.training.state import count_parameters

        record.require_same_data(self.directory, data.train.fingerprint, data.train.name)
        if not self.unfinished:
            self.progress.announce(f"{self.directory.path} is complete; its weights are loaded")
            return session.load(self.settings, build_model, data, placement=placement, run=self.directory)
        plan = batch_plan(self.settings, data)
        num_steps = plan.steps_per_epoch * self.settings.training.epochs
        record.describe(
            self.directory,
            num_steps=num_steps,
            arithmetic=plan.describe(placement.topology),
            topology=placement.facts(),
            data=data.facts(),
        )
        saved = load_latest(self.directory.checkpoints)
        self.directory.truncate_metrics(saved.step if saved else 0)
        with self._writers(saved.step if saved else 0) as writers, _explained(data, self.settings):
            trained = session.train(
                self.settings,
                build_model,
                data,
                placement=placement,
                run=self.directory,
                saved=saved,
                progress=self.progress,
                writer=writers,
                resume_command=shlex.join(record.this_command()),
                callbacks=callbacks,
            )
        record.complete(self.directory, step=trained.step, num_parameters=count_parameters(trained.model))
        return trained

    @contextmanager
    def _writers(self, step: int) -> Generator[Writers]:
        writers: list[Any] = [JsonLinesWriter(self.directory.metrics_path)]
        if self.settings.logging.tensorboard and find_spec("tensorboard") is not None:
            writers.append(TensorBoardWriter(self.directory.events, start_step=step))
        together = Writers(writers)
        try:
            yield together
        finally:
            together.close()


@contextmanager
def local_run(
    settings: RunSettings, digest: str, *, console: OwnedConsole | None = None, quiet: bool = False
) -> Generator[LocalRun]:
    """Holds a run directory for one attempt, and writes down how the attempt ended.

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
        unfinished = record.begin(directory, who)
        stack.enter_context(rank_log(directory.log_path(0), 0))
        ours = console or stack.enter_context(owned_console(directory.log_path(0)))
        progress = stack.enter_context(Progress(ours.stderr, quiet=quiet))
        try:
            yield LocalRun(settings, directory, unfinished, ours, progress)
        except BaseException as error:
            with suppress(ResourceError):  # a full disk that ended the run must not hide why it ended
                record.fail(directory, error)
            raise


def current_console() -> OwnedConsole:
    """Returns the console as it is, for callers from Python: a notebook's output is not ours to take."""
    return OwnedConsole(sys.stdout, sys.stderr)


def train_config(local: LocalRun, config: Config) -> tuple[Trained, Experiment]:
    """Opens what a config describes and trains it.

    Raises:
        DistkerasError: What went wrong, by kind.
    """
    write_bytes(local.directory.config_path, dump_yaml(config).encode())
    placement = local.place()
    from distkeras.training.experiment import open_experiment

    local.progress.announce(f"opening the {config.data.source.kind} data")
    experiment = open_experiment(config)
    trained = local.train(experiment.build_model, experiment.data, placement)
    record.describe(local.directory, **experiment.facts())
    return trained, experiment


@contextmanager
def _explained(data: TrainingData, settings: RunSettings) -> Generator[None]:
    """Says what TensorFlow's own errors mean for the run."""
    import tensorflow as tf

    from distkeras.data.bad_data import find_unreadable_example

    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        if "No space left" in str(error.message):  # what TensorFlow calls a full disk, too
            raise ResourceError(
                "The disk is full: TensorFlow could not write a file.",
                received=str(error.message).partition("\n")[0],
                remedy="free some space; what was committed is kept, and the same command resumes from it",
            ) from error
        raise ResourceError(
            "The device ran out of memory in a training step.",
            place=f"training.global_batch_size: {settings.training.global_batch_size}",
            received=str(error.message).partition("\n")[0],
            remedy="use a smaller training.global_batch_size with gradient_accumulation_steps, or more devices",
        ) from error
    except tf.errors.OpError as error:
        found = _unreadable(find_unreadable_example, data)
        if found is None:
            raise
        raise found from error


def _unreadable(find: Callable[[Any], DataError | None], data: TrainingData) -> DistkerasError | None:
    sources = [source for source in (data.train, data.validation) if source is not None]
    return next((error for error in map(find, sources) if error is not None), None)
