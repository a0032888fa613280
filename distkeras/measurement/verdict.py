"""The verdict: what limits training, in one sentence with its numbers, and what to do about it. A pure function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from distkeras.measurement.passes import LEAST_GAIN
from distkeras.measurement.remedies import (
    Remedy,
    Situation,
    remedy_for_communication,
    remedy_for_compute,
    remedy_for_host,
    remedy_for_input,
    remedy_for_keeping,
)
from distkeras.measurement.shares import Shares
from distkeras.observability.formats import percent_text

Bound = Literal["input", "compute", "communication", "host"]

# Computing is what training is for: another share that is a third of the step is named before it, if something can be
# done about that share. Below a tenth nothing is to be won.
WORTH_NAMING = 0.3
WORTH_SAYING = 0.1


@dataclass(frozen=True)
class Verdict:
    """What limits training.

    Attributes:
        bound: The largest share of a step that something can be done about; commits and logging count as the host's.
        sentence: The bound with its numbers, the remedy, and what is to be expected of it.
        remedy: What to do; None: nothing that the config could do.
    """

    bound: Bound
    sentence: str
    remedy: Remedy | None


@dataclass(frozen=True)
class _Candidate:
    bound: Bound
    share: float
    said: str
    remedy: Remedy | None


def judge(shares: Shares, situation: Situation) -> Verdict:
    """Returns the verdict on a setting that was taken apart.

    Args:
        shares: What a step's time goes into.
        situation: What else is known.
    """
    candidates = sorted(_candidates(shares, situation), key=lambda one: one.share, reverse=True)
    compute = _Candidate(
        "compute", shares.compute, "of a step computes", remedy_for_compute(shares, situation)
    )
    first = candidates[0]
    comes_first = first.share >= WORTH_NAMING and _helps(first) and not _helps(compute)
    named = first if first.share > compute.share or comes_first else compute
    others = [one for one in candidates if one is not named and one.share >= WORTH_SAYING]
    return Verdict(
        named.bound, _sentence(named, others, shares, situation), named.remedy if _helps(named) else None
    )


def _candidates(shares: Shares, situation: Situation) -> list[_Candidate]:
    host = _Candidate(
        "host",
        shares.host + shares.keeping,
        _host_text(shares),
        _remedy_for_both_parts(shares, situation),
    )
    waiting = ""
    if shares.waiting >= 0.01:
        waiting = f" (at least {percent_text(shares.waiting)} waits for the slowest worker)"
    return [
        _Candidate(
            "input", shares.input, _input_text(shares, situation), remedy_for_input(shares, situation)
        ),
        _Candidate(
            "communication",
            shares.communication,
            f"of a step is spent between the workers{waiting}",
            remedy_for_communication(shares, situation),
        ),
        host,
    ]


def _remedy_for_both_parts(shares: Shares, situation: Situation) -> Remedy | None:
    """Returns what gains most of the host's two parts; where that is not known, what helps against the larger."""
    fixed, kept = remedy_for_host(shares, situation), remedy_for_keeping(shares, situation)
    larger, smaller = (kept, fixed) if shares.keeping >= shares.host else (fixed, kept)
    if larger is None or smaller is None or larger.gain is None:
        return larger
    return larger if larger.gain >= (smaller.gain or 0.0) else smaller


def _input_text(shares: Shares, situation: Situation) -> str:
    waits = min(situation.input_wait_ratio, shares.input)
    if waits > 0.9 * shares.input:
        return "of a step waits for input"
    # Where it is made on the cores that compute, it also takes time from them.
    return (
        f"of a step goes into input ({percent_text(waits)} waits for it, the rest shares the cores with it)"
    )


def _host_text(shares: Shares) -> str:
    if shares.keeping < 0.01:
        return "of a step is what it costs whatever its batch"
    parts = {
        "commits": shares.commits,
        "validation": shares.validation,
        "logging and the turn of epochs": shares.logging,
        "a fixed cost of each step": shares.host,
    }
    named = sorted((-share, name) for name, share in parts.items() if share >= 0.01)
    return "of a step is not the model: " + ", ".join(
        f"{percent_text(-share)} {name}" for share, name in named
    )


def _beyond_config(bound: Bound, shares: Shares, situation: Situation) -> str:
    if bound == "input":
        return "more CPU cores, or faster storage,"
    if bound == "communication":
        return "a faster network"
    if bound == "host" and shares.keeping >= shares.host:
        return "longer epochs, of more examples,"
    return "a faster GPU, or more of them," if situation.on_gpu else "more or faster cores, or a GPU,"


def _helps(candidate: _Candidate) -> bool:
    remedy = candidate.remedy
    return remedy is not None and (remedy.gain is None or remedy.gain >= LEAST_GAIN)


def _sentence(named: _Candidate, others: list[_Candidate], shares: Shares, situation: Situation) -> str:
    remedy = f"nothing in the config makes it faster: {_beyond_config(named.bound, shares, situation)} would"
    if named.remedy is not None and _helps(named):
        remedy = f"{named.remedy.text}: {named.remedy.gain_text}"
    text = f"{named.bound}-bound: {percent_text(named.share)} {named.said}; {remedy}."
    if others:
        said = ", ".join(f"{one.bound} {percent_text(one.share)}" for one in others)
        text += f" Also: {said}."
    return text
