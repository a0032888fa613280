"""What the report knows: the run's files, read once, with gaps where a file is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import yaml

from distkeras.errors import DataError
from distkeras.observability.atomic_files import explained
from distkeras.observability.metrics_file import Row
from distkeras.observability.run_directory import RunDirectory

Json = dict[str, Any]


@dataclass(frozen=True)
class Facts:
    """The files of one run.

    Attributes:
        manifest: manifest.json.
        config_text: config.resolved.yaml as text; empty where it is missing.
        config: The same as a mapping.
        rows: metrics.jsonl.
        evaluation: evaluation.json; None before an evaluation.
        environment: env.json; None where it is missing.
    """

    manifest: Json
    config_text: str = ""
    config: Json = field(default_factory=dict[str, Any])
    rows: Sequence[Row] = ()
    evaluation: Json | None = None
    environment: Json | None = None

    def configured(self, key: str) -> Any:
        """Returns the config's value at a dotted key, or None."""
        value: Any = self.config
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def rows_of(self, kind: str) -> list[Row]:
        """Returns the rows of one kind, oldest first."""
        return [row for row in self.rows if row.get("kind") == kind]

    def measured_rows(self) -> list[Row]:
        """Returns the `train` rows that carry throughput, without those that include compiling."""
        return [row for row in self.rows_of("train") if "step_milliseconds" in row and not row.get("warm_up")]

    def steps_per_epoch(self) -> float | None:
        """Returns how many steps an epoch has, or None where the manifest does not say."""
        num_steps, epochs = self.manifest.get("num_steps"), self.manifest.get("epochs")
        return num_steps / epochs if num_steps and epochs else None

    def elapsed_seconds(self) -> float | None:
        """Returns the time from the run's creation to its end, pauses between attempts included."""
        created, finished = (parse_time(self.manifest.get(key)) for key in ("created", "finished"))
        return (finished - created).total_seconds() if created and finished else None


def load_facts(run: RunDirectory) -> Facts:
    """Reads the files of a run.

    Raises:
        ConfigError: If no run was started in the directory.
        DataError: If a file is damaged.
        ResourceError: If a file cannot be read.
    """
    text = _read_config(run)
    return Facts(
        manifest=run.read_manifest(),
        config_text=text,
        config=_parse_config(text, run),
        rows=run.read_metrics(),
        evaluation=run.read_evaluation(),
        environment=run.read_environment(),
    )


def parse_time(value: object) -> datetime | None:
    """Returns a moment that is stored as seconds since 1970 or as ISO 8601 text; None for anything else."""
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def _read_config(run: RunDirectory) -> str:
    if not run.config_path.is_file():
        return ""
    with explained(f"read {run.config_path.name}", run.config_path):
        return run.config_path.read_text(encoding="utf-8", errors="replace")


def _parse_config(text: str, run: RunDirectory) -> Json:
    try:
        config = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        config, reason = None, str(error)
    else:
        reason = f"a {type(config).__name__}"
    if not isinstance(config, dict):
        raise DataError(
            f"{run.config_path.name} does not hold a YAML mapping.",
            place=str(run.config_path),
            received=reason,
            remedy="restore the file from the config that started the run",
        )
    return config
