"""What became of tuning: as JSON, as text, and as a config file that says why it is as it is."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from distkeras.config import dump_yaml
from distkeras.measurement.candidates import Candidate, Choice, value_text
from distkeras.measurement.tuning import BATCH, Tuning
from distkeras.observability.formats import rate_text

SUFFIX = "-tuned"


def as_mapping(tuning: Tuning, where: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the outcome as JSON values.

    Args:
        tuning: What became of each key.
        where: Where it was measured: `result.machine_and_versions`.
    """
    return {
        "kind": "tuning",
        "name": tuning.config.name,
        "is_faster": tuning.is_faster,
        "gain": tuning.gain,
        "gain_interval": list(tuning.gain_interval),
        "examples_per_second_before": list(tuning.before),
        "examples_per_second_after": list(tuning.after),
        "chosen": {choice.key: choice.chosen for choice in tuning.choices if choice.chosen != choice.before},
        "choices": [_choice_values(choice) for choice in tuning.choices],
        **where,
    }


def rows(tuning: Tuning) -> list[tuple[str, str, str]]:
    """Returns a row a key: its name, what it is now, and what was seen."""
    return [
        (
            choice.key,
            value_text(choice.chosen)
            + (f" (was {value_text(choice.before)})" if choice.chosen != choice.before else ""),
            choice.reason,
        )
        for choice in tuning.choices
    ]


def summary(tuning: Tuning) -> str:
    """Returns what tuning brought, in a sentence."""
    if not tuning.after:
        return "nothing that was tried is faster, the config stays as it is"
    low, high = tuning.gain_interval
    was, now = map(rate_text, map(statistics.median, (tuning.before, tuning.after)))
    if not tuning.is_faster:
        return f"all changes together are not faster ({low:.2f}x to {high:.2f}x), the config stays as it is"
    return f"{tuning.gain:.2f}x ({low:.2f} to {high:.2f}) as fast: {now} examples/s instead of {was}"


def notes(tuning: Tuning) -> list[str]:
    """Returns what a user should think of before training with it."""
    batch = next(choice for choice in tuning.choices if choice.key == BATCH)
    if not tuning.is_faster or batch.chosen == batch.before:
        return []
    return [
        f"the learning rate was chosen for batches of {batch.before}; look at it again for {batch.chosen}"
    ]


def config_file(tuning: Tuning, date: str) -> str:
    """Returns the tuned config as YAML: every key, and above them what was chosen and why.

    Args:
        tuning: What became of each key.
        date: When it was measured.
    """
    config = tuning.config.model_copy(update={"name": tuning.config.name + SUFFIX})
    said = [f"Tuned by distkeras bench --tune on {date}: {summary(tuning)}."]
    said += [f"{key}: {value}; {reason}" for key, value, reason in rows(tuning)]
    said += [f"Note: {note}." for note in notes(tuning)]
    return "".join(f"# {line}\n" for line in said) + dump_yaml(config)


def _choice_values(choice: Choice) -> dict[str, Any]:
    return {**vars(choice), "candidates": [_candidate_values(one) for one in choice.candidates]}


def _candidate_values(candidate: Candidate) -> dict[str, Any]:
    return {
        "value": candidate.value,
        "examples_per_second": candidate.rate if candidate.measured else None,
        "rates": candidate.rates,
        "peak_memory_bytes": candidate.peak_memory_bytes,
        "refusal": candidate.refusal,
    }
