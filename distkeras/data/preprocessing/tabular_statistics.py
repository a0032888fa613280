"""Statistics of a table's training part: fills, limits, scales, categories, and which features tell of the label.

Where scikit-learn has a transformer for it, the numbers are that transformer's.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from distkeras.config.transform_sections import TabularSection
from distkeras.data.lazy_tensorflow import tf
from distkeras.data.preprocessing.tabular_layers import CategoryColumn, Learnt, NumberColumns, category_texts
from distkeras.data.recognition import MOST_CLASSES
from distkeras.errors import DataError, MissingDependencyError

# A category's mean label counts its own examples and this many times the mean of all: rare ones say little.
TARGET_SMOOTHING = 10.0
MAX_QUANTILES = 1000
# Mutual information takes its time; more rows would hardly change which features are best.
MAX_SELECTION_ROWS = 20_000

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Columns = Mapping[str, np.ndarray]


def number_matrix(features: Columns, names: Sequence[str]) -> FloatArray:
    """Returns columns of numbers, float64, shape (num_examples, num_columns), NaN where cells are empty."""
    num_examples = len(next(iter(features.values())))
    matrix = np.empty((num_examples, len(names)))
    for position, name in enumerate(names):
        matrix[:, position] = features[name]
    return matrix


def are_classes(labels: np.ndarray, class_names: Sequence[str] | None) -> bool:
    """Whether labels are classes: they have names, or are whole numbers of which there are few."""
    if class_names is not None or labels.dtype.kind not in "iu":
        return class_names is not None
    return len(np.unique(labels)) <= MOST_CLASSES


def are_inside(numbers: NumberColumns, features: Columns) -> BoolArray:
    """Whether examples are without outliers, shape (num_examples,); an empty cell is none."""
    values = number_matrix(features, numbers.names)
    outside = (values < np.array(numbers.low)) | (values > np.array(numbers.high))
    return np.logical_not(outside.any(axis=1))


def learn_limits(
    section: TabularSection, names: tuple[str, ...], values: FloatArray, place: str
) -> NumberColumns:
    """Learns what fills empty cells, and between which limits numbers are no outliers; they are not scaled yet.

    Args:
        section: What is to be done.
        names: The columns of numbers.
        values: Their numbers, NaN where cells are empty, shape (num_examples, num_columns).
        place: The source's name, for errors.

    Raises:
        DataError: If a column has no number to fill empty cells with.
    """
    seen = [column[~np.isnan(column)] for column in values.T]
    has_empty = [len(column) < len(values) for column in seen]
    for name, column in zip(names, seen, strict=True):
        if not column.size and section.impute != "constant":
            raise DataError(
                f"Column {name!r} is empty in the whole training part.",
                place=place,
                remedy="leave it out with data.source.features, or set data.tabular.impute: constant",
            )
    limits = [_limits(section, column) for column in seen]
    indicated = [name for name, empty in zip(names, has_empty, strict=True) if empty]
    return NumberColumns(
        names=names,
        fill=None if section.impute == "none" else tuple(_fill(section.impute, column) for column in seen),
        indicated=tuple(indicated) if section.indicate_missing else (),
        low=tuple(low for low, _ in limits),
        high=tuple(high for _, high in limits),
        clips=section.outliers == "clip",
        offset=(0.0,) * len(names),
        scale=(1.0,) * len(names),
        quantiles=None,
    )


def learn_scale(section: TabularSection, numbers: NumberColumns, features: Columns) -> NumberColumns:
    """Learns the scale of clean numbers: scikit-learn's StandardScaler, MinMaxScaler or QuantileTransformer."""
    if section.normalize == "none" or not numbers.names:
        return numbers
    values: FloatArray = numbers.clean(tf.constant(number_matrix(features, numbers.names))).numpy()
    if section.normalize == "quantile":
        ranks = np.linspace(0, 1, min(MAX_QUANTILES, len(values))) * 100
        # Interpolation may leave neighbours in the wrong order by a rounding error.
        quantiles = np.maximum.accumulate(np.percentile(values, ranks, axis=0))
        return replace(numbers, quantiles=tuple(map(tuple, quantiles.T.tolist())))
    low, high = values.min(axis=0), values.max(axis=0)
    if section.normalize == "min_max":
        offset, scale = low, high - low
    else:
        offset, scale = values.mean(axis=0), values.std(axis=0)
    scale = np.where(low == high, 1.0, scale)
    return replace(numbers, offset=tuple(offset.tolist()), scale=tuple(scale.tolist()))


