"""Splits of time series: training windows come first, and see nothing of what later parts are asked for."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from distkeras.config.sections import SplitSection
from distkeras.config.source_sections import TimeSeriesSource as TimeSeriesSection
from distkeras.data.apportioning import FloatArray, apportion
from distkeras.data.column_splits import SplitColumn, split_by_time
from distkeras.data.sources.base import Source
from distkeras.data.sources.time_series import TimeSeriesSource
from distkeras.errors import ConfigError, DataError

Int64Array = npt.NDArray[np.int64]

_logger = logging.getLogger(__name__)


def split_windows(
    source: Source, section: TimeSeriesSection, split: SplitSection, shares: FloatArray
) -> list[Int64Array]:
    """Returns the ids of each part: the first windows of every series are trained on, the last ones tested.

    Where the section names a column of time, one moment divides all series; else each is divided by its rows. Windows
    that hold rows which a later part has to forecast are in no part.

    Args:
        source: The windows.
        section: What the source was opened from.
        split: The method, which must be `time`.
        shares: Share of each part from the first to the last, shape (num_parts,), with the sum 1.

    Raises:
        ConfigError: If the method is another one.
        DataError: If there are fewer moments than parts, or the source is no time series.
    """
    if split.method != "time":
        raise ConfigError(
            f"Windows of a time series share rows: split by {split.method}, a model would be tested on rows that it "
            "was trained on.",
            place="data.split.method",
            received=split.method,
            remedy="set data.split.method: time",
        )
    if not isinstance(source, TimeSeriesSource):
        raise DataError("Only windows of a time series are split as such.", place=source.name)
    series = np.zeros(source.num_examples, np.int64)
    if section.series is not None:
        series = np.unique(source.column(section.series), return_inverse=True)[1]
    if section.time is not None:
        parts = split_by_time(SplitColumn(source, section.time, source.column(section.time)), shares)
    else:
        parts = _by_rows(series, shares)
    return _without_leaks(source, section.window, series, parts)


def _by_rows(series: Int64Array, shares: FloatArray) -> list[Int64Array]:
    """Cuts each series by its number of windows, which stand in the order of time."""
    parts: list[list[Int64Array]] = [[] for _ in shares]
    owed = np.zeros(len(shares))
    for one in range(int(series.max()) + 1):
        members = np.flatnonzero(series == one)
        counts = apportion(len(members), shares, owed)
        owed += len(members) * shares - counts
        for part, ids in zip(parts, np.split(members, np.cumsum(counts)[:-1]), strict=True):
            part.append(ids)
    return [np.concatenate(part) for part in parts]


def _without_leaks(
    source: TimeSeriesSource, window: int, series: Int64Array, parts: list[Int64Array]
) -> list[Int64Array]:
    """Leaves out windows that reach into rows which are forecast in a later part of their series."""
    num_series = int(series.max()) + 1
    kept = list(parts)
    for index in range(len(parts) - 1):
        later = np.concatenate(parts[index + 1 :])
        # First row of each series that a later part forecasts.
        limits = np.full(num_series, np.iinfo(np.int64).max)
        np.minimum.at(limits, series[later], source.starts[later] + window)
        ids = parts[index]
        kept[index] = ids[source.last_rows[ids] < limits[series[ids]]]
    left_out = sum(map(len, parts)) - sum(map(len, kept))
    if left_out:
        _logger.info(
            "%s: %d windows are in no part: they hold rows that a later part forecasts", source.name, left_out
        )
    return kept
