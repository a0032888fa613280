"""C1: every situation is measured three ways, and only steps of microseconds have to be faster than `fit`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import c01_step_overhead as c01


def test_every_situation_has_its_modes_ratios_and_targets() -> None:
    benchmark = c01.BENCHMARK
    for name, situation in c01.SITUATIONS.items():
        ratio, bound_ratio = benchmark.ratios[f"ratio{name}"], benchmark.ratios[f"bound_ratio{name}"]
        assert {ratio.above, ratio.below, bound_ratio.above, bound_ratio.below} <= set(benchmark.modes)
        assert ratio.target == (3.0 if situation.model == "mlp" else None)
        assert (bound_ratio.target, bound_ratio.better) == (1.1, "less")
    assert [one.num_metrics for one in c01.SITUATIONS.values() if one.model == "mlp"] == [1, 0, 5, 1]


def test_the_first_epoch_does_not_count() -> None:
    marks = c01.Marks()
    marks._read = [(7.0, 9.0), (8.0, 11.0), (9.0, 13.0)]
    spent = marks.spent(c01.Situation(num_examples=100 * c01.BATCH))
    assert spent == c01.Spent(200, 2.0, 4.0)
    assert spent.figures == {
        "microseconds_per_step": pytest.approx(1e4),
        "cpu_microseconds_per_step": pytest.approx(2e4),
    }
