"""A bench's result as one JSON object: what `--json` prints, what `--out` keeps and `--compare` reads."""

from __future__ import annotations

import datetime
import os
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distkeras.config import Config
from distkeras.config.canonical import to_mapping
from distkeras.measurement.ablation import Measurement
from distkeras.measurement.passes import LEAST_GAIN, median_interval
from distkeras.measurement.plan import Ablation, Plan, Setting
from distkeras.measurement.remedies import Situation
from distkeras.measurement.shares import Parts, StepTimes, intervals, shares_of, typical
from distkeras.measurement.verdict import Verdict, judge
from distkeras.observability.environment import describe_environment
from distkeras.observability.formats import percent_text

FORMAT = 2
# As shares of the cores, and of a step: what makes numbers doubtful.
BUSY = 0.5
UNSTEADY = 0.2
_OF_MACHINE = ("platform", "cpu", "num_cores", "memory_bytes", "gpus")


def machine_and_versions(command: Sequence[str]) -> dict[str, Any]:
    """Returns what a result says of where it was measured.

    Args:
        command: The command line, program first.
    """
    environment = describe_environment(command, Path.cwd())
    return {
        "machine": {name: environment[name] for name in _OF_MACHINE},
        "versions": {"python": environment["python"], **environment["versions"]},
        "git": environment["git"],
        "command": environment["command"],
        "load_average": os.getloadavg()[0],
    }


