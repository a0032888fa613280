"""Tables, from CSV, Excel or Parquet, as arrays in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from distkeras.config.source_sections import CsvSource as CsvSection
from distkeras.config.source_sections import ExcelSource as ExcelSection
from distkeras.config.source_sections import ParquetSource as ParquetSection
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.sources.base import Source
from distkeras.data.sources.columns import RawType, Table, feature_matrix, label_values
from distkeras.data.sources.csv_table import read_csv
from distkeras.data.sources.excel_table import read_excel
from distkeras.data.sources.parquet_table import read_parquet
from distkeras.data.sources.raw_columns import RawColumnsSource

TableSection = CsvSection | ExcelSection | ParquetSection


def open_tabular(
    section: TableSection,
    *,
    feature_names: Sequence[str] | None = None,
    labelled: bool = True,
    raw: bool = False,
    types: Mapping[str, RawType] | None = None,
) -> Source:
    """Reads a table: float32 features, shape (num_columns,), and labels; text labels become class indices.

    The same cells give the same fingerprint, in whichever format they are stored.

    Args:
        section: The table.
        feature_names: The feature columns, in order; None: the section's.
        labelled: Whether the label column is read; without, it may be missing, and all labels are 0.
        raw: Whether each column is an input of its own, of numbers or of text, and may have empty cells (see
            `RawColumnsSource`).
        types: What raw columns must be, as `feature_dtype` of another table says; those that are not named
            are found out.

    Raises:
        DataError: If a file, a column or a cell is not what it must be; it names file, row and column.
    """
    if feature_names is not None:
        section = section.model_copy(update={"features": list(feature_names)})
    table = read_table(section, labelled=labelled, raw=raw, types=types)
    labels = label_values(table)
    if raw:
        return RawColumnsSource(table, labels, types=types, name=str(section.path))
    return ArraySource(
        feature_matrix(table),
        labels.values,
        class_names=labels.class_names,
        feature_names=table.features.column_names,
        name=str(section.path),
        locate=table.locate,
    )


def read_table(
    section: TableSection,
    *,
    labelled: bool = True,
    raw: bool = False,
    types: Mapping[str, RawType] | None = None,
) -> Table:
    """Reads the columns of a table of any format; arguments and errors as in `open_tabular`."""
    match section:
        case CsvSection():
            return read_csv(section, labelled=labelled, raw=raw, types=types)
        case ExcelSection():
            return read_excel(section, labelled=labelled, raw=raw, types=types)
        case ParquetSection():
            return read_parquet(section, labelled=labelled, raw=raw)


def read_column(section: TableSection, name: str) -> np.ndarray:
    """Reads one column, which may be no feature: numbers, NaN where empty; dates; or text, "" where empty.

    Raises:
        DataError: If there is no such column.
    """
    table = read_table(section.model_copy(update={"features": [name]}), labelled=False, raw=True)
    column = table.features.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return column.fill_null("").to_numpy() if is_text else column.to_numpy()