def learn_categories(
    section: TabularSection, name: str, values: np.ndarray, labels: np.ndarray
) -> CategoryColumn:
    """Learns the categories of a column, the most frequent first, and what they become.

    Args:
        section: What is to be done.
        name: The column.
        values: Texts, or float32 with NaN where cells are empty; shape (num_examples,).
        labels: Shape (num_examples,).
    """
    is_text = values.dtype.kind != "f"
    texts = pa.array(category_texts(tf.convert_to_tensor(values)).numpy(), pa.binary()).cast(pa.string())
    counts = [(entry["values"], entry["counts"]) for entry in pc.value_counts(texts).to_pylist()]
    ranked = [category for category, _ in sorted(counts, key=lambda entry: (-entry[1], entry[0]))]
    categories = tuple(ranked[: section.max_categories])
    indices = pc.fill_null(pc.index_in(texts, pa.array(categories)), -1).to_numpy() + 1
    return CategoryColumn(
        name=name,
        dtype="string" if is_text else "float32",
        encode=section.encode,
        categories=categories,
        has_other=len(ranked) > len(categories),
        means=_means(indices, len(categories), labels) if section.encode == "target" else None,
    )


def select_features(
    num: int, learnt: Learnt, features: np.ndarray, labels: np.ndarray, *, is_classification: bool
) -> tuple[int, ...]:
    """Returns the positions of the features with most mutual information with the label, ascending.

    Args:
        num: How many.
        learnt: What the features are.
        features: float32, shape (num_examples, num_features).
        labels: Shape (num_examples,).
        is_classification: Whether they are classes.

    Raises:
        MissingDependencyError: If scikit-learn is not installed.
    """
    if len(features) > MAX_SELECTION_ROWS:
        rows = np.random.default_rng(0).choice(len(features), MAX_SELECTION_ROWS, replace=False)
        features, labels = features[rows], labels[rows]
    # Numbers, and mean labels, are quantities; all others are one of few values.
    is_discrete = [False] * len(learnt.numbers.names) + [True] * len(learnt.numbers.indicated)
    for column in learnt.categories:
        is_discrete += [column.encode != "target"] * len(column.feature_names)
    module = _sklearn_selection()
    information = module.mutual_info_classif if is_classification else module.mutual_info_regression
    scores = information(features, labels, discrete_features=np.array(is_discrete), random_state=0)
    best = np.argsort(-scores, kind="stable")[:num]
    return tuple(np.sort(best).tolist())


def _fill(impute: str, seen: FloatArray) -> float:
    match impute:
        case "mean":
            return float(seen.mean())
        case "median":
            return float(np.median(seen))
        case "most_frequent":
            numbers, counts = np.unique(seen, return_counts=True)
            return float(numbers[np.argmax(counts)])
        case _:
            return 0.0


def _limits(section: TabularSection, seen: FloatArray) -> tuple[float, float]:
    if section.outliers != "none" and seen.size:
        lower, upper = np.percentile(seen, [25, 75]).tolist()
        # Where most of a column is one number, any other would be an outlier, and nothing left to learn from.
        if upper > lower:
            reach = section.outlier_factor * (upper - lower)
            return lower - reach, upper + reach
    return -sys.float_info.max, sys.float_info.max


def _means(indices: np.ndarray, num_categories: int, labels: np.ndarray) -> tuple[float, ...]:
    """Returns the mean label of no category, then of each, smoothed towards the mean of all."""
    counts = np.bincount(indices, minlength=num_categories + 1)
    sums = np.bincount(indices, weights=labels, minlength=num_categories + 1)
    mean = float(np.mean(labels, dtype=np.float64))
    return tuple(((sums + TARGET_SMOOTHING * mean) / (counts + TARGET_SMOOTHING)).tolist())


def _sklearn_selection() -> Any:
    try:
        from sklearn import feature_selection
    except ImportError as error:
        raise MissingDependencyError("scikit-learn", "tabular") from error
    return feature_selection
