"""Where examples come from: one module for each kind of source."""

from __future__ import annotations

from distkeras.config import source_sections
from distkeras.data.sources.base import Source


def open_source(section: source_sections.Source) -> Source:
    """Opens the source that a config section describes; reads as much as is needed to know that it is usable.

    Raises:
        DataError: If the data is missing, unreadable, or not what the section says.
    """
    # Each kind is imported where it is opened: a CSV run does not pay for tensorflow_datasets.
    match section:
        case source_sections.ArraysSource():
            from distkeras.data.sources.arrays import open_arrays

            return open_arrays(section)
        case source_sections.ImageFolderSource():
            from distkeras.data.sources.image_folder import ImageFolderSource

            return ImageFolderSource(section)
        case source_sections.CsvSource() | source_sections.ParquetSource():
            from distkeras.data.sources.tabular import open_tabular

            return open_tabular(section)
        case source_sections.TfdsSource():
            from distkeras.data.sources.tfds import TfdsSource

            return TfdsSource(section)
        case source_sections.SyntheticSource():
            from distkeras.data.sources.synthetic import SyntheticSource

            return SyntheticSource(section)
