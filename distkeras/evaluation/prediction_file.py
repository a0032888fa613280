"""A model's answers about new data, in a table with one row an example."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from distkeras.config import source_sections
from distkeras.data.sources import open_source
from distkeras.data.sources.base import Source
from distkeras.data.streaming import no_end
from distkeras.errors import DataError, ResourceError
from distkeras.evaluation.loading import OpenedRun
from distkeras.evaluation.predicting import predict
from distkeras.training.feeding import TrainingData


def predict_source(opened: OpenedRun, section: source_sections.Source) -> tuple[Source, np.ndarray]:
    """Returns new data and the model's output for each of its examples, in order.

    Raises:
        DataError: If the data is missing, unreadable, or of another shape than the model was trained on.
        ConfigError: If images must be resized and the run does not say to which size.
    """
    config = opened.config
    preparation = opened.experiment.preparation
    source = open_source(section, labelled=False, tabular=config.data.tabular, like=preparation.source)
    if source.is_stream:
        raise no_end(source.name)
    source = preparation.apply(source)
    _check_fits(source, opened)
    opened.progress.announce(f"predicting {source.num_examples:,} examples")
    with opened.trained.placement.explained(TrainingData(source, None, config.data), config):
        outputs = predict(
            opened.trained,
            source,
            global_batch_size=config.training.global_batch_size,
        )
    return source, outputs


def write_predictions(path: Path, source: Source, columns: dict[str, np.ndarray]) -> None:
    """Writes one row an example, in order: its place, then what was predicted. A whole file or none.

    Raises:
        ResourceError: If the file cannot be written.
    """
    places = [source.locate(index) for index in range(source.num_examples)]
    table = pa.table({"place": places, **{name: pa.array(values) for name, values in columns.items()}})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write: Any = pq.write_table if path.suffix.lower() == ".parquet" else pyarrow.csv.write_csv
        write(table, temporary)
        temporary.replace(path)
    except OSError as error:
        raise ResourceError(
            f"The predictions cannot be written: {error.strerror or error}.",
            place=str(path),
            remedy="free some space, or choose another --out",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _check_fits(source: Source, opened: OpenedRun) -> None:
    trained_on = opened.experiment.splits.train
    expected, received = trained_on.feature_shape, source.feature_shape
    if received != expected:
        raise DataError(
            f"The model was trained on examples of shape {expected}.",
            place=source.name,
            received=received,
            remedy="give the data the shape that the training data has",
        )
    # Keras would cast in silence, and 200.7 would become 200 and 300 would become 44.
    if not np.can_cast(str(source.feature_dtype), str(trained_on.feature_dtype)):
        raise DataError(
            f"The model was trained on features of type {trained_on.feature_dtype}.",
            place=source.name,
            received=source.feature_dtype,
            remedy=f"save the features as {trained_on.feature_dtype}",
        )
