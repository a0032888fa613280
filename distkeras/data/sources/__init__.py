"""Where examples come from: one module for each kind of source."""

from __future__ import annotations

from typing import Any

from distkeras.config import source_sections
from distkeras.config.transform_sections import TabularSection
from distkeras.data.sources.base import Source


def open_source(
    section: source_sections.Source,
    *,
    labelled: bool = True,
    tabular: TabularSection | None = None,
    like: Source | None = None,
    max_bad_records: int = 0,
) -> Source:
    """Opens the source that a config section describes; reads as much as is needed to know that it is usable.

    Args:
        section: The source.
        labelled: Whether labels are read; without, they may be missing, and all are 0. Prepared and synthetic data
            sets always have theirs.
        tabular: What the columns of a table are made of; with it they come one by one, as numbers or text.
        like: The source that a model was trained on, whose columns this one must have; None: it is the first.
        max_bad_records: How many records, or files of a folder of images, texts or sounds, may be bad; see
            `Source.unreadable`.

    Raises:
        DataError: If the data is missing, unreadable, or not what the section says.
    """
    # Each kind is imported where it is opened: a CSV run does not pay for tensorflow_datasets.
    match section:
        case source_sections.ArraysSource():
            from distkeras.data.sources.arrays import open_arrays

            return open_arrays(section, labelled=labelled)
        case source_sections.ImageFolderSource():
            from distkeras.data.sources.image_folder import ImageFolderSource

            return ImageFolderSource(section, labelled=labelled, max_bad_records=max_bad_records)
        case source_sections.CsvSource() | source_sections.ExcelSource() | source_sections.ParquetSource():
            return _open_table(section, labelled, tabular, like)
        case source_sections.RecordsSource():
            from distkeras.data.sources.records import RecordsSource

            return RecordsSource(section, labelled=labelled, max_bad_records=max_bad_records)
        case source_sections.TfdsSource():
            from distkeras.data.sources.tfds import TfdsSource

            return TfdsSource(section)
        case source_sections.TextFolderSource():
            from distkeras.data.sources.text_folder import TextFolderSource

            return TextFolderSource(section, labelled=labelled, max_bad_records=max_bad_records)
        case source_sections.JsonlSource():
            from distkeras.data.sources.jsonl import JsonlSource

            return JsonlSource(section, labelled=labelled)
        case source_sections.AudioFolderSource():
            from distkeras.data.sources.audio_folder import AudioFolderSource

            return AudioFolderSource(section, labelled=labelled, max_bad_records=max_bad_records)
        case source_sections.TimeSeriesSource():
            from distkeras.data.sources.time_series import TimeSeriesSource

            return TimeSeriesSource(section, labelled=labelled, feature_names=like and like.feature_names)
        case source_sections.RayDataSource():
            from distkeras.data.sources.ray_data import RayDataSource

            return RayDataSource(section)
        case source_sections.GeneratorSource():
            from distkeras.data.sources.generator import GeneratorSource

            return GeneratorSource(section)
        case source_sections.MixtureSource():
            from distkeras.data.sources.mixture import open_mixture

            return open_mixture(section, tabular)
        case source_sections.SyntheticSource():
            from distkeras.data.sources.synthetic import SyntheticSource

            return SyntheticSource(section)


def _open_table(
    section: source_sections.CsvSource | source_sections.ExcelSource | source_sections.ParquetSource,
    labelled: bool,
    tabular: TabularSection | None,
    like: Source | None,
) -> Source:
    if isinstance(section, source_sections.ParquetSource) and tabular is None:
        from distkeras.data.sources.row_groups import RowGroupSource, fits_memory

        if not fits_memory(section):
            return RowGroupSource(section, labelled=labelled, feature_names=like and like.feature_names)
    from distkeras.data.sources.tabular import open_tabular

    types: Any = {}
    if tabular is not None:
        types = dict.fromkeys(tabular.categorical, "string") if like is None else like.feature_dtype
    return open_tabular(
        section,
        feature_names=like and like.feature_names,
        labelled=labelled,
        raw=tabular is not None,
        types=types,
    )
