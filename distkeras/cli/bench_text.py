"""What `distkeras bench` prints, line by line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distkeras.cli.tables import aligned

if TYPE_CHECKING:
    from distkeras.measurement.tuning import Tuning


def result_lines(result: Mapping[str, Any]) -> list[str]:
    """Returns what limits a config, and what was measured."""
    from distkeras.measurement import tables

    lines = [f"{result['name']}: {result['verdict']}", *aligned(tables.key_numbers(result), indent=2)]
    lines += ["a step:", *aligned(tables.share_rows(result), indent=2)]
    if len(result["settings"]) > 1:
        rows = [tables.SETTING_HEADER, *tables.setting_rows(result)]
        lines += ["settings:", *aligned(rows, indent=2)]
    lines += [f"warning: {text}" for text in result["warnings"]]
    lines.append(tables.certainty(result))
    if "report" in result:
        lines.append(f"report: {result['report']}")
    return lines


def simulation_lines(result: Mapping[str, Any]) -> list[str]:
    """Returns what a model says of more workers than there are."""
    from distkeras.measurement.simulation import HEADER, explanation, text_rows

    simulation = result["simulation"]
    lines = [
        f"{result['name']}: {explanation(simulation)}",
        *aligned([HEADER, *text_rows(simulation)], indent=2),
        simulation["knee"],
        simulation["knob"],
        simulation["published"],
    ]
    return [*lines, f"report: {result['report']}"] if "report" in result else lines


def tuning_lines(name: str, tuning: Tuning, target: Path) -> list[str]:
    """Returns what was chosen, why, and where it is kept.

    Args:
        name: The config's name.
        tuning: What became of each key.
        target: The file with the tuned config, where it is faster.
    """
    from distkeras.measurement import tuned

    lines = [f"{name}: {tuned.summary(tuning)}", *aligned(tuned.rows(tuning), indent=2)]
    lines += [f"note: {note}" for note in tuned.notes(tuning)]
    return [*lines, f"config: {target}"] if tuning.is_faster else lines
