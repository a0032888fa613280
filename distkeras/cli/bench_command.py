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
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from distkeras.cli.console import exit_on_error, print_json, print_line, stderr, stdout
from distkeras.cli.options import DebugOption, JsonOption, QuietOption, SetOption

if TYPE_CHECKING:
    from distkeras.config import Config

Value = TypeVar("Value")

EXIT_SLOWER = 1
XLA = {"on": True, "off": False, "auto": "auto"}
# Numbers of workers that are simulated where none are named.
SIMULATED = (8, 64, 512)


class Devices(StrEnum):
    """What trains."""

    cpu = "cpu"
    gpu = "gpu"


ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="The config file, YAML.")]


def _listed(flag: str, metavar: str, text: str) -> Any:
    return typer.Option(flag, metavar=metavar, help=f"{text} [default: the config's]")


WorkersOption = Annotated[str | None, _listed("--workers", "N,N", "Numbers of workers.")]
BatchSizesOption = Annotated[str | None, _listed("--batch-sizes", "N,N", "Global batch sizes.")]
PrecisionOption = Annotated[str | None, _listed("--precision", "NAME,NAME", "float32, mixed_bfloat16, ...")]
EnginesOption = Annotated[str | None, _listed("--engines", "NAME,NAME", "tensorflow, jax.")]
XlaOption = Annotated[str | None, _listed("--xla", "NAME,NAME", "on, off, auto.")]
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
        "--out",
        metavar="PATH",
        help="A .json file for the result, with a page beside it; or a folder. With --tune: a .yaml file.",
    ),
]
CompareOption = Annotated[
    Path | None,
    typer.Option("--compare", metavar="OLD.json", help="Exit with 1 if it was faster in this older result."),
]
TuneOption = Annotated[
    bool,
    typer.Option(
        "--tune",
        help="Try precision, XLA, batch, steps per call and parallel input; write the fastest config.",
    ),
]
SimulateOption = Annotated[
    bool,
    typer.Option("--simulate", help="Model numbers of workers that are not here, from what is measured."),
]
BandwidthOption = Annotated[
    str | None, typer.Option("--bandwidth", metavar="RATE", help="Of the simulated network. [default: 100Gb]")
]
LatencyOption = Annotated[
    str | None, typer.Option("--latency", metavar="TIME", help="Of the simulated network. [default: 10us]")
]
FromOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--from",
        metavar="RESULT.json",
        help="Simulate from this result. Several, of models that differ in size, show the network.",
    ),
]


