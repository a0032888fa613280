"""A result held against an older one: of the same config on the same machine, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distkeras.config.canonical import differences
from distkeras.errors import ConfigError
from distkeras.measurement.plan import Plan
from distkeras.measurement.result import FORMAT
from distkeras.observability.atomic_files import read_json
from distkeras.observability.formats import rate_text

Result = Mapping[str, Any]

NOISE = 0.05
# Two slow passes against two fast ones are nothing rare.
LEAST_PASSES = 3
# What decides how fast a machine is; its memory is a few bytes more or less after each start.
_OF_MACHINE = ("cpu", "num_cores", "gpus")
_NEEDED = ("kind", "format", "name", "date", "settings", "passes", "machine", "config")
# What neither numbers nor speed depend on.
_FREE_KEYS = ("name", "output_dir")


def read_result(path: Path, place: str) -> Result:
    """Reads a result that `distkeras bench --out` wrote.

    Args:
        path: The file.
        place: Where it was given, such as `--compare`.

    Raises:
        ConfigError: If it is something else.
    """
    if not path.is_file():
        raise ConfigError(
            "There is no such result.",
            place=place,
            received=str(path),
            remedy="write one with: distkeras bench --config FILE --out RESULT.json",
        )
    result = read_json(path)
    missing = [name for name in _NEEDED if name not in result]
    if result.get("kind") != "bench" or missing:
        raise ConfigError(
            "This file is no result of distkeras bench.",
            place=str(path),
            received=f"no {missing[0]}" if missing else f"kind: {result['kind']}",
            remedy="give one that `distkeras bench --out` wrote",
        )
    if result["format"] != FORMAT:
        raise ConfigError(
            "Another version of distkeras wrote this result.",
            place=str(path),
            received=f"format {result['format']}; this version reads {FORMAT}",
            remedy="measure it again: distkeras bench --config FILE --out RESULT.json",
        )
    return result


def refuse_incomparable(
    machine: Mapping[str, Any], config: Mapping[str, Any], plan: Plan, old: Result
) -> None:
    """Refuses to compare what says nothing about each other, before anything is measured.

    Args:
        machine: This machine, as in a result.
        config: The resolved config.
        plan: What is to be measured.
        old: The older result.

    Raises:
        ConfigError: If the older result is of another machine or config, has no setting in common with what is to be
            measured, or one of the two has too few passes to tell a regression from noise.
    """
    for name in _OF_MACHINE:
        if machine[name] != old["machine"].get(name):
            raise ConfigError(
                f"The older result was measured on another machine: its {name} differs.",
                place="--compare",
                received=f"{old['machine'].get(name)}, here {machine[name]}",
                remedy="compare results of one machine",
            )
    found = [one for one in differences(config, old["config"]) if one[0] not in _FREE_KEYS]
    if found:
        key, here, before = found[0]
        raise ConfigError(
            f"The older result is of another config: {key} differs.",
            place="--compare",
            received=f"{before}, here {here}",
            remedy="compare results of one config, or measure the old one again",
        )
    before = [setting["name"] for setting in old["settings"]]
    if not any(setting.name in before for setting in plan.settings):
        raise ConfigError(
            "The older result has none of the settings that are to be measured.",
            place="--compare",
            received=", ".join(before),
            remedy="give the same --workers, --batch-sizes, --precision, --engines and --xla",
        )
    passes = min(old["passes"], plan.num_passes)
    if passes < LEAST_PASSES:
        raise ConfigError(
            f"{LEAST_PASSES} passes or more tell a regression from noise, in both results.",
            place="--compare" if old["passes"] == passes else "--pairs",
            received=passes,
            remedy=f"measure both with --pairs {LEAST_PASSES} or more",
        )


def find_regressions(new: Result, old: Result) -> list[str]:
    """Returns a sentence for each setting that became slower by more than noise, with intervals that do not meet."""
    before = {setting["name"]: setting for setting in old["settings"]}
    pairs = [(setting, before[setting["name"]]) for setting in new["settings"] if setting["name"] in before]
    return [_sentence(setting, was) for setting, was in pairs if _is_slower(setting, was)]


def _is_slower(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    is_apart = new["examples_per_second_interval"][1] < old["examples_per_second_interval"][0]
    return is_apart and new["examples_per_second"] < (1 - NOISE) * old["examples_per_second"]


def _sentence(new: Mapping[str, Any], old: Mapping[str, Any]) -> str:
    return f"{new['name']}: {_span(new)} examples/s; it was {_span(old)}"


def _span(setting: Mapping[str, Any]) -> str:
    low, high = setting["examples_per_second_interval"]
    return f"{rate_text(setting['examples_per_second'])} ({rate_text(low)} to {rate_text(high)})"
