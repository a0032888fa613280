"""`distkeras data`: audit, inspect, convert and split the data of a run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from distkeras.cli.audit_text import audit_lines
from distkeras.cli.console import exit_on_error, print_json, print_line, stdout
from distkeras.cli.counting import Counting, announced
from distkeras.cli.inspection_text import inspection_lines
from distkeras.cli.options import ConfigOption, DebugOption, JsonOption, QuietOption, SetOption
from distkeras.cli.tables import aligned

if TYPE_CHECKING:
    from distkeras.config import Config
    from distkeras.data.audit import Audit
    from distkeras.data.inspection.result import Inspection
    from distkeras.data.split_files import WrittenPart
    from distkeras.observability.progress import Progress

data_app = typer.Typer(
    name="data", help="Audit, inspect, convert and split the data of a run.", no_args_is_help=True
)

WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Workers that share an epoch.", show_default="as the config says"),
]
EpochsOption = Annotated[int, typer.Option("--epochs", min=1, help="Epochs to go through.")]
DataArgument = Annotated[
    Path, typer.Argument(metavar="DATA", help="A file or folder of data, or a config with data.source.")
]
LabelOption = Annotated[
    str | None,
    typer.Option("--label", metavar="COLUMN", help="The column to predict; default: `label`, or the last."),
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a contact sheet, an offline HTML page.")
]
DeepOption = Annotated[bool, typer.Option("--deep", help="Read and decode every example, too.")]


class Format(StrEnum):
    """What data is converted to."""

    tfrecord = "tfrecord"
    parquet = "parquet"
    array_record = "array_record"
    memmap = "memmap"


class Part(StrEnum):
    """A part of a run's data, or all of `data.source`."""

    train = "train"
    validation = "validation"
    test = "test"
    all = "all"


ToOption = Annotated[Format, typer.Option("--to", metavar="FORMAT", help=f"{', '.join(Format)}.")]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="A new folder for the result.")]
PartOption = Annotated[Part, typer.Option("--part", metavar="PART", help=f"{', '.join(Part)}.")]
ShardsOption = Annotated[
    int | None,
    typer.Option("--shards", min=1, help="Files of the result.", show_default="of about 128 MiB each"),
]
CopyOption = Annotated[
    bool, typer.Option("--copy", help="Link or copy the files of a folder, too, part by part.")
]


@dataclass(frozen=True)
class _Place:
    """Where a verb speaks while libraries print into a file that nobody needs."""

    stream: TextIO
    progress: Progress
    quiet: bool

    def counting(self, title: str, total: int) -> Counting:
        return Counting(self.stream, title, total, quiet=self.quiet)


@contextmanager
def _place(quiet: bool) -> Generator[_Place]:
    from distkeras.observability.console import owned_console
    from distkeras.observability.logs import rank_log
    from distkeras.observability.progress import Progress

    with ExitStack() as stack:
        log = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="distkeras-")), "data.log")
        stack.enter_context(rank_log(log, 0))
        console = stack.enter_context(owned_console(log))
        stack.enter_context(_without_gpus())
        progress = stack.enter_context(Progress(console.stderr, quiet=quiet))
        yield _Place(console.stderr, progress, quiet)


@contextmanager
def _without_gpus() -> Generator[None]:
    """Hides GPUs: TensorFlow would take all of their memory, from a run that trains on them, for nothing."""
    name = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(name)
    os.environ[name] = "-1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@data_app.command()
