"""What the benchmark of the cost model computes from steps that were not measured."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import scaling_model

from distkeras.measurement.network import between_cpus
from distkeras.measurement.network_fit import fit_network

LINK = between_cpus(1e8, 1e-3)


def num_bytes(model: scaling_model.Model) -> int:
    return 4 * model.num_layers * model.width * (model.width + 1)


def steps(factor: float = 1.0) -> dict[str, scaling_model.MeasuredStep]:
    """Returns steps as they would be on the link, and those that are held out so many times as long."""
    made = {}
    for name, model in (scaling_model.FITTED | scaling_model.HELD_OUT).items():
        row = {"gradient_bytes": num_bytes(model), "bucket_bytes": 4 * 1024**2, "apart_seconds": 0.01}
        step = scaling_model.measured_step({**row, "together_seconds": 1.0})
        seconds = scaling_model.seconds_of(step, LINK) * (factor if name in scaling_model.HELD_OUT else 1)
        made[name] = scaling_model.measured_step({**row, "together_seconds": seconds})
    return made


@pytest.mark.parametrize(("factor", "error"), [(1.0, 1.0), (1.25, 1.25), (0.8, 1.25)])
def test_the_error_is_how_far_held_out_steps_are_off(factor: float, error: float) -> None:
    made = steps(factor)
    assert scaling_model.worst(made, LINK) == pytest.approx(error)
    fit = fit_network([made[name] for name in scaling_model.FITTED])
    assert scaling_model.worst(made, fit.network) == pytest.approx(error)


def test_models_are_as_large_as_they_are_called() -> None:
    for name, model in (scaling_model.FITTED | scaling_model.HELD_OUT).items():
        unit = {"kB": 1e3, "MB": 1e6}[name[-2:]]
        assert f"{num_bytes(model) / unit:.0f}{name[-2:]}" == name


def test_sizes_of_every_kind_are_held_out() -> None:
    gathered, one_bucket = 1024**2 / 2, 4 * 1024**2
    for models in (scaling_model.FITTED, scaling_model.HELD_OUT):
        sizes = [num_bytes(model) for model in models.values()]
        assert [sum(map(test, sizes)) for test in (gathered.__ge__, one_bucket.__lt__)] == [1, 1]
