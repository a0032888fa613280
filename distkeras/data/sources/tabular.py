"""Numeric tables, from CSV or Parquet, as arrays in memory."""

from __future__ import annotations

from collections.abc import Sequence

from distkeras.config.source_sections import CsvSource as CsvSection
from distkeras.config.source_sections import ParquetSource as ParquetSection
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.sources.columns import feature_matrix, label_values
from distkeras.data.sources.csv_table import read_csv
from distkeras.data.sources.parquet_table import read_parquet


def open_tabular(
    section: CsvSection | ParquetSection,
    *,
    feature_names: Sequence[str] | None = None,
    labelled: bool = True,
) -> ArraySource:
    """Reads a table: float32 features, shape (num_columns,), and labels; text labels become class indices.

    The same cells give the same fingerprint, in whichever format they are stored.

    Args:
        section: The table.
        feature_names: The feature columns, in order; None: the section's.
        labelled: Whether the label column is read; without, it may be missing, and all labels are 0.

    Raises:
        DataError: If a file, a column or a cell is not what it must be; it names file, row and column.
    """
    if feature_names is not None:
        section = section.model_copy(update={"features": list(feature_names)})
    if isinstance(section, CsvSection):
        table = read_csv(section, labelled=labelled)
    else:
        table = read_parquet(section, labelled=labelled)
    labels = label_values(table)
    return ArraySource(
        feature_matrix(table),
        labels.values,
        class_names=labels.class_names,
        feature_names=table.features.column_names,
        name=str(section.path),
        locate=table.locate,
    )
