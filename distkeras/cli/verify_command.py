"""`distkeras verify`: whether a config gives the same numbers on one process, several replicas and several workers."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from distkeras.cli.console import exit_on_error, print_json, print_line, stdout
from distkeras.cli.options import ConfigOption, DebugOption, JsonOption, QuietOption, SetOption
from distkeras.cli.tables import aligned

if TYPE_CHECKING:
    from distkeras.verification.ladder import Rung

WorkersOption = Annotated[
    int, typer.Option("--workers", min=2, help="Replicas and workers on the higher rungs.")
]
StepsOption = Annotated[int, typer.Option("--steps", min=1, help="Steps to train on each rung.")]
ToleranceOption = Annotated[
    float | None,
    typer.Option(
        "--tolerance",
        min=0.0,
        help="Largest relative difference of weights that passes, and a tenth of it of losses.",
        show_default="1e-6; 1e-4 between engines; 5e-2 in half precision",
    ),
]


class Engine(StrEnum):
    """What trains."""

    tensorflow = "tensorflow"
    jax = "jax"


EngineOption = Annotated[
    Engine, typer.Option("--engine", metavar="NAME", help="tensorflow or jax: what trains the higher rungs.")
]


_REMEDIES = {
    Engine.tensorflow: "look at what the model computes itself: a loss, metric or layer that sees one replica's "
    "examples only; `--tolerance` sets what may differ",
    Engine.jax: "try it with SGD: where a gradient is zero, Adam makes steps of the learning rate out of what the two "
    "engines round differently; `--tolerance` sets what may differ",
}


def verify(
    config: ConfigOption,
    workers: WorkersOption = 2,
    engine: EngineOption = Engine.tensorflow,
    steps: StepsOption = 20,
    tolerance: ToleranceOption = None,
    overrides: SetOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Prove that a config gives the same numbers everywhere.

    Trains its first steps with plain Keras, then on one replica, on several, and in several worker processes, and
    names the first step and tensor that differ. Dropout is off, BatchNormalization synchronized and float32 replaced
    by float64 meanwhile.
    """
    with exit_on_error(debug):
        from distkeras.config import load_config
        from distkeras.errors import CheckError
        from distkeras.observability.progress import Progress
        from distkeras.verification.ladder import as_mapping, climb

        loaded = load_config(config, overrides or ())
        with Progress(sys.stderr, quiet=quiet) as progress:
            rungs = list(
                climb(
                    loaded,
                    workers=workers,
                    num_steps=steps,
                    tolerance=tolerance,
                    progress=progress,
                    engine=engine.value,
                )
            )
        if json:
            print_json(as_mapping(rungs))
        else:
            print_line("\n".join(_lines(loaded.name, steps, rungs)), stdout())
        failed = [rung for rung in rungs if not rung.passed]
        if failed:
            raise CheckError(
                f"On {failed[0].name} the numbers are not those of plain Keras.",
                place=failed[0].first_difference,
                remedy=_REMEDIES[engine],
            )


def _lines(name: str, steps: int, rungs: list[Rung]) -> list[str]:
    rows = [
        (
            rung.name,
            f"{'same' if rung.passed else 'DIFFERS'}: "
            f"losses {rung.max_loss_difference:.1e}, weights {rung.max_weight_difference:.1e}",
        )
        for rung in rungs
    ]
    return [f"{name}: {steps} steps, against plain Keras", *aligned(rows, indent=2)]
