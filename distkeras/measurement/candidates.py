"""Values that were tried for one key of a config, and which of them is chosen."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distkeras.config import Config, config_from_mapping, to_mapping
from distkeras.config.documents import value_at
from distkeras.config.overrides import Override, apply_overrides
from distkeras.measurement.ablation import Measurement
from distkeras.measurement.passes import LEAST_GAIN, gains, is_faster


@dataclass
class Candidate:
    """A value that was tried, or could not be.

    Attributes:
        value: What the key was.
        measured: What was measured, pass by pass.
        refusal: Why it was not measured; None: it was.
    """

    value: Any
    measured: list[Measurement] = field(default_factory=list[Measurement])
    refusal: str | None = None

    @property
    def rates(self) -> list[float]:
        """Examples a second, pass by pass."""
        return [one.examples_per_second for one in self.measured]

    @property
    def peak_memory_bytes(self) -> int:
        """Most resident memory of a process; 0: it was not measured."""
        return max((rank["peak_memory_bytes"] for one in self.measured for rank in one.ranks), default=0)

    @property
    def rate(self) -> float:
        """The median of the rates."""
        return statistics.median(self.rates)


@dataclass(frozen=True)
class Choice:
    """What became of one key.

    Attributes:
        key: Its dotted name.
        before: Its value before.
        chosen: Its value now.
        reason: Why, in a few words.
        candidates: What was tried, in the order of preference.
    """

    key: str
    before: Any
    chosen: Any
    reason: str
    candidates: Sequence[Candidate]

    @property
    def measured(self) -> Measurement | None:
        """The last that was measured of what was chosen; None: nothing was."""
        return next(
            (one.measured[-1] for one in self.candidates if one.value == self.chosen and one.measured), None
        )


def changed(config: Config, key: str, value: Any) -> Config:
    """Returns a config with another value at a dotted key.

    Raises:
        InvalidConfigError: If that is no valid config.
    """
    override = Override(f"{key}={value}", tuple(key.split(".")), value)
    document = apply_overrides(to_mapping(config), [override])
    return config_from_mapping(document, origin=f"{config.name}, with {key}: {value}", base_folder=Path.cwd())


def value_text(value: Any) -> str:
    """Returns a value as a config file would have it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def value_in(config: Config, key: str) -> Any:
    """Returns the value at a dotted key."""
    return value_at(to_mapping(config), key.split("."))


def untried(config: Config, key: str, reason: str) -> Choice:
    """Returns that a key stays as it is, with nothing tried."""
    value = value_in(config, key)
    return Choice(key, value, value, reason, ())


def choose(key: str, before: Any, candidates: Sequence[Candidate]) -> Choice:
    """Returns the first candidate that is nearly as fast as the fastest; what it was before, if that is one."""
    measured = [one for one in candidates if one.refusal is None]
    was = next((one for one in measured if one.value == before), None)
    best = max(measured, key=lambda one: one.rate, default=None)
    if best is None or (was is not None and not is_faster(best.rates, was.rates)):
        return Choice(key, before, before, _comparison(candidates, was), candidates)
    chosen = next(one for one in measured if best.rate < LEAST_GAIN * one.rate)
    return Choice(key, before, chosen.value, _comparison(candidates, was), candidates)


def _comparison(candidates: Sequence[Candidate], was: Candidate | None) -> str:
    """Returns how fast each candidate is, against what it was before."""
    return ", ".join(_outcome(one, was) for one in candidates if one is not was)


def _outcome(candidate: Candidate, was: Candidate | None) -> str:
    name = value_text(candidate.value)
    if candidate.refusal is not None:
        return f"{name}: {candidate.refusal}"
    if was is None:
        return f"{name}: {candidate.rate:,.3g} examples/s"
    return f"{name}: {statistics.median(gains(candidate.rates, was.rates)):.2f}x"