def bench(
    config: ConfigOption = None,
    workers: WorkersOption = None,
    batch_sizes: BatchSizesOption = None,
    precision: PrecisionOption = None,
    engines: EnginesOption = None,
    xla: XlaOption = None,
    devices: DevicesOption = None,
    seconds: SecondsOption = 10.0,
    pairs: PairsOption = 3,
    out: OutOption = None,
    compare: CompareOption = None,
    tune: TuneOption = False,
    simulate: SimulateOption = False,
    bandwidth: BandwidthOption = None,
    latency: LatencyOption = None,
    sources: FromOption = None,
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
        from distkeras.measurement.plan import ENGINES, PRECISIONS
        from distkeras.measurement.quantities import parse_numbers
        from distkeras.measurement.simulation import refuse_unmodelled

        # What is wrong with these is found out before the measuring rather than after it.
        named, numbers = _link(bandwidth, latency), parse_numbers(workers, "--workers")
        options: dict[str, Any] = {
            "batch_sizes": parse_numbers(batch_sizes, "--batch-sizes"),
            "precisions": _choices(precision, "--precision", {name: name for name in PRECISIONS}),
            "jit_compile": _choices(xla, "--xla", XLA),
            "num_passes": pairs,
            "seconds": seconds,
        }
        engine_names = _choices(engines, "--engines", {name: name for name in ENGINES})
        if tune:
            _refuse(
                {"--workers": workers, "--engines": engines, "--compare": compare, "--from": sources}
                | {"--simulate": simulate or None, "--bandwidth": bandwidth, "--latency": latency},
                "Tuning tries other things, and takes this from the config if at all.",
            )
            _tune(_loaded(config, overrides, devices), options, out, json=json, quiet=quiet)
            return
        if sources:
            _refuse(
                {"--config": config, "--set": overrides, "--devices": devices, "--compare": compare}
                | {"--batch-sizes": batch_sizes, "--precision": precision}
                | {"--engines": engines, "--xla": xla},
                "Beside --from nothing is measured.",
            )
            results = [_read(source, simulate) for source in sources]
            target = _result_file(out, results[0]["name"])
        else:
            loaded = _loaded(config, overrides, devices)
            target = _result_file(out, loaded.name)
            if simulate:
                refuse_unmodelled(loaded.topology.reduction)
            matrix = {**options, "engines": engine_names, "workers": [] if simulate else numbers}
            results = [_measured(loaded, matrix, compare, quiet=quiet)]
        if simulate:
            results[0]["simulation"] = _simulated(results, sorted(set(numbers)) or SIMULATED, named)
        _show(results[0], target, json=json)
        _fail_if_slower(results[0], compare)


def _link(bandwidth: str | None, latency: str | None) -> tuple[float | None, float | None]:
    """Returns bytes a second and seconds; None where they were not named."""
    from distkeras.measurement.quantities import parse_bandwidth, parse_duration

    return (
        parse_bandwidth(bandwidth, "--bandwidth") if bandwidth is not None else None,
        parse_duration(latency, "--latency") if latency is not None else None,
    )


def _show(result: dict[str, Any], target: Path | None, *, json: bool) -> None:
    from distkeras.cli.bench_text import result_lines, simulation_lines

    if target is not None:
        _write(result, target)
    if json:
        print_json(result)
    else:
        lines = simulation_lines(result) if "simulation" in result else result_lines(result)
        print_line("\n".join(lines), stdout())


def _fail_if_slower(result: Mapping[str, Any], compare: Path | None) -> None:
    regressions = result["compared_with"]["slower"] if compare else []
    for sentence in regressions:
        print_line(f"slower than in {compare}: {sentence}", stderr())
    if regressions:
        raise typer.Exit(EXIT_SLOWER)


def _choices(text: str | None, place: str, values: Mapping[str, Value]) -> list[Value]:
    """Returns the values of a list of names; empty where none was given."""
    from distkeras.errors import ConfigError

    names = [name.strip() for name in text.split(",")] if text is not None else []
    unknown = [name for name in names if name not in values]
    if unknown:
        raise ConfigError(
            "There is no such choice.", place=place, received=unknown[0], remedy=f"use {', '.join(values)}"
        )
    return [values[name] for name in names]


def _refuse(given: Mapping[str, object], problem: str) -> None:
    """Refuses the first of some options that was given."""
    from distkeras.errors import ConfigError

    for name, value in given.items():
        if value is not None:
            raise ConfigError(problem, place=name, remedy="leave it out")


def _loaded(path: Path | None, overrides: Sequence[str] | None, devices: Devices | None) -> Config:
    from distkeras.config import load_config
    from distkeras.errors import ConfigError

    if path is None:
        raise ConfigError("There is nothing to measure.", place="--config", remedy="give a config file")
    chosen = [f"topology.devices={devices.value}"] if devices else []
    return load_config(path, [*(overrides or ()), *chosen])


def _read(source: Path, simulate: bool) -> dict[str, Any]:
    from distkeras.errors import ConfigError
    from distkeras.measurement.comparison import read_result

    if not simulate:
        raise ConfigError(
            "A result is only read to simulate from it.",
            place="--from",
            received=str(source),
            remedy="add --simulate, or measure a config: --config FILE --compare OLD.json",
        )
    # Where it was written, and an older simulation, are not this command's.
    left_out = ("out", "report", "simulation", "compared_with")
    return {name: value for name, value in read_result(source, "--from").items() if name not in left_out}


def _measured(
    config: Config, matrix: Mapping[str, Any], compare: Path | None, *, quiet: bool
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
        refuse_incomparable(where["machine"], to_mapping(config), plan, old)
    with Progress(sys.stderr, quiet=quiet) as progress, _ended_by_sigterm():
        result = make_result(config, plan, list(measure(config, plan, progress)), where)
    if old is not None:
        result["compared_with"] = {"date": old["date"], "slower": find_regressions(result, old)}
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


def _write(result: dict[str, Any], target: Path) -> None:
    from distkeras.errors import MissingDependencyError
    from distkeras.measurement.page import render
    from distkeras.observability.atomic_files import write_bytes, write_json

    page = target.with_suffix(".html")
    try:
        content = render(result)
    except MissingDependencyError as error:
        print_line(f"no page: {error.problem} {error.remedy}", stderr())
    else:
        write_bytes(page, content.encode())
        result["report"] = str(page)
    result["out"] = str(target)
    write_json(target, result)


def _simulated(
    results: Sequence[Mapping[str, Any]], workers: Sequence[int], named: tuple[float | None, float | None]
) -> dict[str, Any]:
    from distkeras.measurement.simulation import link_of, simulate

    link = link_of(results, *named)
    return simulate(results[0], link.network, workers, link.description)


def _tuned_file(out: Path | None, name: str) -> Path:
    from distkeras.errors import ConfigError
    from distkeras.measurement.tuned import SUFFIX
    from distkeras.observability.atomic_files import explained

    target = out or Path(f"{name}{SUFFIX}.yaml")
    if target.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            "A tuned config is a YAML file.", place="--out", received=str(out), remedy="end it with .yaml"
        )
    if target.exists():
        raise ConfigError(
            "There is a file already, which may be somebody's work.",
            place="--out",
            received=str(target),
            remedy="name another file, or remove that one",
        )
    with explained("make the folder of the tuned config", target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _tune(config: Config, options: Mapping[str, Any], out: Path | None, *, json: bool, quiet: bool) -> None:
    from distkeras.cli.bench_text import tuning_lines
    from distkeras.measurement.result import machine_and_versions
    from distkeras.measurement.tuned import as_mapping, config_file
    from distkeras.measurement.tuning import tune
    from distkeras.observability.atomic_files import write_bytes
    from distkeras.observability.progress import Progress
    from distkeras.runners.record import this_command

    target, where = _tuned_file(out, config.name), machine_and_versions(this_command())
    with Progress(sys.stderr, quiet=quiet) as progress, _ended_by_sigterm():
        tuning = tune(config, progress, **options)
    if tuning.is_faster:
        today = datetime.datetime.now(datetime.UTC).date()
        write_bytes(target, config_file(tuning, today.isoformat()).encode())
    if json:
        print_json({**as_mapping(tuning, where), "out": str(target) if tuning.is_faster else None})
    else:
        print_line("\n".join(tuning_lines(config.name, tuning, target)), stdout())
