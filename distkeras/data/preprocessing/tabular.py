"""What `data.tabular` does to the columns of a table, learnt once from the training part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import numpy as np

from distkeras.config.transform_sections import TabularSection
from distkeras.data.lazy_tensorflow import tf
from distkeras.data.preprocessing.base import Preprocessing
from distkeras.data.preprocessing.tabular_layers import Learnt, TabularFeatures
from distkeras.data.preprocessing.tabular_statistics import (
    are_classes,
    are_inside,
    learn_categories,
    learn_limits,
    learn_scale,
    number_matrix,
    select_features,
)
from distkeras.data.sources.base import Source
from distkeras.errors import ConfigError, DataError


class TabularPreprocessing(Preprocessing):
    """Raw columns as one vector of features, float32.

    Args:
        learnt: What was learnt from the training part.
        drops_examples: Whether training examples with outliers are left out.
    """

    feature_dtype = "float32"

    def __init__(self, learnt: Learnt, *, drops_examples: bool) -> None:
        self.feature_names = learnt.feature_names
        self.feature_shape = (len(learnt.feature_names),)
        self.drops_examples = drops_examples
        self._learnt = learnt
        self._layer = self.as_layer()

    def __call__(self, features: Mapping[str, Any]) -> tf.Tensor:
        """Returns the features that the model gets, shape (batch, num_features).

        Args:
            features: Numbers, NaN where cells are empty, or texts, shape (batch,), by the column's name.
        """
        if tf.inside_function():
            return self._layer.call(features)
        with tf.device("CPU:0"):
            types = self._learnt.types.items()
            return self._graph({name: tf.convert_to_tensor(features[name], dtype) for name, dtype in types})

    @cached_property
    def _graph(self) -> Any:
        # Eagerly, Keras's lookups would answer in arrays of its own backend.
        specs = {name: tf.TensorSpec([None], dtype) for name, dtype in self._learnt.types.items()}
        return tf.function(self._layer.call, input_signature=[specs]).get_concrete_function()

    def state(self) -> dict[str, Any]:
        return self._learnt.state() | {"drops_examples": self.drops_examples}

    def keep(self, features: Mapping[str, np.ndarray]) -> np.ndarray | None:
        if not self.drops_examples:
            return None
        return are_inside(self._learnt.numbers, features)

    def check(self, source: Source) -> None:
        """Refuses a source, other than the one learnt from, with empty cells that nothing fills.

        Raises:
            DataError: If there are any; it names the first column that has one, and the row.
        """
        if self._learnt.numbers.fill is None and self._learnt.numbers.names:
            _refuse_empty(source, _all_features(source), self._learnt.numbers.names)

    def as_layer(self) -> TabularFeatures:
        """Returns a new layer that does the same, as part of a model of raw columns."""
        return TabularFeatures(self._learnt.state())


def learn_tabular(section: TabularSection, source: Source) -> TabularPreprocessing:
    """Learns from the training part what its columns become.

    In this order: empty cells, outliers, scale, categories, selection; each sees what those before it made. Labels
    that are whole numbers are taken as classes where there are few of them.

    Args:
        section: What is to be done.
        source: The training part, of raw columns.

    Raises:
        ConfigError: If the source has no raw columns, or not those that the section names.
        DataError: If cells are empty and nothing fills them, no row is left, or the labels do not allow
            `encode: target`.
        MissingDependencyError: If columns are to be selected and scikit-learn is not installed.
    """
    types = _raw_types(source)
    _check_names(section, tuple(types))
    features, labels = _all_features(source), source.labels()
    categorical = [name for name, kind in types.items() if kind == "string" or name in section.categorical]
    names = tuple(name for name in types if name not in categorical)
    if section.impute == "none":
        _refuse_empty(source, features, names)
    if section.encode == "target" and categorical:
        _check_target(source, labels)
    numbers = learn_limits(section, names, number_matrix(features, names), source.name)
    if section.outliers == "drop":
        kept = are_inside(numbers, features)
        if not kept.any():
            raise DataError(
                "Every training example has an outlier.",
                place=source.name,
                remedy="set data.tabular.outliers: clip, or a larger data.tabular.outlier_factor",
            )
        features, labels = {name: column[kept] for name, column in features.items()}, labels[kept]
    numbers = learn_scale(section, numbers, features)
    categories = tuple(learn_categories(section, name, features[name], labels) for name in categorical)
    learnt = Learnt(numbers, categories, None)
    preprocessing = TabularPreprocessing(learnt, drops_examples=section.outliers == "drop")
    if section.select is None or section.select >= len(learnt.all_names):
        return preprocessing
    selected = select_features(
        section.select,
        learnt,
        preprocessing(features).numpy(),
        labels,
        is_classification=are_classes(labels, source.class_names),
    )
    return TabularPreprocessing(
        replace(learnt, selected=selected), drops_examples=preprocessing.drops_examples
    )


def restore_tabular(state: Mapping[str, Any]) -> TabularPreprocessing:
    """Returns what was learnt once, from what `TabularPreprocessing.state` returned."""
    learnt = {name: value for name, value in state.items() if name != "drops_examples"}
    return TabularPreprocessing(Learnt.from_state(learnt), drops_examples=state["drops_examples"])


def _raw_types(source: Source) -> Mapping[str, str]:
    types, shapes = source.feature_dtype, source.feature_shape
    is_scalar = isinstance(shapes, Mapping) and all(shape == () for shape in shapes.values())
    if isinstance(types, Mapping) and is_scalar and {"float32", "string"}.issuperset(types.values()):
        return types
    raise ConfigError(
        "data.tabular changes the columns of a table, and this source has none.",
        place=source.name,
        remedy="leave data.tabular out, or store the examples as CSV, Excel or Parquet",
    )


def _all_features(source: Source) -> Mapping[str, np.ndarray]:
    return source.read_arrays(np.arange(source.num_examples))[0]


def _check_target(source: Source, labels: np.ndarray) -> None:
    if are_classes(labels, source.class_names) and len(np.unique(labels)) > 2:
        raise DataError(
            "A category cannot become its mean label where there are more than two classes.",
            place=source.name,
            received=list(source.class_names or np.unique(labels).tolist()),
            remedy="set data.tabular.encode: one_hot or index",
        )


def _check_names(section: TabularSection, names: tuple[str, ...]) -> None:
    for name in section.categorical:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            raise ConfigError(
                f"There is no feature column {name!r}.",
                place="data.tabular.categorical",
                remedy=f"did you mean {near[0]!r}?" if near else f"name some of: {', '.join(names[:20])}",
            )


def _refuse_empty(source: Source, features: Mapping[str, np.ndarray], names: tuple[str, ...]) -> None:
    for name in names:
        empty = np.flatnonzero(np.isnan(features[name]))
        if empty.size:
            cells = "empty cells" if empty.size > 1 else "empty cell"
            raise DataError(
                f"Column {name!r} has {empty.size:,} {cells}, and nothing fills them.",
                place=f"{source.locate(int(empty[0]))}, column {name!r}",
                remedy="set data.tabular.impute, or fill or remove these rows",
            )
