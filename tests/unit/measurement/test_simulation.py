"""A measured result put into the cost model."""

import json
import math

import pytest

from distkeras.errors import ConfigError
from distkeras.measurement.network import Network
from distkeras.measurement.simulation import explanation, facts_of, simulate, text_rows

LINK = Network(bandwidth=100e9 / 8, latency=1e-5)
TWO = {"real": [10.0], "one_batch": [9.0], "bare": [9.0], "apart": [4.0], "large": [8.0], "alone": [5.0]}


def test_one_workers_step_is_taken_from_where_workers_did_not_talk(make_result_of):
    facts = facts_of(make_result_of(TWO, workers=[2]))
    assert facts.batch_size == 16
    assert facts.compute_seconds == pytest.approx(0.004)
    assert (facts.gradient_bytes, facts.element_bytes) == (4000, 4)
    assert facts.input_examples_per_second == math.inf


def test_input_that_is_waited_for_is_as_fast_as_training(make_result_of):
    result = make_result_of({"real": [10.0], "one_batch": [5.0], "bare": [5.0], "large": [9.0]})
    result["input_wait_ratio"] = 0.5
    facts = facts_of(result)
    assert facts.compute_seconds == pytest.approx(0.005)
    assert facts.input_examples_per_second == pytest.approx(3200)


def test_more_workers_are_modelled_and_said_to_be(make_result_of):
    simulation = simulate(make_result_of(TWO, workers=[2]), LINK, [8, 512])
    assert json.loads(json.dumps(simulation)) == simulation
    assert [one["num_workers"] for one in simulation["workers"]] == [8, 512]
    first, last = simulation["workers"]
    assert first["efficiency"] >= last["efficiency"]
    assert explanation(simulation).startswith("a model, nothing of it was measured: ")
    assert "100 Gb/s, 10 us" in explanation(simulation)
    assert [row[0] for row in text_rows(simulation)] == ["8", "512"]
    assert simulation["knee"]
    assert simulation["knob"]


def test_a_result_of_another_version_is_refused(make_result_of):
    result = make_result_of(TWO, workers=[2])
    del result["step"]["gradient_bytes"]
    with pytest.raises(ConfigError, match="lacks what a simulation needs"):
        facts_of(result)


def test_twice_the_batch_takes_what_four_times_the_batch_says(make_result_of):
    facts = facts_of(make_result_of(TWO, workers=[2]))
    # 4 ms, and 8 on four times the batch: a third of the difference more.
    assert facts.doubled_compute_seconds == pytest.approx(0.004 + 0.004 / 3)


def test_the_model_is_shown_beside_published_figures(make_result_of):
    simulation = simulate(make_result_of(TWO, workers=[2]), LINK, [8])
    assert simulation["published"].startswith("This is a model. Beside ")
