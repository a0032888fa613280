"""`distkeras config`: show, check and compare configs, and print their schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distkeras.cli.console import exit_on_error, print_json, print_line, stdout
from distkeras.cli.options import ConfigOption, DebugOption, JsonOption, SetOption

if TYPE_CHECKING:
    from distkeras.config import Config, InvalidConfigError

# Verbs import distkeras.config when they run: `distkeras --help` needs no pydantic.
config_app = typer.Typer(name="config", help="Show, check and compare configs.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A config file, YAML.")]


@config_app.command()
def show(
    config: ConfigOption, overrides: SetOption = None, json: JsonOption = False, debug: DebugOption = False
) -> None:
    """Print a config with its defaults."""
    with exit_on_error(debug):
        from distkeras.config import dump_yaml, load_config, to_mapping

        loaded = load_config(config, overrides or ())
        if json:
            print_json(to_mapping(loaded))
        else:
            print_line(dump_yaml(loaded).rstrip(), stdout())


@config_app.command()
def check(
    config: ConfigOption, overrides: SetOption = None, json: JsonOption = False, debug: DebugOption = False
) -> None:
    """Say what is wrong with a config.

    All problems at once; of a valid config, what it is.
    """
    with exit_on_error(debug):
        from distkeras.config import InvalidConfigError, identity, load_config

        try:
            loaded = load_config(config, overrides or ())
        except InvalidConfigError as error:
            if json:
                print_json({"valid": False, "problems": _problems(error)})
            raise
        if json:
            print_json({"valid": True, "name": loaded.name, "identity": identity(loaded)})
        else:
            print_line(f"{config}: valid; {_summary(loaded)}", stdout())


@config_app.command()
def schema(debug: DebugOption = False) -> None:
    """Print the JSON schema, for editors."""
    with exit_on_error(debug):
        from distkeras.config import schema as config_schema

        print_json(config_schema())


@config_app.command()
def diff(a: FileArgument, b: FileArgument, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Print the keys that differ in two configs."""
    with exit_on_error(debug):
        from distkeras.config import diff as config_diff
        from distkeras.config import load_config

        differences = config_diff(load_config(a), load_config(b))
        if json:
            print_json({"differences": [_difference(*difference) for difference in differences]})
            return
        for key, value_a, value_b in differences:
            print_line(f"{key}: {_shown(value_a)} -> {_shown(value_b)}", stdout())
        if not differences:
            print_line("no differences", stdout())


def _summary(config: Config) -> str:
    training = config.training
    epochs = "1 epoch" if training.epochs == 1 else f"{training.epochs} epochs"
    return (
        f"run {config.name!r}, {config.task.kind}, {config.model.builder}, {epochs}, "
        f"global batch {training.global_batch_size}"
    )


def _problems(error: InvalidConfigError) -> list[dict[str, Any]]:
    return [
        {"key": ".".join(problem.key), "problem": problem.text, "source": problem.source}
        for problem in error.problems
    ]


def _difference(key: str, value_a: Any, value_b: Any) -> dict[str, Any]:
    """One row for JSON; a side that has no such key is left out, which null would not tell."""
    from distkeras.config import ABSENT

    sides = {"a": value_a, "b": value_b}
    return {"key": key, **{side: value for side, value in sides.items() if value is not ABSENT}}


def _shown(value: Any) -> str:
    from distkeras.config import ABSENT
    from distkeras.config.problems import show

    return str(value) if value is ABSENT else show(value)
