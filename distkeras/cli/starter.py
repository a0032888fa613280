"""The text of a first config: what `distkeras init` writes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distkeras.cli.starter_page import Draft, listed, page, quoted, source_lines
from distkeras.errors import ConfigError, DataError

if TYPE_CHECKING:
    from distkeras.data.inspection.result import Column, Inspection
    from distkeras.data.recognition import Columns

_SYNTHETIC = {
    "image_classification": "shape: [28, 28, 1], num_classes: 10",
    "tabular_classification": "shape: [16], num_classes: 3",
    "tabular_regression": "shape: [16], num_classes: null",
}
_TABULAR = ("tabular_classification", "tabular_regression")
# A first data set is often a small one: with the default a rest that fills no batch would be left out.
_REST = "  remainder: partial  # the last step of an epoch takes what is left"
_FLIP = "random_flip: horizontal"
_RESIZED = f"  image: {{size: [64, 64], {_FLIP}}}  # height and width in pixels"
_TEXT = "  text: {max_tokens: 10000, sequence_length: 128}  # words that are known; words of a text"

# Of a larger folder of Parquet files the first file is looked at.
MAX_LOOKED_AT_BYTES = 2**30
# Longer sounds are cut: an example must fit into memory many times.
MAX_SECONDS = 10.0
LEAST_FRAME = 256
MEL_BINS = 40
MAX_UNSIZED_PIXELS = 128


@dataclass(frozen=True)
class Starter:
    """A first config.

    Attributes:
        name: Its file's stem, which becomes the run's name.
        text: Its YAML.
    """

    name: str
    text: str


def starter_config(data: Path | None, task: str | None, label: str | None) -> Starter:
    """Returns a config for some data, or for synthetic examples where there is none yet.

    Args:
        data: A file or folder; None: synthetic examples.
        task: What the model is for; None: what the data looks like.
        label: The column to predict; None: `label`, or the table's last.

    Raises:
        ConfigError: If a label is named for data without columns, or the task is none for this data.
        DataError: If nothing can be read at the path, or nothing can be learnt from it.
    """
    if data is None:
        draft = _synthetic(task or "image_classification")
        return Starter(draft.task, page(draft))
    draft = _from_data(data, task, label)
    return Starter(_run_name(data), page(replace(draft, input=[_REST, *draft.input])))


def _synthetic(task: str) -> Draft:
    if task not in _SYNTHETIC:
        raise ConfigError(
            f"There are no synthetic examples for {task}.",
            place="--task",
            remedy=f"give your own with --data, or choose one of: {', '.join(_SYNTHETIC)}",
        )
    source = [
        "  # Random examples that can be learned; put your own in place: distkeras init --data PATH",
        f"  source: {{kind: synthetic, num_examples: 2000, {_SYNTHETIC[task]}}}",
    ]
    return Draft(task, source, ["  normalize: none"])


def _from_data(data: Path, task: str | None, label: str | None) -> Draft:
    from distkeras.data.recognition import recognise

    kind = recognise(data)
    if data.is_file() and not data.stat().st_size:
        raise DataError("The file is empty.", place=str(data), remedy="give a file with examples")
    if label is not None and kind not in ("csv", "excel", "parquet", "jsonl", "tfrecord", "array_record"):
        raise ConfigError(
            f"--label names a column of a table; this is {kind}.", received=label, remedy="leave it out"
        )
    match kind:
        case "csv" | "excel" | "parquet" if task == "time_series_forecasting":
            return _time_series(data, label)
        case "csv" | "excel" | "parquet":
            return _table(data, kind, task, label)
        case "jsonl":
            return _json_lines(data, task, label)
        case "tfrecord" | "array_record":
            return _records(data, kind, task, label)
        case "arrays":
            return _arrays(data, task)
        case "text_folder":
            return _texts(data, task)
        case "audio_folder":
            return _sounds(data, task)
        case "image_folder" | "tfds":
            return _images(data, kind, task)


def _table(data: Path, kind: str, task: str | None, label: str | None) -> Draft:
    from distkeras.data.recognition import judge_columns

    section, table = _inspected(data, label)
    columns = judge_columns(table)
    source = source_lines(data, kind, f"label: {quoted(columns.label)}  # the column to predict")
    if kind == "csv" and section.delimiter != ",":
        source.append(f"    delimiter: {quoted(section.delimiter)}")
    if columns.left_out:
        reasons = [f"{quoted(name)} ({reason})" for name, reason in columns.left_out.items()]
        source.append(f"    # Left out: {listed(reasons)}")
        source.append(f"    features: [{', '.join(map(quoted, columns.features))}]")
    return Draft(_chosen(task, [columns.task, *_TABULAR]), source, list(_tabular(columns)))


def _tabular(columns: Columns) -> Iterable[str]:
    """What turns the columns into numbers of about one size; only text and gaps need `data.tabular`."""
    if not columns.categories and not columns.gaps:
        yield "  normalize: standard"
        return
    keys: list[str] = []
    if columns.gaps:
        yield f"  # Empty cells get the median of their column: {listed(map(quoted, columns.gaps))}"
        keys.append("impute: median")
    keys.append("normalize: standard")
    if columns.categories:
        yield f"  # Text, one column of 0 and 1 for each value: {listed(map(quoted, columns.categories))}"
        keys.append("encode: one_hot")
    yield f"  tabular: {{{', '.join(keys)}}}"


def _time_series(data: Path, label: str | None) -> Draft:
    section, table = _inspected(data, label)
    numbers = [column.name for column in table.columns if "value" in column.numbers]
    target = section.label if label or section.label in numbers else next(reversed(numbers), None)
    if target not in numbers:
        raise DataError(
            "The table has no column of numbers to forecast."
            if label is None
            else f"Column {label!r} is not numbers, which is what is forecast.",
            place=table.name,
            remedy=f"name one with --label: {listed(numbers)}" if numbers else "give a table with numbers",
        )
    times = [column.name for column in table.columns if column.type.startswith(("date", "timestamp"))]
    source = source_lines(data, "time_series", f"target: {quoted(target)}  # the column to forecast")
    source += [f"    time: {quoted(name)}  # must never fall" for name in times[:1]]
    source += ["    window: 24  # rows that are shown", "    horizon: 1  # rows that are forecast"]
    if getattr(section, "delimiter", ",") != ",":
        source.append(f"    delimiter: {quoted(section.delimiter)}")
    return Draft("time_series_forecasting", source, ["  normalize: standard"])


def _json_lines(data: Path, task: str | None, label: str | None) -> Draft:
    from distkeras.data.recognition import judge_members, names_classes

    _, table = _inspected(data, label)
    features, named = judge_members(table, label)
    source = source_lines(data, "jsonl", f"features: {quoted(features.name)}", f"label: {quoted(named.name)}")
    if features.type == "text":
        return Draft(_chosen(task, ["text_classification"]), source, [_TEXT])
    return _numbers(task, source, names_classes(named, "jsonl"))


def _records(data: Path, kind: Any, task: str | None, label: str | None) -> Draft:
    from distkeras.config.source_sections import RecordsSource
    from distkeras.data.inspection.records import inspect_records
    from distkeras.data.recognition import judge_members, names_classes

    table = inspect_records(RecordsSource(kind=kind, path=data, label=label or "label"))
    features, named = judge_members(table, label)
    shape = _converted_shape(data)
    source = source_lines(data, kind, f"features: {quoted(features.name)}", f"label: {quoted(named.name)}")
    if features.type == "image":
        source += ["    channels: 1"] if shape[2:] == [1] else []
        return _images_of(_chosen(task, ["image_classification"]), source, _is_small(features))
    if features.type == "bytes":
        return Draft(_chosen(task, ["text_classification"]), source, [_TEXT])
    if len(shape) > 1 and None not in shape:
        source.append(f"    shape: {shape}")
    if len(shape) == 3:
        return Draft(_chosen(task, ["image_classification"]), source, ["  normalize: standard"])
    return _numbers(task, source, names_classes(named, kind))


def _converted_shape(data: Path) -> list[int | None]:
    """The shape of an example, which `distkeras data convert` notes beside records; [] where nobody did."""
    from distkeras.data.conversion.manifest import FILE_NAME
    from distkeras.observability.atomic_files import read_json

    path = (data if data.is_dir() else data.parent) / FILE_NAME
    return list(read_json(path).get("identity", {}).get("shape", [])) if path.is_file() else []


def _is_small(image: Column) -> bool:
    """Whether all images have one size, which is small enough to be trained on as it is."""
    height, width = image.numbers["height"], image.numbers["width"]
    is_one_size = height.min == height.max and width.min == width.max
    return is_one_size and max(height.max, width.max) <= MAX_UNSIZED_PIXELS


def _arrays(data: Path, task: str | None) -> Draft:
    from distkeras.data.recognition import inspect_arrays

    found = inspect_arrays(data)
    names = f"features: {quoted(found.features)}", f"label: {quoted(found.label)}"
    source = source_lines(data, "arrays", *names)
    return Draft(_chosen(task, [found.task, *_SYNTHETIC]), source, ["  normalize: standard"])


def _images(data: Path, kind: str, task: str | None) -> Draft:
    if kind == "image_folder":
        _require_classes(data, "images")
    return _images_of(_chosen(task, ["image_classification"]), source_lines(data, kind), is_small=False)


def _images_of(task: str, source: Sequence[str], is_small: bool) -> Draft:
    # Of small images the mean costs little, and not all of them use the whole range of a byte.
    if is_small:
        return Draft(task, source, ["  normalize: standard", f"  image: {{{_FLIP}}}"])
    return Draft(task, source, ["  normalize: unit", _RESIZED])


def _texts(data: Path, task: str | None) -> Draft:
    _require_classes(data, "texts")
    return Draft(_chosen(task, ["text_classification"]), source_lines(data, "text_folder"), [_TEXT])


def _sounds(data: Path, task: str | None) -> Draft:
    from distkeras.config.source_sections import AudioFolderSource
    from distkeras.data.inspection.folders import inspect_folder

    _require_classes(data, "sounds")
    found = inspect_folder(AudioFolderSource(kind="audio_folder", path=data))
    if not found.num_examples:
        raise DataError(
            "No sound can be read.",
            place=f"{data}: {found.problems[0].place}",
            received=found.problems[0].reason,
            remedy="give 16-bit WAV files, for example by: ffmpeg -i IN -c:a pcm_s16le OUT.wav",
        )
    sound = found.columns[0]
    rate = int(sound.counts["samples a second"][0][0])
    seconds = min(round(sound.numbers["seconds"].max, 4) or 1 / rate, MAX_SECONDS)
    # 25 ms, as is usual for speech; of slow samples more, or the bands could not be told apart.
    frame = min(max(round(0.025 * rate), LEAST_FRAME), round(seconds * rate))
    source = source_lines(
        data,
        "audio_folder",
        f"sample_rate: {rate}  # samples a second, which all files must have",
        f"seconds: {seconds:g}  # longer sounds are cut, shorter ones filled with silence",
    )
    step = max(1, min(round(0.01 * rate), frame // 2))
    picture = f"  spectrogram: {{frame_length: {frame}, frame_step: {step}, mel_bins: {MEL_BINS}}}"
    return Draft(_chosen(task, ["audio_classification"]), source, [picture, "  normalize: standard"])


def _numbers(task: str | None, source: Sequence[str], is_classification: bool) -> Draft:
    fitting = _TABULAR if is_classification else _TABULAR[::-1]
    return Draft(_chosen(task, fitting), source, ["  normalize: standard"])


def _inspected(data: Path, label: str | None) -> tuple[Any, Inspection]:
    """The section of a table, its label included, and what is in it."""
    from distkeras.data.inspection import inspect_section, section_for
    from distkeras.data.sources.columns import choose_features
    from distkeras.data.split_columns import column_names

    section = section_for(_looked_at(data), label)
    if section.kind == "csv":
        # Of two columns of one name an inspection could not tell which is meant; the other kinds say so themselves.
        choose_features(column_names(section), None, None, str(data))
    table = inspect_section(section)
    if table.problems:
        raise DataError(
            "A row cannot be read.",
            place=table.problems[0].place,
            received=table.problems[0].reason,
            remedy="correct the row; a field that contains the delimiter must stand in double quotes",
        )
    return section, table


def _looked_at(data: Path) -> Path:
    files = sorted(data.glob("*.parquet")) if data.is_dir() else []
    num_bytes = sum(file.stat().st_size for file in files)
    return files[0] if num_bytes > MAX_LOOKED_AT_BYTES else data


def _require_classes(data: Path, content: str) -> None:
    from distkeras.data.sources.class_folders import find_classes

    find_classes(data, content)


def _chosen(task: str | None, fitting: Sequence[str]) -> str:
    """The task that was asked for, where the data is for it; the likeliest where none was."""
    if task is not None and task not in fitting:
        raise ConfigError(
            f"This data is for {' or '.join(dict.fromkeys(fitting))}.",
            place="--task",
            received=task,
            remedy="leave --task out, or give other data",
        )
    return task or fitting[0]


def _run_name(data: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", data.resolve().stem).strip("._-")
    return name[:100] or "first"
