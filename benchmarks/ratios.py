"""Ratios of paired runs: their median, the interval around it, its target, and when one got worse."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from distkeras.measurement.comparison import NOISE
from distkeras.measurement.passes import median_interval

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Ratio:
    """A figure of one mode divided by the same figure of another, pass by pass.

    Attributes:
        above: Mode whose figure is divided.
        below: Mode whose figure divides it.
        target: What the median should reach; None: it is only shown.
        better: Whether more or less of the ratio is better.
        figure: Name of the figure; None: the benchmark's main one.
    """

    above: str
    below: str
    target: float | None = None
    better: Literal["more", "less"] = "more"
    figure: str | None = None

    def compare(self, runs: Mapping[str, Sequence[Figures]], main_figure: str) -> dict[str, Any] | None:
        """Returns median, interval and whether the target is reached; None if one of the modes was skipped.

        Args:
            runs: Figures by mode and pass.
            main_figure: Name of the figure that is compared where the ratio names none.
        """
        if self.above not in runs or self.below not in runs:
            return None
        name = self.figure or main_figure
        pairs = zip(runs[self.above], runs[self.below], strict=True)
        values = [above[name] / below[name] for above, below in pairs]
        median = statistics.median(values)
        return {
            "of": f"{name}: {self.above} / {self.below}",
            "median": median,
            "interval": list(median_interval(values)),
            "better": self.better,
            "target": self.target,
            "reached": None if self.target is None else _reaches(median, self.target, self.better),
        }


def verdict(ratio: Mapping[str, Any]) -> str:
    """Returns whether a ratio reached its target, in words: "reached" or "missed".

    Within its interval lies the true median. Where one end reaches the target and the other does not, other passes may
    say the opposite: "reached, within noise" or "missed, within noise".

    Args:
        ratio: What `Ratio.compare` returned, with a target.
    """
    target, better = ratio["target"], ratio["better"]
    low, high = (_reaches(end, target, better) for end in ratio["interval"])
    text = "reached" if ratio["reached"] else "missed"
    return text if low == high else f"{text}, within noise"


def _reaches(value: float, target: float, better: str) -> bool:
    return value >= target if better == "more" else value <= target


def num_pairs(result: Mapping[str, Any]) -> int:
    """Returns of how many passes a result is made."""
    return max(map(len, result["runs"].values()), default=0)


def find_regressions(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    """Returns a sentence for each ratio that got worse by more than noise, with intervals that do not meet.

    Args:
        new: What `Ratio.compare` returned, by name.
        old: The same of an earlier result. Ratios that only one of them has are left out; see `no_longer_measured`.
    """
    return [
        f"{name} got worse: {ratio['median']:.3g} {_span(ratio)}; it was {before['median']:.3g} {_span(before)}."
        for name, ratio in new.items()
        if ratio and (before := old.get(name)) and _is_worse(ratio, before)
    ]


def no_longer_measured(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    """Returns the names of the ratios that only the older result has: they cannot have got worse."""
    return [name for name, ratio in old.items() if ratio and not new.get(name)]


def _is_worse(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    (low, high), (old_low, old_high) = new["interval"], old["interval"]
    if new["better"] == "more":
        return high < old_low and new["median"] < old["median"] * (1 - NOISE)
    return low > old_high and new["median"] > old["median"] * (1 + NOISE)


def _span(ratio: Mapping[str, Any]) -> str:
    low, high = ratio["interval"]
    return f"({low:.3g} to {high:.3g})"
