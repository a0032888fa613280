"""Looks at any data set before anything is trained on it: schema, counts, class balance, statistics, bad records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distkeras.config import source_sections as sections
from distkeras.data.inspection.result import Inspection
from distkeras.data.recognition import recognise
from distkeras.data.split_columns import column_names
from distkeras.errors import ConfigError, DataError


def section_for(path: Path, label: str | None) -> sections.SingleSource:
    """Returns the source that a file or folder seems to be.

    Args:
        path: The file or folder.
        label: The column of a table to predict; None: "label" where there is one, else the last.

    Raises:
        DataError: If there is nothing that any source reads, or no such column.
        ConfigError: If a label is named for data without columns.
    """
    kind = recognise(path)
    if kind not in ("csv", "excel", "parquet", "jsonl", "tfrecord", "array_record", "arrays") and label:
        raise ConfigError(f"--label names a column; this is {kind}.", received=label, remedy="leave it out")
    # Placeholders: a table's label is chosen among the columns that it has.
    match kind:
        case "csv":
            delimiter = _delimiter(path)
            csv = sections.CsvSource(kind="csv", path=path, label="", delimiter=delimiter)
            return csv.model_copy(update={"label": _label_of(csv, label)})
        case "excel":
            excel = sections.ExcelSource(kind="excel", path=path, label="")
            return excel.model_copy(update={"label": _label_of(excel, label)})
        case "parquet":
            parquet = sections.ParquetSource(kind="parquet", path=str(path), label="")
            return parquet.model_copy(update={"label": _label_of(parquet, label)})
        case "jsonl":
            jsonl = sections.JsonlSource(kind="jsonl", path=path)
            return jsonl.model_copy(update={"label": _label_of(jsonl, label)})
        case "tfrecord" | "array_record":
            return sections.RecordsSource(kind=kind, path=path, label=label or "label")
        case "arrays":
            return _arrays_section(path, label)
        case "image_folder":
            return sections.ImageFolderSource(kind=kind, path=path)
        case "text_folder":
            return sections.TextFolderSource(kind=kind, path=path)
        case "audio_folder":
            return sections.AudioFolderSource(kind=kind, path=path)
        case _:
            return sections.TfdsSource(kind="tfds", path=path)


def inspect_section(section: Any) -> Inspection:
    """Inspects the data of a source.

    Args:
        section: The source's section of a config, or what `section_for` makes of a path.

    Raises:
        DataError: If it cannot be read at all.
        ConfigError: If it is a stream.
    """
    match section:
        case (
            sections.CsvSource() | sections.ExcelSource() | sections.ParquetSource() | sections.JsonlSource()
        ):
            from distkeras.data.inspection.tables import inspect_table

            return inspect_table(section, section.label)
        case sections.TimeSeriesSource():
            from distkeras.data.inspection.tables import inspect_table, table_section_of

            return inspect_table(table_section_of(section), section.target)
        case sections.ImageFolderSource() | sections.TextFolderSource() | sections.AudioFolderSource():
            from distkeras.data.inspection.folders import inspect_folder

            return inspect_folder(section)
        case sections.ArraysSource():
            from distkeras.data.inspection.arrays import inspect_arrays

            return inspect_arrays(section)
        case sections.RecordsSource():
            from distkeras.data.inspection.records import inspect_records

            return inspect_records(section)
        case sections.GeneratorSource():
            raise ConfigError(
                "A stream has no examples to look back at.",
                place="data.source.kind",
                received="generator",
                remedy="inspect what the function reads",
            )
        case _:
            from distkeras.data.inspection.opened import inspect_source
            from distkeras.data.sources import open_source

            return inspect_source(open_source(section), section.kind)


def _label_of(section: Any, label: str | None) -> str:
    names = list(column_names(section))
    wanted = label or ("label" if "label" in names else names[-1] if names else "")
    if wanted not in names:
        from difflib import get_close_matches

        close = get_close_matches(wanted, names, n=1)
        raise DataError(
            f"There is no column {wanted!r}.",
            place=str(section.path),
            remedy=f"did you mean {close[0]!r}?" if close else f"name one of: {', '.join(names[:20])}",
        )
    return wanted


def _arrays_section(path: Path, label: str | None) -> sections.ArraysSource:
    from distkeras.data.recognition import inspect_arrays

    try:
        found = inspect_arrays(path)
    except DataError:
        # One array alone is no training data, and may be looked at all the same.
        return sections.ArraysSource(kind="arrays", path=path)
    return sections.ArraysSource(
        kind="arrays", path=path, features=found.features, label=label or found.label
    )


def _delimiter(path: Path) -> str:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline()
    return max(",;\t|", key=header.count)
