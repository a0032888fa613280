"""NumPy arrays as they are stored, whichever of them a run would read."""

from __future__ import annotations

import numpy as np

from distkeras.config.source_sections import ArraysSource
from distkeras.data.inspection.opened import class_balance, label_column
from distkeras.data.inspection.pictures import thumbnails_of_arrays
from distkeras.data.inspection.result import Column, Inspection, Sample
from distkeras.data.inspection.statistics import measured
from distkeras.data.recognition import read_arrays

# Of a larger array some blocks are looked at, evenly spaced.
MAX_BYTES = 2**28
NUM_BLOCKS = 64
NUM_SAMPLES = 60


def inspect_arrays(section: ArraysSource) -> Inspection:
    """Inspects a `.npz` file or a folder of `.npy` files.

    Args:
        section: Where the arrays are, and which of them are features and labels.

    Raises:
        DataError: If they cannot be read.
    """
    arrays = read_arrays(section.path)
    label, features = arrays.get(section.label), arrays.get(section.features)
    columns = [_column(section, name, array) for name, array in arrays.items()]
    sampled = [name for name, array in arrays.items() if array.nbytes > MAX_BYTES]
    facts = {"looked at": f"some blocks of {', '.join(sampled)}"} if sampled else {}
    return Inspection(
        name=str(section.path),
        kind="arrays",
        num_examples=max((len(array) for array in arrays.values() if array.ndim), default=0),
        num_bytes=sum(array.nbytes for array in arrays.values()),
        columns=tuple(columns),
        classes=None if label is None else class_balance(np.asarray(label), None),
        facts=facts,
        samples=() if features is None else tuple(_samples(section, features, label)),
    )


def _column(section: ArraysSource, name: str, array: np.ndarray) -> Column:
    values = _looked_at(array)
    if name == section.label:
        return label_column(values, name)
    if array.dtype.kind not in "biuf":
        return Column(name, str(array.dtype), array.shape[1:], "other")
    missing = int(np.isnan(values).sum()) if array.dtype.kind == "f" else 0
    role = "feature" if name == section.features else "other"
    return Column(name, str(array.dtype), array.shape[1:], role, missing, numbers=measured(value=values))


def _looked_at(array: np.ndarray) -> np.ndarray:
    if array.nbytes <= MAX_BYTES:
        return np.asarray(array)
    rows = max(1, MAX_BYTES // NUM_BLOCKS // (array.nbytes // len(array)))
    starts = np.linspace(0, len(array) - rows, NUM_BLOCKS).astype(np.int64).tolist()
    return np.concatenate([array[start : start + rows] for start in starts])


def _samples(section: ArraysSource, features: np.ndarray, label: np.ndarray | None) -> list[Sample]:
    ids = np.unique(np.linspace(0, len(features) - 1, NUM_SAMPLES).astype(np.int64)).tolist()
    rows = [np.asarray(features[row]) for row in ids]
    samples: list[Sample] = []
    for row, values, picture in zip(ids, rows, thumbnails_of_arrays(rows), strict=True):
        is_known = label is not None and label.ndim == 1 and label.dtype.kind in "iu" and row < len(label)
        class_name = str(label[row]) if label is not None and is_known else None
        text = None if picture else np.array2string(values, precision=4, threshold=20)
        samples.append(Sample(f"{section.path.name} record {row}", class_name, picture, text))
    return sorted(samples, key=lambda sample: sample.class_name or "")
