"""From the columns of a table to one vector of features, as a Keras layer: what was learnt is its config.

It computes with TensorFlow, whatever Keras computes with: only TensorFlow knows text. Statistics are doubles, so that
a large number keeps the digits by which it differs from the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import keras
import numpy as np

from distkeras.data.lazy_tensorflow import tf
from distkeras.data.sources.columns import RawType

# Keras wants a word for what is unknown, and refuses categories of that name: U+FFFF is no character.
_UNKNOWN = "\uffff"


@dataclass(frozen=True)
class NumberColumns:
    """What was learnt of columns of numbers; every list has a value for each of them.

    Attributes:
        names: Their names.
        fill: What empty cells become; None: they stay NaN.
        indicated: Names of those that get a column which says where cells were empty.
        low: Smallest number that is no outlier.
        high: Largest number that is no outlier.
        clips: Whether outliers are moved to these limits.
        offset: What is subtracted.
        scale: What is then divided by.
        quantiles: Numbers at equal distances in rank, for each column, which turn a number into its rank in [0, 1];
            None: by offset and scale.
    """

    names: tuple[str, ...]
    fill: tuple[float, ...] | None
    indicated: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    clips: bool
    offset: tuple[float, ...]
    scale: tuple[float, ...]
    quantiles: tuple[tuple[float, ...], ...] | None

    def clean(self, values: tf.Tensor) -> tf.Tensor:
        """Returns numbers without empty cells and outliers, float64.

        Args:
            values: Shape (batch, num_columns).
        """
        values = tf.cast(values, tf.float64)
        if self.fill is not None:
            values = tf.where(tf.math.is_nan(values), tf.constant(self.fill, tf.float64), values)
        if self.clips:
            low, high = tf.constant(self.low, tf.float64), tf.constant(self.high, tf.float64)
            values = tf.minimum(tf.maximum(values, low), high)
        return values

    def normalize(self, values: tf.Tensor) -> tf.Tensor:
        """Returns clean numbers on a scale that a model likes, float64, of the same shape."""
        if self.quantiles is not None:
            return _ranks(values, np.array(self.quantiles))
        return (values - tf.constant(self.offset, tf.float64)) / tf.constant(self.scale, tf.float64)


@dataclass(frozen=True)
class CategoryColumn:
    """What was learnt of a column of categories.

    Attributes:
        name: Its name.
        dtype: "string", or "float32" where the categories are numbers.
        encode: What categories become: one column each, a whole number, or the mean label.
        categories: Those that are told apart, the most frequent first; numbers as text, "" for empty cells.
        has_other: Whether the training part had other categories, so that one column each means one more.
        means: Mean label of what is in no category, then of each category; None unless `encode` is "target".
    """

    name: str
    dtype: RawType
    encode: Literal["one_hot", "index", "target"]
    categories: tuple[str, ...]
    has_other: bool
    means: tuple[float, ...] | None

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features that it becomes."""
        if self.encode != "one_hot":
            return (self.name,)
        names = tuple(self._feature_name(category) for category in self.categories)
        return (*names, f"{self.name} is other") if self.has_other else names

    def encoded(self, indices: tf.Tensor) -> tf.Tensor:
        """Returns its features, float32, shape (batch, num_features).

        Args:
            indices: Position of each example's category in `categories`, counted from 1; 0: it is none of them.
                Shape (batch,).
        """
        if self.encode == "index":
            return tf.cast(indices, tf.float32)[:, tf.newaxis]
        if self.means is not None:
            return tf.gather(tf.constant(self.means, tf.float32), indices)[:, tf.newaxis]
        # Without a column of its own, whatever is new becomes zeros: weights that never saw a one are noise.
        num_categories = len(self.categories)
        position = tf.where(indices == 0, tf.cast(num_categories, indices.dtype), indices - 1)
        return tf.one_hot(position, num_categories + self.has_other, dtype=tf.float32)

    def _feature_name(self, category: str) -> str:
        if category == "":
            return f"{self.name} is empty"
        if self.dtype == "float32":
            category = np.format_float_positional(np.float32(category), trim="-")
        return f"{self.name}={category}"