def make_result(
    config: Config, plan: Plan, measurements: Sequence[Measurement], where: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the result of a bench.

    Args:
        config: The user's config.
        plan: What was to be measured.
        measurements: What was measured.
        where: `machine_and_versions`.
    """
    taken = _Taken(plan, measurements)
    of_passes = [shares_of(times) for times in taken.step_times()]
    shares = typical(of_passes)
    verdict = judge(shares, _situation(config, plan, taken, where))
    return {
        "kind": "bench",
        "format": FORMAT,
        "name": config.name,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **_verdict_values(verdict),
        "setting": {"name": plan.subject.name, **vars(plan.subject)},
        "examples_per_second": taken.rate(plan.subject),
        "examples_per_second_interval": list(taken.rate_interval(plan.subject)),
        "input_wait_ratio": taken.input_wait_ratio(plan.subject),
        "input_wait_interval": list(median_interval(taken.input_waits(plan.subject))),
        "scaling_efficiency": taken.efficiency(),
        "scaling_efficiency_interval": taken.efficiency_interval(),
        "slowest_rank": taken.slowest_rank(),
        "shares": shares.as_mapping(),
        "intervals": {name: list(span) for name, span in intervals(of_passes).items()},
        "step": taken.step(),
        "ablations": taken.ablations(),
        "settings": [_setting_values(setting, taken) for setting in plan.settings],
        "passes": plan.num_passes,
        "seconds": plan.seconds,
        "trials": [one.as_mapping() for one in measurements],
        **where,
        "warnings": list(_warnings(taken, where)),
        "config": to_mapping(config),
    }


class _Taken:
    """What was measured, by setting and ablation."""

    def __init__(self, plan: Plan, measurements: Sequence[Measurement]) -> None:
        self._plan, self._all = plan, measurements

    def of(self, ablation: Ablation, setting: Setting) -> list[Measurement]:
        found = [one for one in self._all if (one.trial.ablation, one.trial.setting) == (ablation, setting)]
        return sorted(found, key=lambda one: one.trial.index)

    def step_times(self) -> list[StepTimes]:
        """Returns the step times of the setting that is taken apart, pass by pass."""
        subject = self._plan.subject
        large = {one.trial.index: one for one in self.of("large", subject)}
        apart = {one.trial.index: one for one in self.of("apart", subject)}
        return [
            StepTimes(
                real.step_seconds,
                one_batch.step_seconds,
                bare.step_seconds,
                apart[index].seconds_by_rank if index in apart else (),
                apart[index].deviations if index in apart else (),
                _growth(large.get(index), apart.get(index, bare)),
                _parts(one_batch),
                _parts(real),
            )
            for index, (real, one_batch, bare) in enumerate(
                zip(
                    self.of("real", subject),
                    self.of("one_batch", subject),
                    self.of("bare", subject),
                    strict=True,
                )
            )
        ]

    def rates(self, setting: Setting) -> list[float]:
        return [one.examples_per_second for one in self.of("real", setting)]

    def rate(self, setting: Setting) -> float:
        return statistics.median(self.rates(setting))

    def rate_interval(self, setting: Setting) -> tuple[float, float]:
        return median_interval(self.rates(setting))

    def input_waits(self, setting: Setting) -> list[float]:
        return [one.input_wait_ratio for one in self.of("real", setting)]

    def input_wait_ratio(self, setting: Setting) -> float:
        return statistics.median(self.input_waits(setting))

    def efficiency(self) -> float | None:
        """Returns the examples a second of all workers as a share of as many times those of one that is alone."""
        efficiencies = self._efficiencies()
        return statistics.median(efficiencies) if efficiencies else None

    def efficiency_interval(self) -> list[float] | None:
        efficiencies = self._efficiencies()
        return list(median_interval(efficiencies)) if efficiencies else None

    def _efficiencies(self) -> list[float]:
        subject = self._plan.subject
        alone = self.of("alone", subject)
        return [
            together.examples_per_second / (subject.num_workers * one.examples_per_second)
            for together, one in zip(self.of("real", subject) if alone else [], alone, strict=True)
        ]

    def slowest_rank(self) -> int | None:
        """Returns the worker that was the slowest in every pass where they trained apart, and by more than noise."""
        apart = [one.seconds_by_rank for one in self.of("apart", self._plan.subject)]
        ranks = {seconds.index(max(seconds)) for seconds in apart}
        if len(ranks) != 1:
            return None
        lags = [max(seconds) / statistics.median_low(seconds) for seconds in apart]
        return ranks.pop() if statistics.median(lags) >= LEAST_GAIN else None

    def step(self) -> dict[str, Any]:
        """Returns a step of the setting that is taken apart: medians over the passes, of the slowest process."""
        real = self.of("real", self._plan.subject)
        names = ("p50", "p90", "p99")
        percentiles = {
            name: [max(rank["step_milliseconds"][name] for rank in one.ranks) for one in real]
            for name in names
        }
        values = [one.as_mapping() for one in real]
        first = real[0].ranks[0]
        return {
            "mean_milliseconds": 1000 * statistics.median(one.step_seconds for one in real),
            "percentile_milliseconds": {name: statistics.median(of) for name, of in percentiles.items()},
            "percentile_intervals": {name: list(median_interval(of)) for name, of in percentiles.items()},
            "deviation_milliseconds": 1000 * statistics.median(max(one.deviations) for one in real),
            "peak_memory_bytes": max(one["peak_memory_bytes"] for one in values),
            "cpu_seconds_per_1000_examples": statistics.median(
                one["cpu_seconds_per_1000_examples"] for one in values
            ),
            "joules_per_1000_examples": _median_of_known(one["joules_per_1000_examples"] for one in values),
            **{
                name: first[name]
                for name in ("num_trainable_parameters", "gradient_bytes", "bucket_bytes", "device")
            },
        }

    def ablations(self) -> dict[Ablation, float]:
        """Returns the milliseconds of a step of the setting that is taken apart, by ablation."""
        result: dict[Ablation, float] = {}
        for name in self._plan.ablations:
            found = self.of(name, self._plan.subject)
            if found:
                result[name] = 1000 * statistics.median(one.step_seconds for one in found)
        return result

    def spread(self) -> float:
        """Returns how far the passes of one trial lie apart, relative to their median; the largest of all."""
        spreads = [0.0]
        for name in self._plan.ablations:
            seconds = [one.step_seconds for one in self.of(name, self._plan.subject)]
            if seconds:
                spreads.append((max(seconds) - min(seconds)) / statistics.median(seconds))
        return max(spreads)


def _warnings(taken: _Taken, where: Mapping[str, Any]) -> Iterator[str]:
    """Yields why the numbers may be worth little."""
    load, num_cores = where["load_average"], where["machine"]["num_cores"]
    if load > BUSY * num_cores:
        yield f"the machine was busy before: {load:.1f} processes wanted its {num_cores} cores"
    spread = taken.spread()
    if spread > UNSTEADY:
        yield f"the passes of one trial differ by {percent_text(spread)}: shares below that mean little"


def _situation(config: Config, plan: Plan, taken: _Taken, where: Mapping[str, Any]) -> Situation:
    subject, step = plan.subject, taken.step()
    return Situation(
        config,
        subject,
        on_gpu=step["device"] == "gpu",
        has_gpu=bool(where["machine"]["gpus"]),
        efficiency=taken.efficiency(),
        rates=[(setting, taken.rates(setting)) for setting in plan.settings],
        input_wait_ratio=taken.input_wait_ratio(subject),
        slowest_rank=taken.slowest_rank(),
        steps_per_epoch=taken.of("real", subject)[0].ranks[0]["steps_per_epoch"],
    )


def _parts(measured: Measurement) -> Parts:
    return Parts(*map(measured.part_seconds, ("commits", "validation", "logging")))


def _growth(large: Measurement | None, small: Measurement) -> float | None:
    return large and large.median_step_seconds / small.median_step_seconds


def _verdict_values(verdict: Verdict) -> dict[str, Any]:
    remedy = verdict.remedy
    return {
        "verdict": verdict.sentence,
        "bound": verdict.bound,
        "remedy": remedy and remedy.text,
        "expected_gain": remedy and remedy.gain,
    }


def _setting_values(setting: Setting, taken: _Taken) -> dict[str, Any]:
    real = taken.of("real", setting)
    values = [one.as_mapping() for one in real]
    return {
        "name": setting.name,
        **vars(setting),
        "examples_per_second": taken.rate(setting),
        "examples_per_second_interval": list(taken.rate_interval(setting)),
        "step_milliseconds": 1000 * statistics.median(one.step_seconds for one in real),
        "input_wait_ratio": taken.input_wait_ratio(setting),
        "peak_memory_bytes": max(one["peak_memory_bytes"] for one in values),
        "cpu_seconds_per_1000_examples": statistics.median(
            one["cpu_seconds_per_1000_examples"] for one in values
        ),
        "joules_per_1000_examples": _median_of_known(one["joules_per_1000_examples"] for one in values),
    }


def _median_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
