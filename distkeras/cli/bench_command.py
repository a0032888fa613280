"""`distkeras bench`: how fast a config trains, what limits it, and what to do about that."""

from __future__ import annotations

import contextlib
import datetime
import signal
import sys
from collections.abc import Generator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distkeras.cli.console import exit_on_error, print_json, print_line, stderr, stdout
from distkeras.cli.options import DebugOption, JsonOption, QuietOption, SetOption
from distkeras.cli.tables import aligned

if TYPE_CHECKING:
    from distkeras.config import Config
    from distkeras.measurement.plan import Precision
    from distkeras.observability.progress import Progress

EXIT_SLOWER = 1
# Numbers of workers that are simulated where none are named.
SIMULATED = (8, 64, 512)


class Devices(StrEnum):
    """What trains."""

    cpu = "cpu"
    gpu = "gpu"


ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The config file, YAML.")]
WorkersOption = Annotated[
    str | None,
    typer.Option("--workers", metavar="N,N", help="Numbers of workers. [default: the config's]"),
]
BatchSizesOption = Annotated[
    str | None,
    typer.Option("--batch-sizes", metavar="N,N", help="Global batch sizes. [default: the config's]"),
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        "--precision", metavar="NAME,NAME", help="float32, mixed_bfloat16, ... [default: the config's]"
    ),
]
DevicesOption = Annotated[
    Devices | None, typer.Option("--devices", metavar="NAME", help="cpu or gpu. [default: the config's]")
]
SecondsOption = Annotated[
    float, typer.Option("--seconds", min=0.1, help="How long each trial measures, after it is warm.")
]
PairsOption = Annotated[int, typer.Option("--pairs", min=1, help="How often each trial is run.")]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="PATH", help="A .json file for the result, with a page beside it; or a folder."
    ),
]
CompareOption = Annotated[
    Path | None,
    typer.Option("--compare", metavar="OLD.json", help="Exit with 1 if it was faster in this older result."),
]
SimulateOption = Annotated[
    bool,
    typer.Option("--simulate", help="Model numbers of workers that are not here, from what is measured."),
]
BandwidthOption = Annotated[
    str, typer.Option("--bandwidth", metavar="RATE", help="Of the simulated network, such as 100Gb.")
]
LatencyOption = Annotated[
    str, typer.Option("--latency", metavar="TIME", help="Of the simulated network, such as 10us.")
]
FromOption = Annotated[
    Path | None,
    typer.Option("--from", metavar="RESULT.json", help="Simulate from this result; nothing is measured."),
]