def audit(
    config: ConfigOption,
    workers: WorkersOption = None,
    epochs: EpochsOption = 1,
    deep: DeepOption = False,
    overrides: SetOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Prove that each example is read exactly once an epoch.

    Counts what every worker would read, with the arithmetic of the run itself: nothing missing, nothing twice, equal
    steps, and no example in two parts. Exit code 3 where something is off.
    """
    with exit_on_error(debug):
        from distkeras.config import load_config

        loaded = load_config(config, overrides or ())
        with _place(quiet) as place:
            result = _audit(loaded, workers, epochs, deep, place)
        if json:
            print_json(result.as_mapping())
        else:
            print_line("\n".join(audit_lines(result)), stdout())
        result.require_passed()


def _audit(config: Config, workers: int | None, epochs: int, deep: bool, place: _Place) -> Audit:
    from distkeras.data.audit import Audit, audit_evaluation, audit_training, open_for_audit, topology_for
    from distkeras.data.overlaps import num_in_no_part, overlaps, parts_of
    from distkeras.data.reading_check import bad_records

    with announced(place.progress, f"opening the {config.data.source.kind} data"):
        splits = open_for_audit(config, with_bad=deep)
    topology = topology_for(config, workers)
    parts = parts_of(splits)
    total = splits.train.num_examples * (epochs - 1) + sum(part.num_examples for part in parts.values())
    with place.counting("counting", total) as counting:
        counts = {"train": audit_training(config, splits.train, topology, epochs, counting.advance)}
        for name, part in parts.items():
            if name != "train":
                counts[name] = audit_evaluation(config, part, topology, counting.advance)
    with announced(place.progress, "comparing the parts"):
        shared, num_unused = overlaps(splits), num_in_no_part(splits)
    bad = None
    if deep:
        with place.counting("reading", sum(part.num_examples for part in parts.values())) as counting:
            bad = tuple(record for part in parts.values() for record in bad_records(part, counting.advance))
    allowed = config.data.max_bad_records
    return Audit(topology.world_size, epochs, counts, tuple(shared), num_unused, bad, allowed)


@data_app.command()
def inspect(
    data: DataArgument,
    label: LabelOption = None,
    html: HtmlOption = None,
    overrides: SetOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what is in the data: schema, classes, statistics."""
    with exit_on_error(debug):
        from distkeras.errors import ConfigError

        if overrides and not _is_config(data):
            raise ConfigError("--set changes a config; this is data.", place=str(data), remedy="leave it out")
        if label and _is_config(data):
            raise ConfigError(
                "A config names its label itself.",
                place=str(data),
                remedy="use --set data.source.label=COLUMN",
            )
        with _place(quiet) as place, announced(place.progress, f"reading {data}"):
            inspection = _inspect(data, label, overrides)
            if html is not None:
                from distkeras.data.inspection.page import render
                from distkeras.observability.atomic_files import write_bytes

                write_bytes(html, render(inspection).encode())
        if json:
            print_json(inspection.as_mapping() | ({} if html is None else {"html": html}))
            return
        print_line("\n".join(inspection_lines(inspection)), stdout())
        if html is not None:
            print_line(f"contact sheet: {html}", stdout())


def _inspect(data: Path, label: str | None, overrides: list[str] | None) -> Inspection:
    from distkeras.data.inspection import inspect_section, section_for

    if not _is_config(data):
        return inspect_section(section_for(data, label))
    from distkeras.config import load_config

    return inspect_section(load_config(data, overrides or ()).data.source)


def _is_config(path: Path) -> bool:
    return path.suffix in (".yaml", ".yml")


@data_app.command()
def convert(
    config: ConfigOption,
    to: ToOption,
    out: OutOption,
    part: PartOption = Part.all,
    shards: ShardsOption = None,
    overrides: SetOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the data in another format.

    Shard by shard: the same command goes on where it was stopped. Says which data.source reads the result.
    """
    with exit_on_error(debug):
        from distkeras.config import load_config

        loaded = load_config(config, overrides or ())
        with _place(quiet) as place:
            result = _convert(loaded, to, out, part, shards, place)
        if json:
            print_json(result)
        else:
            print_line("\n".join(_converted_lines(result)), stdout())


def _convert(
    config: Config, to: Format, out: Path, part: Part, shards: int | None, place: _Place
) -> dict[str, Any]:
    from distkeras.data.conversion import convert as write
    from distkeras.data.conversion import plan_conversion, verify
    from distkeras.data.conversion.parts import open_part
    from distkeras.data.sizes import size_text

    with announced(place.progress, f"opening the {config.data.source.kind} data"):
        source = open_part(config.data, part.value, to.value)
        conversion = plan_conversion(source, to.value, out, part=part.value, num_shards=shards)
    place.progress.announce(f"about {size_text(conversion.num_bytes)}, shards: {conversion.num_shards}")
    with place.counting(f"converting to {to}", source.num_examples) as counting:
        manifest = write(conversion, counting.advance)
    with announced(place.progress, "comparing checksums"):
        verify(conversion, manifest)
    return {
        "out": out,
        "to": to.value,
        "part": part.value,
        "examples": source.num_examples,
        "shards": manifest.num_shards,
        "bytes": sum(shard.bytes for shard in manifest.shards.values()),
        "source": conversion.section(),
    }


def _converted_lines(result: dict[str, Any]) -> list[str]:
    from distkeras.data.sizes import size_text
    from distkeras.observability.formats import count_text

    shards = "1 shard" if result["shards"] == 1 else f"{result['shards']} shards"
    size = f"{size_text(result['bytes'])} in {shards}"
    head = f"{result['out']}: {count_text(result['examples'])} examples, {size}, checked"
    return [head, "read them with:", *_yaml_lines({"data": {"source": result["source"]}})]


@data_app.command()
def split(
    config: ConfigOption,
    out: OutOption,
    copy: CopyOption = False,
    overrides: SetOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the parts that a run would use.

    Of a table one file a part, with all columns and rows as they are; of a folder a list of its files.
    """
    with exit_on_error(debug):
        from distkeras.config import load_config

        loaded = load_config(config, overrides or ())
        with _place(quiet) as place:
            written = _split(loaded, out, copy, place)
        if json:
            parts = {name: {"path": one.path, "examples": one.num_examples} for name, one in written.items()}
            print_json({"out": out, "parts": parts})
            return
        rows = [(name, f"{one.num_examples:,} examples", str(one.path)) for name, one in written.items()]
        print_line("\n".join(aligned(rows)), stdout())


def _split(config: Config, out: Path, copy: bool, place: _Place) -> dict[str, WrittenPart]:
    from distkeras.data.split_files import check_splittable, write_parts
    from distkeras.data.splits import open_splits

    check_splittable(config.data.source, copy=copy)
    with announced(place.progress, f"opening the {config.data.source.kind} data"):
        splits = open_splits(config.data)
    with announced(place.progress, "writing the parts"):
        return write_parts(config.data.source, splits, out, copy=copy)


def _yaml_lines(value: dict[str, Any]) -> list[str]:
    import yaml

    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).splitlines()
