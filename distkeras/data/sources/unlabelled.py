"""New data for a trained model: the sources of training, read without asking for labels."""

from __future__ import annotations

from collections.abc import Sequence

from distkeras.config import source_sections
from distkeras.data.sources import open_source
from distkeras.data.sources.base import Source


def open_unlabelled(section: source_sections.Source, feature_names: Sequence[str] | None) -> Source:
    """Opens a source whose labels may be missing; where they are not read, they are 0.

    Args:
        section: Where the data is.
        feature_names: The columns that the model was trained on, in order; None: it was not a table.

    Raises:
        DataError: If the data is missing, unreadable, or not what the section says.
    """
    match section:
        case source_sections.ArraysSource():
            from distkeras.data.sources.arrays import open_arrays

            return open_arrays(section, labelled=False)
        case source_sections.ImageFolderSource():
            from distkeras.data.sources.image_folder import ImageFolderSource

            return ImageFolderSource(section, labelled=False)
        case source_sections.CsvSource() | source_sections.ParquetSource():
            from distkeras.data.sources.tabular import open_tabular

            return open_tabular(section, feature_names=feature_names, labelled=False)
        case _:
            # Prepared and synthetic data sets always have labels; nobody asks for them.
            return open_source(section)
