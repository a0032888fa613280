"""Results made of numbers that were never measured: what a bench computes from its trials is arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from distkeras.config import Config, config_from_mapping
from distkeras.measurement.ablation import Measurement
from distkeras.measurement.plan import Plan, Trial, make_plan
from distkeras.measurement.result import make_result

CONFIG: dict[str, Any] = {
    "name": "mine",
    "task": {"kind": "tabular_classification"},
    "data": {"source": {"kind": "csv", "path": "table.csv", "label": "y"}},
    "model": {"builder": "mlp"},
    "training": {"global_batch_size": 32},
}
WHERE: dict[str, Any] = {
    "machine": {"platform": "Linux", "cpu": "a CPU", "num_cores": 2, "memory_bytes": 2**33, "gpus": []},
    "versions": {"python": "3.11"},
    "git": None,
    "load_average": 0.1,
    "command": ["distkeras", "bench", "--config", "mine.yaml"],
}


@pytest.fixture
def make_config() -> Callable[..., Config]:
    """Returns a config with some sections changed."""

    def make(engine: str = "tensorflow", **sections: Mapping[str, Any]) -> Config:
        changed = {name: {**CONFIG.get(name, {}), **keys} for name, keys in sections.items()}
        mapping = {**CONFIG, "engine": engine, **changed}
        return config_from_mapping(mapping, origin="test", base_folder=Path("/data"))

    return make


def measured(trial: Trial, milliseconds: float, **changes: Any) -> Measurement:
    """Returns a trial each of whose processes took so long a step."""
    rate = 1000 * trial.batch_size / milliseconds
    rank = {
        "num_steps": 100,
        "num_examples": 100 * trial.batch_size,
        "seconds": 0.1 * milliseconds,
        "examples_per_second": rate,
        "step_milliseconds": dict.fromkeys(("p50", "p90", "p99"), milliseconds),
        "deviation_milliseconds": 0.0,
        "input_wait_ratio": 0.0,
        "warm_up_seconds": 1.0,
        "cpu_seconds": 1.0,
        "part_milliseconds": {"steps": milliseconds, "commits": 0.0, "validation": 0.0, "logging": 0.0},
        "joules": None,
        "steps_per_epoch": 100,
        "peak_memory_bytes": 2**29,
        "num_trainable_parameters": 1000,
        "gradient_bytes": 4000,
        "bucket_bytes": 2**22,
        "device": "cpu",
    }
    return Measurement(trial, [{"rank": index, **rank, **changes} for index in range(trial.num_processes)])


def _unequal(one: Measurement, milliseconds: Sequence[Sequence[float]]) -> Measurement:
    """Returns a trial whose processes took as long as is said of its pass, if that is."""
    taken = milliseconds[one.trial.index] if milliseconds else [1000 * value for value in one.seconds_by_rank]
    rates = [1000 * one.trial.batch_size / value for value in taken]
    return Measurement(
        one.trial,
        [{**rank, "examples_per_second": rate} for rank, rate in zip(one.ranks, rates, strict=True)],
    )


@pytest.fixture
def measured_trial() -> Callable[..., Measurement]:
    """Returns `measured`, for tests that make trials of their own."""
    return measured


@pytest.fixture
def make_measured() -> Callable[..., tuple[Plan, list[Measurement]]]:
    """Returns a plan and its trials, measured, from the milliseconds of each way of training, pass by pass."""

    def make(config: Config, milliseconds: Mapping[str, list[float]], **options: Any) -> Any:
        plan = make_plan(config, num_passes=len(milliseconds["real"]), **options)
        trials = [trial for trial in plan.trials() if trial.ablation in milliseconds]
        return plan, [measured(trial, milliseconds[trial.ablation][trial.index]) for trial in trials]

    return make


@pytest.fixture
def make_result_of(make_config: Any, make_measured: Any) -> Callable[..., dict[str, Any]]:
    """Returns the result of a bench from the milliseconds of each way of training; of `apart` those of each worker."""

    def make(
        milliseconds: Mapping[str, list[float]],
        load_average: float = 0.1,
        apart: Sequence[Sequence[float]] = (),
        **options: Any,
    ) -> dict[str, Any]:
        config = make_config()
        plan, measurements = make_measured(config, milliseconds, **options)
        measurements = [
            _unequal(one, apart) if one.trial.ablation == "apart" else one for one in measurements
        ]
        return make_result(config, plan, measurements, {**WHERE, "load_average": load_average})

    return make
