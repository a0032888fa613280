"""From a Ray Data shard to a `tf.data` dataset: whole batches change hands, never single rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import tensorflow as tf

from distkeras.errors import ConfigError, DataError
from distkeras.ray.membership import strategy


def batches(
    shard: Any,
    *,
    global_batch_size: int,
    features: str | Sequence[str],
    label: str | None = None,
    weight: str | None = None,
    shuffle_rows: int | None = None,
) -> tf.data.Dataset:
    """Returns this worker's part of every global batch, as `fit` and `evaluate` of a prepared model take it.

    Each iteration reads the shard once more. Arrow's columns become NumPy arrays without a copy where they can.
    Ray splits a dataset among the workers to the row, and for that leaves out fewer rows than there are workers.

    Args:
        shard: What `ray.train.get_dataset_shard` returns.
        global_batch_size: Examples of one step over all workers.
        features: A column, which becomes a tensor of shape (batch, ...); or several, which become a dict of them.
        label: The column of labels; None: batches are features alone.
        weight: The column of sample weights, beside labels.
        shuffle_rows: Rows that are held to choose the next ones from; None: the shard's own order.

    Raises:
        ConfigError: If the batch does not divide by the workers, or there is no such column.
        DataError: If a column's values differ in shape, or are no numbers and no text.
    """
    size = _local_size(global_batch_size)
    columns = [column for column in (features, label, weight) if column is not None]
    kinds = _kinds(shard, [name for column in columns for name in _names(column)])
    spec = _arranged({name: _spec(name, kind) for name, kind in kinds.items()}, columns)

    def generate() -> Iterator[Any]:
        # Two, as Ray Data fetches the next block while one is trained on.
        for batch in shard.iter_batches(
            batch_size=size,
            batch_format="numpy",
            prefetch_batches=2,
            local_shuffle_buffer_size=shuffle_rows,
        ):
            yield _arranged(batch, columns)

    return tf.data.Dataset.from_generator(generate, output_signature=spec).prefetch(tf.data.AUTOTUNE)


def _local_size(global_batch_size: int) -> int:
    num_workers = strategy().topology.world_size
    size, rest = divmod(global_batch_size, num_workers)
    if rest or size == 0:
        lower = max(size, 1) * num_workers
        raise ConfigError(
            f"The global batch size does not divide by the {num_workers} workers.",
            place="batches(global_batch_size=...)",
            received=global_batch_size,
            remedy=f"use {lower} or {lower + num_workers}",
        )
    return size


def _names(column: str | Sequence[str]) -> list[str]:
    return [column] if isinstance(column, str) else list(column)


def _arranged(values: Mapping[str, Any], columns: Sequence[str | Sequence[str]]) -> tuple[Any, ...]:
    """Returns columns by name as Keras takes them: one as it is, several as a dict."""
    return tuple(
        values[column] if isinstance(column, str) else {name: values[name] for name in column}
        for column in columns
    )


def _kinds(shard: Any, names: Sequence[str]) -> dict[str, Any]:
    """Returns the Arrow types of the named columns."""
    schema = shard.schema()
    known = dict(zip(schema.names, schema.types, strict=True))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(
            "The dataset has no such column.",
            place="batches(...)",
            received=unknown[0],
            remedy=f"use one of {', '.join(known)}",
        )
    return {name: known[name] for name in names}


def _spec(name: str, kind: Any) -> tf.TensorSpec:
    """Returns what batches of a column are like, by its Arrow type."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind):
        return tf.TensorSpec([None], tf.string)
    # Ray's columns of arrays have a shape; those of arrays that differ have one that is not known, and lists none.
    shape, value = getattr(kind, "shape", ()), kind.value_type if hasattr(kind, "shape") else kind
    if isinstance(shape, tuple) and (pa.types.is_primitive(value) and not pa.types.is_temporal(value)):
        return tf.TensorSpec([None, *shape], tf.as_dtype(value.to_pandas_dtype()))
    raise DataError(
        f"The values of the column {name!r} differ in shape, or are no numbers and no text.",
        place="batches(...)",
        received=str(kind),
        remedy="make it a column of arrays of one shape, such as with ray.data.preprocessors.Concatenator",
    )
