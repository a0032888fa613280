"""What came of a run, read from its files: the numbers that a person or a script asks for first."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distkeras.observability.report.facts import Facts, load_facts
from distkeras.observability.report.story import input_wait_ratio
from distkeras.observability.run import Run
from distkeras.observability.run_directory import RunDirectory


@dataclass(frozen=True)
class Outcome:
    """A run in a few numbers.

    Attributes:
        status: `running`, `completed`, `interrupted`, `preempted` or `failed`.
        run: The run's directory.
        step: Complete optimizer steps.
        num_steps: Steps of the whole run; None where it never began.
        metrics: The last epoch's training and validation metrics, and those of the test.
        examples_per_second: Median over the logging points after the warm-up; None before the first.
        input_wait_ratio: Share of the time spent waiting for input, in `[0, 1]`; None before the first.
        report: The report's page, where it was written.
        error: Why the last attempt ended early.
    """

    status: str
    run: Path
    step: int
    num_steps: int | None
    metrics: dict[str, float | None]
    examples_per_second: float | None
    input_wait_ratio: float | None
    report: Path | None
    error: str | None

    @property
    def test_metrics(self) -> dict[str, float | None]:
        """The metrics of the test data alone."""
        return {name: value for name, value in self.metrics.items() if name.startswith("test_")}

    def as_mapping(self) -> dict[str, Any]:
        """Returns the attributes by name."""
        return asdict(self)


def read_outcome(directory: RunDirectory) -> Outcome:
    """Reads what came of a run, at any moment of it.

    Raises:
        ConfigError: If there is no run.
        DataError: If one of its files is damaged.
    """
    facts, run = load_facts(directory), Run(directory)
    rate, waiting = _throughput(facts)
    return Outcome(
        status=facts.manifest["status"],
        run=directory.path,
        step=max(facts.manifest.get("step", 0), run.step),
        num_steps=facts.manifest.get("num_steps"),
        metrics=dict(run.metrics),
        examples_per_second=rate,
        input_wait_ratio=waiting,
        report=directory.report_path if directory.report_path.is_file() else None,
        error=facts.manifest.get("error"),
    )


def _throughput(facts: Facts) -> tuple[float | None, float | None]:
    # A run of one logging point has nothing but its warm-up.
    rows = facts.measured_rows() or [row for row in facts.rows_of("train") if "step_milliseconds" in row]
    if not rows:
        return None, None
    rates = sorted(row["examples_per_second"] or 0.0 for row in rows)
    return rates[len(rates) // 2], input_wait_ratio(rows)
