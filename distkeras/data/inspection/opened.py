"""What any open source tells of itself: all labels, and the features of some examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from distkeras.data.inspection.pictures import thumbnails_of_arrays
from distkeras.data.inspection.result import Column, Counts, Inspection, Sample
from distkeras.data.inspection.statistics import frequent_words, measured
from distkeras.data.sources.base import Source
from distkeras.errors import DataError

NUM_READ = 500
NUM_SAMPLES = 60
SAMPLE_CHARACTERS = 300
MOST_CLASSES = 1000


def inspect_source(source: Source, kind: str) -> Inspection:
    """Inspects an open source; of features it looks at 500 examples, evenly spaced.

    Args:
        source: The source.
        kind: The kind of its section.
    """
    ids = np.unique(np.linspace(0, source.num_examples - 1, NUM_READ).astype(np.int64))
    labels = source.labels()
    inputs = _inputs(source, ids)
    sizes = source.bytes_of(np.arange(source.num_examples))
    columns = [_feature(source, name, values) for name, values in inputs.items()]
    return Inspection(
        name=source.name,
        kind=kind,
        num_examples=source.num_examples,
        num_bytes=None if sizes is None else int(sizes.sum()),
        columns=(*columns, label_column(labels)),
        classes=class_balance(labels, source.class_names),
        facts={"looked at": f"features of {len(ids):,} examples, evenly spaced"},
        samples=tuple(_samples(source, ids, next(iter(inputs.values())), labels)),
    )


def label_column(labels: np.ndarray, name: str = "label") -> Column:
    """Returns what there is to say of labels, shape (num_examples, ...)."""
    numbers = measured(value=labels)
    num_distinct = len(np.unique(labels)) if labels.ndim == 1 else None
    return Column(
        name, str(labels.dtype), labels.shape[1:], "label", num_distinct=num_distinct, numbers=numbers
    )


def class_balance(labels: np.ndarray, class_names: Sequence[str] | None) -> Counts | None:
    """Returns how many examples each class has; None: labels are no classes."""
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        return None
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) > MOST_CLASSES:
        return None
    found = dict(zip(classes.tolist(), counts.tolist(), strict=True))
    if class_names is None:
        return [(str(label), count) for label, count in found.items()]
    return [(name, found.get(label, 0)) for label, name in enumerate(class_names)]


def _inputs(source: Source, ids: np.ndarray) -> dict[str, Any]:
    """Features of some examples by the input's name: arrays, or lists where examples differ in shape."""
    if source.granularity == "batch":
        features: Any = source.read_arrays(ids)[0]
    else:
        features = [source.read_arrays(ids[place : place + 1])[0] for place in range(len(ids))]
        features = [one[0] for one in features if not isinstance(one, Mapping)]
        if not features:
            raise DataError("Several inputs of different shapes cannot be inspected.", place=source.name)
    if isinstance(features, Mapping):
        return {str(name): values for name, values in features.items()}
    if isinstance(features, tuple):
        return {f"input {place}": values for place, values in enumerate(features)}
    names = source.feature_names
    if names and isinstance(features, np.ndarray) and features.ndim == 2 and features.shape[1] == len(names):
        return {name: features[:, place] for place, name in enumerate(names)}
    return {"features": features}


def _feature(source: Source, name: str, values: Any) -> Column:
    first = np.asarray(values[0])
    if first.dtype.kind in "OSU":
        texts = [_text(value) for value in values]
        words = {"words": frequent_words(texts)}
        return Column(name, "text", numbers=measured(characters=[len(text) for text in texts]), counts=words)
    shape: Any = source.feature_shape if name == "features" else first.shape
    numbers = {"value": np.concatenate([np.asarray(value).ravel() for value in values])}
    if len(first.shape) == 3:
        numbers |= {"height": [len(one) for one in values], "width": [one.shape[1] for one in values]}
    missing = int(np.isnan(numbers["value"]).sum()) if first.dtype.kind == "f" else 0
    return Column(name, str(first.dtype), tuple(shape), num_missing=missing, numbers=measured(**numbers))


def _samples(source: Source, ids: np.ndarray, values: Any, labels: np.ndarray) -> list[Sample]:
    names = source.class_names
    places = np.unique(np.linspace(0, len(ids) - 1, NUM_SAMPLES).astype(np.int64)).tolist()
    pictures = thumbnails_of_arrays([np.asarray(values[place]) for place in places])
    samples: list[Sample] = []
    for place, picture in zip(places, pictures, strict=True):
        label = labels[ids[place]]
        is_class = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
        class_name = (names[label] if names else str(label)) if is_class else None
        text = None if picture else _text(values[place])[:SAMPLE_CHARACTERS]
        samples.append(Sample(source.locate(int(ids[place])), class_name, picture, text))
    return sorted(samples, key=lambda sample: sample.class_name or "")


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)
