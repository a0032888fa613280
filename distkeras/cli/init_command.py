"""`distkeras init`: a first config that runs as it is."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from distkeras.cli.console import exit_on_error, print_json, print_line, stdout
from distkeras.cli.counting import announced
from distkeras.cli.options import DebugOption, JsonOption
from distkeras.errors import ConfigError


class TaskName(StrEnum):
    """What a model can be for."""

    image_classification = "image_classification"
    text_classification = "text_classification"
    audio_classification = "audio_classification"
    tabular_classification = "tabular_classification"
    tabular_regression = "tabular_regression"
    time_series_forecasting = "time_series_forecasting"


FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="Where the config is written.")]
TaskOption = Annotated[
    TaskName | None,
    typer.Option("--task", metavar="KIND", help=f"{', '.join(TaskName)}; default: what the data looks like."),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="PATH", help="Your data, a file or a folder; default: synthetic examples."
    ),
]
LabelOption = Annotated[
    str | None,
    typer.Option("--label", metavar="COLUMN", help="The column to predict; default: `label`, or the last."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace a config that is there.")]


def init(
    folder: FolderArgument = Path("."),
    task: TaskOption = None,
    data: DataOption = None,
    label: LabelOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a first config that runs as it is."""
    with exit_on_error(debug):
        from distkeras.cli.starter import starter_config
        from distkeras.observability.environment import this_program

        with _reading(data):
            starter = starter_config(data, task and task.value, label)
        path = folder / f"{starter.name}.yaml"
        _write(path, starter.text, force)
        command = shlex.join([*this_program(), "train", "--config", str(path)])
        if json:
            print_json({"config": path, "next": command})
        else:
            print_line(f"{path} was written\nnext: {command}", stdout())


@contextmanager
def _reading(data: Path | None) -> Generator[None]:
    """Says what is read, and keeps away what TensorFlow prints meanwhile: it reads sounds and records."""
    if data is None:
        yield
        return
    from distkeras.observability.console import owned_console
    from distkeras.observability.logs import rank_log
    from distkeras.observability.progress import Progress

    with tempfile.TemporaryDirectory(prefix="distkeras-") as folder:
        log = Path(folder, "init.log")
        with rank_log(log, 0), owned_console(log) as console:
            progress = Progress(console.stderr)
            with progress, announced(progress, f"reading {data}"):
                yield


def _write(path: Path, text: str, force: bool) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(
            "There is a file already.",
            place=str(path),
            remedy="name another DIR, or add --force to replace it",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"The config cannot be written: {error.strerror or error}.",
            place=str(path),
            remedy="name another DIR",
        ) from error
