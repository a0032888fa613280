"""Records of `tf.train.Example`, whose features nobody has named yet."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from distkeras.config.source_sections import RecordsSource
from distkeras.data.inspection.result import Column, Counts, Inspection, Sample
from distkeras.data.inspection.statistics import frequent, frequent_words, measured
from distkeras.data.reading_check import BadRecord
from distkeras.data.sources.array_record import ArrayRecordFiles
from distkeras.data.sources.image_header import read_image_header
from distkeras.data.sources.tfrecord import TFRecordFiles
from distkeras.errors import DataError

# Records that are parsed, evenly spaced.
NUM_PARSED = 2000
NUM_SAMPLES = 10
SAMPLE_CHARACTERS = 300
_TYPES = {"bytes_list": "bytes", "float_list": "float32", "int64_list": "int64"}


def inspect_records(section: RecordsSource) -> Inspection:
    """Inspects TFRecord or ArrayRecord files: all features of up to 2,000 records, evenly spaced.

    Raises:
        DataError: If there are no such files, or one is torn.
    """
    paths = _find(section)
    files = TFRecordFiles(paths) if section.kind == "tfrecord" else ArrayRecordFiles(paths)
    ids = (
        np.unique(np.linspace(0, files.num_records - 1, NUM_PARSED).astype(np.int64))
        if files.num_records
        else []
    )
    examples: list[tuple[int, dict[str, Any]]] = []
    problems: list[BadRecord] = []
    for record_id, record in zip(ids, files.read_records(np.asarray(ids, np.int64)), strict=True):
        try:
            examples.append((int(record_id), _features(record)))
        except DecodeError:
            problems.append(
                BadRecord(files.locate(int(record_id)), "parse", "the record is no tf.train.Example")
            )
    names = list(dict.fromkeys(name for _, example in examples for name in example))
    found = [example for _, example in examples]
    return Inspection(
        name=str(section.path),
        kind=section.kind,
        num_examples=files.num_records,
        num_bytes=sum(path.stat().st_size for path in paths),
        columns=tuple(_column(section, name, found) for name in sorted(names)),
        classes=_classes(section, found) if len(ids) == files.num_records else None,
        facts={"files": str(len(paths)), "parsed": f"{len(ids):,} records, evenly spaced"},
        problems=tuple(problems),
        samples=tuple(_samples(files, examples)),
    )


def _find(section: RecordsSource) -> list[Path]:
    if section.path.is_file():
        return [section.path]
    pattern = f"*.{section.kind}*"
    paths = sorted(path for path in section.path.glob(pattern) if path.is_file() and path.name[0] != ".")
    if not paths:
        raise DataError(
            f"There are no {pattern} files here.", place=str(section.path), remedy="check the path"
        )
    return paths


def _features(record: bytes) -> dict[str, Any]:
    """Values by the feature's name, each with the name of their type."""
    features = tf.train.Example.FromString(record).features.feature
    kinds = {name: feature.WhichOneof("kind") for name, feature in features.items()}
    return {
        name: (_TYPES[kind], list(getattr(features[name], kind).value))
        for name, kind in kinds.items()
        if kind
    }


def _column(section: RecordsSource, name: str, examples: Sequence[dict[str, Any]]) -> Column:
    present = [example[name] for example in examples if name in example]
    role = "label" if name == section.label else "feature" if name == section.features else "other"
    kind = present[0][0]
    lengths = {len(values) for _, values in present}
    shape = () if lengths == {1} else (lengths.pop() if len(lengths) == 1 else None,)
    missing = len(examples) - len(present)
    flat = [value for _, values in present for value in values]
    if kind != "bytes":
        return Column(name, kind, shape, role, missing, len(set(flat)), measured(value=flat))
    headers = [read_image_header(io.BytesIO(value)) for value in flat[:200]]
    images = [header for header in headers if header]
    if 2 * len(images) > len(headers):
        numbers = measured(height=[one.height for one in images], width=[one.width for one in images])
        formats = {"formats": frequent(one.format for one in images)}
        return Column(name, "image", shape, role, missing, None, numbers, formats)
    texts = [value.decode("utf-8", "replace") for value in flat]
    counts = (
        {"values": frequent(texts)} if len(set(texts)) * 2 < len(texts) else {"words": frequent_words(texts)}
    )
    numbers = measured(characters=[len(text) for text in texts])
    return Column(name, "bytes", shape, role, missing, len(set(texts)), numbers, counts)


def _classes(section: RecordsSource, examples: Sequence[dict[str, Any]]) -> Counts | None:
    present = [example[section.label] for example in examples if section.label in example]
    if not present or any(kind == "float32" or len(values) != 1 for kind, values in present):
        return None
    labels = [
        values[0].decode("utf-8", "replace") if kind == "bytes" else values[0] for kind, values in present
    ]
    counts = dict(frequent(map(str, labels), most=len(labels)))
    return [(str(label), counts[str(label)]) for label in sorted(set(labels))]


def _samples(files: Any, examples: Sequence[tuple[int, dict[str, Any]]]) -> Iterator[Sample]:
    for record_id, example in examples[:NUM_SAMPLES]:
        shown = [f"{name}: {_shown(values)}" for name, (_, values) in example.items()]
        yield Sample(files.locate(record_id), text=", ".join(shown)[:SAMPLE_CHARACTERS])


def _shown(values: Sequence[Any]) -> str:
    if values and isinstance(values[0], bytes):
        header = read_image_header(io.BytesIO(values[0]))
        is_image = header is not None
        return f"{header.format} {header.width} x {header.height}" if is_image else repr(values[0][:60])[1:]
    return ", ".join(f"{value:.5g}" for value in values[:8]) + (", ..." if len(values) > 8 else "")
