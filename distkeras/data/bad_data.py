"""Finds the example behind a problem, so that an error can name a file and a record."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from distkeras.data.sources.base import Source
from distkeras.errors import DataError

NUM_THREADS = 16
EXAMPLES_PER_CHUNK = 1024


def check_class_labels(source: Source, num_classes: int) -> None:
    """Raises for the first label that is not a whole number in `[0, num_classes)`.

    Raises:
        DataError: It names the example's place and what its label is.
    """
    labels = source.labels()
    if labels.ndim != 1:
        raise DataError(
            "Class labels must be one number an example.",
            place=source.name,
            received=f"shape {labels.shape}",
            remedy="Give class indices instead of one-hot rows.",
        )
    if not np.issubdtype(labels.dtype, np.integer):
        _refuse_first(
            source,
            labels,
            ~np.isfinite(labels) | (labels != np.floor(labels)),
            "A class label is not a whole number.",
            "Write class labels as integers or text; to predict numbers choose a regression task.",
        )
    _refuse_first(
        source,
        labels,
        (labels < 0) | (labels >= num_classes),
        f"A class label lies outside [0, {num_classes}).",
        f"Count classes from 0; task.num_classes must be above the largest label, {labels.max()}.",
    )


def _refuse_first(source: Source, labels: np.ndarray, is_bad: np.ndarray, problem: str, remedy: str) -> None:
    bad = np.flatnonzero(is_bad)
    if bad.size:
        raise DataError(
            problem,
            place=f"{source.locate(int(bad[0]))} in {source.name}",
            received=labels[bad[0]].item(),
            remedy=f"{remedy} {bad.size:,} of {len(labels):,} labels are concerned.",
        )


def find_unreadable_example(
    source: Source, ids: Sequence[int] | np.ndarray | None = None
) -> DataError | None:
    """Says which example made reading fail, after tf.data raised an error that does not name it.

    tf.data reads ahead in parallel, so that its error cannot say which example it was reading. Here examples
    are read again until one fails, which may take as long as an epoch.

    Args:
        source: The source that the failed pipeline reads.
        ids: Examples to try, in this order; None: all.

    Returns:
        The error to raise, with the example's place and the reason; None where all examples can be read.
    """
    if source.is_stream:  # it cannot be read again, and remembers
        return next(iter(source.unreadable.values()), None)
    tried = np.arange(source.num_examples) if ids is None else np.asarray(ids, np.int64)
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for start in range(0, len(tried), EXAMPLES_PER_CHUNK):
            chunk = tried[start : start + EXAMPLES_PER_CHUNK]
            for error in pool.map(partial(_try_reading, source), chunk):
                if error is not None:
                    return error
    return None


def _try_reading(source: Source, example_id: int) -> DataError | None:
    known = source.unreadable.get(int(example_id))
    if known is not None:
        return known
    try:
        source.read_arrays(np.array([example_id]))
        origin, [own_id] = source.origin(np.array([example_id]))
        origin.require_unchanged(int(own_id))
    except DataError as error:
        return error
    except Exception as error:  # Any library below may fail in its own way; here only the place is wanted.
        return DataError(
            "An example cannot be read or decoded.",
            place=f"{source.locate(int(example_id))} in {source.name}",
            received=_reason(error),
            remedy="Remove the example, or replace its file with a whole one.",
        )
    return None


def _reason(error: Exception) -> str:
    """Returns the first line of an error, without the names of TensorFlow's nodes."""
    return re.sub(r"\{\{.*?\}\}|\[Op:.*", "", str(error)).strip().partition("\n")[0]
