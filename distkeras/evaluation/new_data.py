"""Which new data a model is asked about, and where its answers go: known before TensorFlow is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distkeras.config import load_config, source_sections
from distkeras.config.documents import read_document, value_at
from distkeras.config.keys import Key
from distkeras.config.overrides import Override, parse_override
from distkeras.data.recognition import recognise
from distkeras.errors import ConfigError
from distkeras.evaluation.loading import load_run_config
from distkeras.observability.run_directory import RunDirectory

OUTPUT_SUFFIXES = (".csv", ".parquet")
_SOURCE: Key = ("data", "source")
# Their files and folders are not told from those of other kinds; new data is then what the run was trained on.
_LOOK_LIKE_OTHERS = (
    "array_record",
    "audio_folder",
    "excel",
    "jsonl",
    "text_folder",
    "tfrecord",
    "time_series",
)


def check_output(path: Path, data: Path) -> None:
    """Refuses an output file that could not be written, before minutes of work.

    Raises:
        ConfigError: If its ending is unknown, its folder is missing, or it is the data itself.
    """
    if path.suffix.lower() not in OUTPUT_SUFFIXES:
        raise ConfigError("Predictions are written as .csv or .parquet.", place="--out", received=str(path))
    if not path.parent.is_dir():
        raise ConfigError(
            "The folder for the predictions does not exist.",
            place=str(path.parent),
            remedy=f"mkdir -p {path.parent}",
        )
    if path.exists() and data.exists() and path.samefile(data):
        raise ConfigError("The predictions would replace the data.", place="--out", received=str(path))


def new_source_section(run: RunDirectory, data: Path, overrides: Sequence[str]) -> source_sections.Source:
    """Returns where new data is: the run's own source with another path, or that of a config file.

    Args:
        run: The run whose model is used.
        data: A file or folder, or a config (.yaml) whose `data.source` is used.
        overrides: `--set` arguments; those for `data.source` correct what is not as in training.

    Raises:
        ConfigError: If the source is not valid.
        DataError: If there is nothing at the path, or nothing that any source reads.
    """
    if data.suffix.lower() in (".yaml", ".yml"):
        return load_config(data, overrides).data.source
    changes = [change for change in map(parse_override, overrides) if change.key[:2] == _SOURCE]
    set_here = {change.key for change in changes}
    document = read_document(run.config_path) if run.config_path.is_file() else {}
    kind = value_at(document, (*_SOURCE, "kind"))
    if (*_SOURCE, "kind") not in set_here:
        kind = kind if kind in _LOOK_LIKE_OTHERS else recognise(data)
        changes.insert(0, _change("kind", kind))
    if kind in ("csv", "excel", "parquet") and value_at(document, (*_SOURCE, "label")) is None:
        changes.append(_change("label", "label"))  # never read, but a table's section names one
    if (*_SOURCE, "path") not in set_here:
        changes.append(_change("path", str(data.resolve())))
    return load_run_config(run, changes).data.source


def of_run(overrides: Sequence[str]) -> list[str]:
    """Returns the `--set` arguments that are not about the new data."""
    return [argument for argument in overrides if parse_override(argument).key[:2] != _SOURCE]


def _change(name: str, value: str) -> Override:
    return Override(f"data.source.{name}={value}", (*_SOURCE, name), value)
