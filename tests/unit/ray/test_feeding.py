"""From Arrow's types to TensorFlow's: which columns of a Ray dataset can feed a model."""

from __future__ import annotations

import pyarrow as pa
import pytest
import tensorflow as tf

from distkeras.errors import ConfigError, DataError
from distkeras.ray.feeding import _kinds, _spec


class Tensors:
    """Like Ray's type of a column of arrays of one shape."""

    shape = (2, 3)
    value_type = pa.float32()


class Shard:
    def schema(self) -> pa.Schema:
        return pa.schema([("x", pa.float32()), ("name", pa.string())])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.float64(), tf.TensorSpec([None], tf.float64)),
        (pa.int32(), tf.TensorSpec([None], tf.int32)),
        (pa.bool_(), tf.TensorSpec([None], tf.bool)),
        (pa.string(), tf.TensorSpec([None], tf.string)),
        (pa.binary(), tf.TensorSpec([None], tf.string)),
    ],
)
def test_columns_of_single_values(kind: pa.DataType, expected: tf.TensorSpec) -> None:
    assert _spec("x", kind) == expected


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.timestamp("s"), pa.struct([("a", pa.int8())])])
def test_columns_that_are_no_tensor_are_refused_by_name(kind: pa.DataType) -> None:
    with pytest.raises(DataError, match="The values of the column 'x' differ in shape"):
        _spec("x", kind)


def test_an_unknown_column_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="The dataset has no such column") as raised:
        _kinds(Shard(), ["x", "label"])
    assert raised.value.received == "label"
    assert "x, name" in str(raised.value.remedy)