@dataclass(frozen=True)
class Learnt:
    """What was learnt of a table.

    Attributes:
        numbers: Of its columns of numbers.
        categories: Of each column of categories.
        selected: Positions of the features that are kept, ascending; None: all.
    """

    numbers: NumberColumns
    categories: tuple[CategoryColumn, ...]
    selected: tuple[int, ...] | None

    @property
    def all_names(self) -> tuple[str, ...]:
        """Names of the features before any are left out: numbers, where they were missing, categories."""
        missing = tuple(f"{name} is missing" for name in self.numbers.indicated)
        encoded = (name for column in self.categories for name in column.feature_names)
        return (*self.numbers.names, *missing, *encoded)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features."""
        names = self.all_names
        return names if self.selected is None else tuple(names[position] for position in self.selected)

    @property
    def types(self) -> dict[str, RawType]:
        """Type of each raw column, by its name."""
        categories: dict[str, RawType] = {column.name: column.dtype for column in self.categories}
        return {**dict.fromkeys(self.numbers.names, "float32"), **categories}

    def state(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return _as_lists(asdict(self))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Learnt:
        """Returns what `state` returned, as it was."""
        values = {name: _as_tuples(value) for name, value in state.items()}
        return cls(
            numbers=NumberColumns(**values["numbers"]),
            categories=tuple(CategoryColumn(**column) for column in values["categories"]),
            selected=values["selected"],
        )


@keras.saving.register_keras_serializable(package="distkeras")  # pyright: ignore[reportUntypedClassDecorator]
class TabularFeatures(keras.layers.Layer):
    """Makes features of raw columns: a mapping from each column's name to numbers or texts, shape (batch,).

    As part of a model it runs where Keras runs on TensorFlow.

    Args:
        learnt: What `Learnt.state` returned.
    """

    def __init__(self, learnt: Mapping[str, Any], **kwargs: Any) -> None:
        # float32 whatever the precision: half of it would round the numbers that were just normalised.
        super().__init__(**{"dtype": "float32", **kwargs})
        self.learnt = Learnt.from_state(learnt)
        self._lookups = [
            keras.layers.StringLookup(vocabulary=list(column.categories), oov_token=_UNKNOWN)
            for column in self.learnt.categories
        ]

    def build(self, input_shape: Any) -> None:
        """There is nothing to build: no weights, and the lookups have their categories."""

    def call(self, inputs: Mapping[str, Any]) -> tf.Tensor:
        parts: list[tf.Tensor] = []
        numbers = self.learnt.numbers
        if numbers.names:
            values = tf.stack([inputs[name] for name in numbers.names], axis=1)
            parts.append(tf.cast(numbers.normalize(numbers.clean(values)), tf.float32))
        parts += [
            tf.cast(tf.math.is_nan(inputs[name]), tf.float32)[:, tf.newaxis] for name in numbers.indicated
        ]
        parts += [
            column.encoded(lookup(category_texts(inputs[column.name])))
            for column, lookup in zip(self.learnt.categories, self._lookups, strict=True)
        ]
        features = tf.concat(parts, axis=1)
        selected = self.learnt.selected
        return features if selected is None else tf.gather(features, selected, axis=1)

    def compute_output_shape(self, input_shape: Mapping[str, Any]) -> tuple[int | None, int]:
        batch = next(iter(input_shape.values()))[0]
        return batch, len(self.learnt.feature_names)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"learnt": self.learnt.state()}


def category_texts(values: tf.Tensor) -> tf.Tensor:
    """Returns the categories of a column as texts: numbers by the nine digits that tell any two float32 apart.

    Args:
        values: Texts, or numbers with NaN where cells are empty.
    """
    if values.dtype == tf.string:
        return values
    zero = tf.zeros_like(values)
    # -0 and 0 are one category; adding zero would not do, as graphs leave such additions out.
    texts = tf.strings.as_string(tf.where(values == zero, zero, values), precision=9, shortest=True)
    return tf.where(tf.math.is_nan(values), "", texts)


def _ranks(values: tf.Tensor, quantiles: np.ndarray) -> tf.Tensor:
    """Returns ranks in [0, 1], float64: of a number that stands there several times, the middle one.

    Args:
        values: float64, shape (batch, num_columns).
        quantiles: Ascending, shape (num_columns, num_quantiles).
    """
    values, table = tf.transpose(values), tf.constant(quantiles)
    left, right = (
        _positions(values, table, tf.searchsorted(table, values, side=side) - 1) for side in ("left", "right")
    )
    ranks = (left + right) / (2 * max(quantiles.shape[1] - 1, 1))
    ranks = tf.where(values >= table[:, -1:], tf.ones_like(ranks), ranks)
    return tf.transpose(tf.where(values <= table[:, :1], tf.zeros_like(ranks), ranks))


def _positions(values: tf.Tensor, table: tf.Tensor, below: tf.Tensor) -> tf.Tensor:
    """Returns where values stand between the entries at `below` and the next ones, counted in entries."""
    last = tf.shape(table)[1] - 1
    low = tf.gather(table, tf.clip_by_value(below, 0, last), batch_dims=1)
    high = tf.gather(table, tf.clip_by_value(below + 1, 0, last), batch_dims=1)
    return tf.cast(below, tf.float64) + tf.math.divide_no_nan(values - low, high - low)


def _as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_lists(part) for key, part in value.items()}
    return [_as_lists(part) for part in value] if isinstance(value, tuple) else value


def _as_tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_tuples(part) for key, part in value.items()}
    return tuple(_as_tuples(part) for part in value) if isinstance(value, list | tuple) else value