def bench(
    config: ConfigOption = None,
    workers: WorkersOption = None,
    batch_sizes: BatchSizesOption = None,
    precision: PrecisionOption = None,
    devices: DevicesOption = None,
    seconds: SecondsOption = 10.0,
    pairs: PairsOption = 3,
    out: OutOption = None,
    compare: CompareOption = None,
    simulate: SimulateOption = False,
    bandwidth: BandwidthOption = "100Gb",
    latency: LatencyOption = "10us",
    source: FromOption = None,
    overrides: SetOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure how fast a config trains, and say what limits it.

    Trains it for some seconds in several ways, each of which lacks one thing: the cost of input, of commits and
    logging, of other workers. What is slow follows from the differences. Nothing of it is kept but the result.
    """
    with exit_on_error(debug):
        from distkeras.measurement.quantities import parse_bandwidth, parse_duration, parse_numbers

        # What is wrong with these is found out before the measuring rather than after it.
        link = (parse_bandwidth(bandwidth, "--bandwidth"), parse_duration(latency, "--latency"))
        numbers = parse_numbers(workers, "--workers") if workers is not None else []
        if source is not None:
            result = _read(source, simulate)
        else:
            loaded = _loaded(config, overrides or (), devices)
            matrix = {
                "workers": [] if simulate else numbers,
                "batch_sizes": parse_numbers(batch_sizes, "--batch-sizes") if batch_sizes is not None else [],
                "precisions": _precisions(precision),
                "num_passes": pairs,
                "seconds": seconds,
            }
            result = _measured(loaded, matrix, out, compare, quiet=quiet)
        simulation = _simulated(result, sorted(set(numbers)) or SIMULATED, link) if simulate else None
        if json:
            print_json({**result, "simulation": simulation} if simulation else result)
        elif simulation:
            print_line("\n".join(_simulation_lines(result, simulation)), stdout())
        else:
            print_line("\n".join(_result_lines(result)), stdout())
        regressions = result.get("compared_with", {}).get("slower", []) if compare else []
        for sentence in regressions:
            print_line(f"slower than in {compare}: {sentence}", stderr())
        if regressions:
            raise typer.Exit(EXIT_SLOWER)


def _precisions(text: str | None) -> list[Precision]:
    from distkeras.errors import ConfigError
    from distkeras.measurement.plan import PRECISIONS

    names: list[Any] = [name.strip() for name in text.split(",")] if text is not None else []
    unknown = [name for name in names if name not in PRECISIONS]
    if unknown:
        raise ConfigError(
            "There is no such precision.",
            place="--precision",
            received=unknown[0],
            remedy=f"use {', '.join(PRECISIONS)}",
        )
    return names


def _loaded(path: Path | None, overrides: Sequence[str], devices: Devices | None) -> Config:
    from distkeras.config import load_config
    from distkeras.errors import ConfigError

    if path is None:
        raise ConfigError("There is nothing to measure.", place="--config", remedy="give a config file")
    chosen = [f"topology.devices={devices.value}"] if devices else []
    return load_config(path, [*overrides, *chosen])


def _read(source: Path, simulate: bool) -> Mapping[str, Any]:
    from distkeras.errors import ConfigError
    from distkeras.measurement.comparison import read_result

    if not simulate:
        raise ConfigError(
            "A result is only read to simulate from it.",
            place="--from",
            received=str(source),
            remedy="add --simulate, or measure a config: --config FILE --compare OLD.json",
        )
    return read_result(source, "--from")


def _measured(
    config: Config, matrix: Mapping[str, Any], out: Path | None, compare: Path | None, *, quiet: bool
) -> dict[str, Any]:
    from distkeras.config import to_mapping
    from distkeras.measurement.ablation import measure
    from distkeras.measurement.comparison import find_regressions, read_result, refuse_incomparable
    from distkeras.measurement.plan import make_plan
    from distkeras.measurement.result import machine_and_versions, make_result
    from distkeras.observability.progress import Progress
    from distkeras.runners.record import this_command

    plan = make_plan(config, **matrix)
    where = machine_and_versions(this_command())
    old = read_result(compare, "--compare") if compare else None
    if old is not None:
        refuse_incomparable(where["machine"], to_mapping(config), old)
    target = _result_file(out, config.name)
    with Progress(sys.stderr, quiet=quiet) as progress, _ended_by_sigterm():
        result = make_result(config, plan, list(measure(config, plan, progress)), where)
        if old is not None:
            result["compared_with"] = {"date": old["date"], "slower": find_regressions(result, old)}
        if target is not None:
            _write(result, target, progress)
    return result


@contextlib.contextmanager
def _ended_by_sigterm() -> Generator[None]:
    """Lets SIGTERM end a bench as Ctrl-C does: without processes or files left behind."""
    from distkeras.errors import PreemptedError

    def stop(number: int, frame: FrameType | None) -> None:
        raise PreemptedError("SIGTERM ended the bench; nothing of it is kept.", remedy="run it again")

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _result_file(out: Path | None, name: str) -> Path | None:
    from distkeras.observability.atomic_files import explained

    if out is None:
        return None
    today = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d")
    target = out if out.suffix == ".json" else out / f"bench_{name}_{today}.json"
    with explained("make the folder of the result", target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _write(result: dict[str, Any], target: Path, progress: Progress) -> None:
    from distkeras.errors import MissingDependencyError
    from distkeras.measurement.page import render
    from distkeras.observability.atomic_files import write_bytes, write_json

    page = target.with_suffix(".html")
    try:
        content = render(result)
    except MissingDependencyError as error:
        progress.announce(f"no page: {error.problem} {error.remedy}")
    else:
        write_bytes(page, content.encode())
        result["report"] = str(page)
    result["out"] = str(target)
    write_json(target, result)


def _simulated(
    result: Mapping[str, Any], workers: Sequence[int], link: tuple[float, float]
) -> dict[str, Any]:
    from distkeras.measurement.network import NCCL, TENSORFLOW_CPU, Network
    from distkeras.measurement.simulation import simulate

    bandwidth, latency = link
    algorithms = NCCL if result["step"]["device"] == "gpu" else TENSORFLOW_CPU
    return simulate(result, Network(bandwidth=bandwidth, latency=latency, algorithms=algorithms), workers)


def _result_lines(result: Mapping[str, Any]) -> list[str]:
    from distkeras.measurement import tables

    lines = [f"{result['name']}: {result['verdict']}", *aligned(tables.key_numbers(result), indent=2)]
    lines += ["a step:", *aligned(tables.share_rows(result), indent=2)]
    if len(result["settings"]) > 1:
        rows = [tables.SETTING_HEADER, *tables.setting_rows(result)]
        lines += ["settings:", *aligned(rows, indent=2)]
    lines += [f"warning: {text}" for text in result["warnings"]]
    if "report" in result:
        lines.append(f"report: {result['report']}")
    return lines


def _simulation_lines(result: Mapping[str, Any], simulation: Mapping[str, Any]) -> list[str]:
    from distkeras.measurement.simulation import HEADER, explanation, text_rows

    return [
        f"{result['name']}: {explanation(simulation)}",
        *aligned([HEADER, *text_rows(simulation)], indent=2),
        simulation["knee"],
        simulation["knob"],
        simulation["published"],
    ]
