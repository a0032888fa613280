"""A run, read back from its directory: what it measured, how far it got, where its report is."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from distkeras.observability.run_directory import RunDirectory


@dataclass(frozen=True)
class Run:
    """A run on disk. Everything is read when it is asked for, so that a live run can be watched.

    Attributes:
        directory: Its files.
    """

    directory: RunDirectory

    @property
    def path(self) -> Path:
        """The run's directory."""
        return self.directory.path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.directory.read_manifest()["name"]

    @property
    def status(self) -> str:
        """`running`, `completed`, `interrupted`, `preempted` or `failed`."""
        return self.directory.read_manifest()["status"]

    @property
    def step(self) -> int:
        """Complete optimizer steps at the last row that was written."""
        rows = self.directory.read_metrics()
        return rows[-1]["step"] if rows else 0

    @property
    def history(self) -> dict[str, list[float]]:
        """Each metric's value at the end of each epoch, as Keras's History has them."""
        history: dict[str, list[float]] = {}
        for row in self.directory.read_metrics():
            if row["kind"] == "epoch":
                for name, value in row["metrics"].items():
                    history.setdefault(name, []).append(value)
        return history

    @property
    def metrics(self) -> dict[str, float]:
        """The last epoch's metrics, and those of the evaluation where there is one."""
        last = {name: values[-1] for name, values in self.history.items()}
        evaluation = self.directory.read_evaluation()
        return last | (evaluation["metrics"] if evaluation else {})

    def report(self) -> Path:
        """Writes the report and returns the path of its HTML page.

        Raises:
            MissingDependencyError: Without the extra `report`.
        """
        from distkeras.observability.report import write_report

        return write_report(self.directory)

    def summary(self) -> dict[str, Any]:
        """Returns the run in a few plain values."""
        return {"run": str(self.path), "status": self.status, "step": self.step, "metrics": self.metrics}

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{value:.4g}</td></tr>" for name, value in self.metrics.items()
        )
        title = f"{escape(self.name)}: {escape(self.status)}, {self.step:,} steps"
        return f"<table><caption>{title}</caption>{rows}</table>"
