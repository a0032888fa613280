"""The command `distkeras`: its verbs, in the order in which a user meets them."""

from __future__ import annotations

from typing import Annotated

import typer

from distkeras import __version__
from distkeras.cli.bench_command import bench
from distkeras.cli.config_commands import config_app
from distkeras.cli.data_commands import data_app
from distkeras.cli.doctor_command import doctor
from distkeras.cli.init_command import init
from distkeras.cli.launch_command import launch_app
from distkeras.cli.model_commands import evaluate, predict, report
from distkeras.cli.runs_commands import runs_app
from distkeras.cli.train_command import train
from distkeras.cli.verify_command import verify

# Plain help: it fits any width, and rich's would add a quarter of a second.
app = typer.Typer(
    name="distkeras",
    help="Train any Keras 3 model on one CPU, all GPUs of a machine or a Ray cluster, from one config file.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"distkeras {__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train any Keras 3 model on one CPU, all GPUs of a machine or a Ray cluster, from one config file."""


for verb in (doctor, init, train, evaluate, predict, verify, bench, report):
    app.command()(verb)
app.add_typer(data_app)
app.add_typer(config_app)
app.add_typer(runs_app)
app.add_typer(launch_app)


def main() -> None:
    """Runs the command line of this process."""
    app(prog_name="distkeras")
