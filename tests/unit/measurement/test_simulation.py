"""A measured result put into the cost model."""

import json
import math

import pytest

from distkeras.errors import ConfigError
from distkeras.measurement.cost_model import BACKWARD_SHARE, predict
from distkeras.measurement.network import JAX_CPU, NCCL, Network, between_cpus
from distkeras.measurement.simulation import CPU_OVERLAP, explanation, facts_of, link_of, simulate, text_rows

LINK = Network(bandwidth=100e9 / 8, latency=1e-5)
TWO = {"real": [9.2], "one_batch": [9.0], "bare": [9.0], "apart": [4.0], "large": [8.0], "alone": [5.0]}


def test_one_workers_step_is_taken_from_where_workers_did_not_talk(make_result_of):
    facts = facts_of(make_result_of(TWO, workers=[2]))
    assert facts.batch_size == 16
    assert facts.compute_seconds == pytest.approx(0.004)
    assert (facts.gradient_bytes, facts.element_bytes) == (4000, 4)
    assert facts.input_examples_per_second == math.inf


def test_what_input_gives_is_known_where_a_step_is_longer_for_it(make_result_of):
    facts = facts_of(make_result_of({"real": [10.0], "one_batch": [5.0], "bare": [5.0], "large": [9.0]}))
    assert facts.compute_seconds == pytest.approx(0.005)
    assert facts.input_examples_per_second == pytest.approx(3200)
    # Commits and validation are no input, however long they take.
    kept = facts_of(make_result_of({"real": [10.0], "one_batch": [10.0], "bare": [2.0]}))
    assert kept.input_examples_per_second == math.inf
    # Of two workers 5 ms compute and 2 exchange; 3 wait for input, which takes 8 beside the exchange.
    both = facts_of(
        make_result_of(
            {**TWO, "real": [10.0], "one_batch": [7.0], "bare": [7.0], "apart": [5.0]}, workers=[2]
        )
    )
    assert both.input_examples_per_second == pytest.approx(16 / 0.008)


def test_gradients_are_as_large_as_they_travel(make_result_of):
    result = make_result_of(TWO, workers=[2])
    result["config"]["topology"]["reduction"] = "bfloat16"
    facts = facts_of(result)
    assert (facts.gradient_bytes, facts.element_bytes) == (2000, 2)
    result["config"]["topology"]["reduction"] = {"every_steps": 50}
    with pytest.raises(ConfigError, match="meet only every so many steps are not modelled"):
        facts_of(result)


def test_jax_between_cpus_is_not_taken_for_tensorflow(make_result_of):
    result = make_result_of(TWO, workers=[2])
    result["setting"]["engine"] = "jax"
    link = link_of([result], 1e9 / 8, 0.002)
    assert link.network == Network(bandwidth=1e9 / 8, latency=0.002, algorithms=JAX_CPU)
    assert link.description.endswith("what JAX's sums between CPUs leave of these is not known")
    with pytest.raises(ConfigError, match="different devices or engines"):
        link_of([result, make_result_of(TWO, workers=[2])])


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


def test_twice_the_batch_takes_what_four_times_the_batch_says(make_result_of):
    facts = facts_of(make_result_of(TWO, workers=[2]))
    # 4 ms, and 8 on four times the batch: a third of the difference more.
    assert facts.doubled_compute_seconds == pytest.approx(0.004 + 0.004 / 3)


def test_the_model_is_shown_beside_published_figures(make_result_of):
    simulation = simulate(make_result_of(TWO, workers=[2]), LINK, [8])
    assert simulation["published"].startswith("This is a model. Beside ")


def test_the_exchange_overlaps_what_was_seen_to_overlap(make_result_of):
    result = make_result_of(TWO, workers=[2])
    assert facts_of(result).overlap == CPU_OVERLAP == 0
    assert facts_of(on_gpu(result)).overlap == BACKWARD_SHARE


def test_a_curve_goes_from_one_worker_to_the_most(make_result_of):
    result = make_result_of(TWO, workers=[2])
    curve = simulate(result, LINK, [8, 512])["curve"]
    assert curve[0] == [1, 1.0]
    assert curve[-1][0] == 512
    assert len(curve) <= 61
    numbers = [number for number, _ in curve]
    assert numbers == sorted(set(numbers))
    assert [number for number, _ in simulate(result, LINK, [1])["curve"]] == [1]


def test_a_named_link_is_used_as_it_is_between_gpus(make_result_of):
    result = on_gpu(make_result_of(TWO, workers=[2]))
    link = link_of([result], 25e9 / 8, 5e-6)
    assert link.network == Network(bandwidth=25e9 / 8, latency=5e-6, algorithms=NCCL)
    assert link.description == "links of 25 Gb/s, 5 us that nobody shares"


def test_between_cpus_a_named_link_carries_tensorflows_sums(make_result_of):
    link = link_of([make_result_of(TWO, workers=[2])], 1e9 / 8, 0.002)
    assert link.network == between_cpus(1e9 / 8, 0.002)
    assert link.description.startswith("links of 1 Gb/s, 2 ms that nobody shares; of these TensorFlow's sums")
    assert "4.35 ms a message" in link.description


@pytest.mark.parametrize("named", [{}, {"latency": 10e-6}, {"bandwidth": 100e9 / 8}])
def test_what_is_not_named_is_assumed(make_result_of, named):
    assert link_of([make_result_of(TWO, workers=[2])], **named).network == between_cpus(100e9 / 8, 10e-6)


def sized(result, gradient_bytes, network):
    """Returns the result of a model of another size, as it would be on a network."""
    result["step"]["gradient_bytes"] = gradient_bytes
    result["step"]["num_trainable_parameters"] = gradient_bytes // 4
    seconds = predict(facts_of(result), network, result["setting"]["num_workers"]).step_seconds
    result["ablations"]["bare"] = 1000 * seconds
    return result


def on_gpu(result):
    result["step"]["device"] = "gpu"
    return result


def sizes(make_result_of, network):
    return [
        sized(make_result_of(TWO, workers=[2]), size, network) for size in (40_000, 4_000_000, 40_000_000)
    ]


def test_several_results_show_the_network_between_them(make_result_of):
    results = sizes(make_result_of, between_cpus(1e9 / 8, 0.002))
    alone = make_result_of({"real": [10.0], "one_batch": [9.0], "bare": [9.0], "large": [9.0]})
    link = link_of([alone, *results])
    assert link.network.bandwidth == pytest.approx(1e9 / 8)
    assert link.network.latency == pytest.approx(0.002)
    assert link.description.startswith("the network that was measured: 3 measured steps fit a network of ")
    simulation = simulate(alone, link.network, [2], link.description)
    assert "errors of up to 0% of a step; input comes evenly" in explanation(simulation)
    # What is named counts, whatever was measured.
    assert link_of(results, latency=1e-5).network == between_cpus(100e9 / 8, 1e-5)


def test_gpus_show_their_network_as_it_is(make_result_of):
    network = Network(bandwidth=25e9 / 8, latency=5e-5)
    results = [on_gpu(make_result_of(TWO, workers=[2])) for _ in range(3)]
    for result, size in zip(results, (40_000, 40_000_000, 400_000_000), strict=True):
        sized(result, size, network)
    assert link_of(results).network.bandwidth == pytest.approx(25e9 / 8)
    assert link_of(results).network.latency == pytest.approx(5e-5)


def test_a_link_without_an_end_is_json(make_result_of):
    network = Network(bandwidth=math.inf, latency=0)
    assert simulate(make_result_of(TWO, workers=[2]), network, [8])["bandwidth_bytes_per_second"] is None


def test_results_that_do_not_show_a_network_are_refused(make_result_of):
    alike = [make_result_of(TWO, workers=[2]) for _ in range(2)]
    with pytest.raises(ConfigError, match="do not tell the latency"):
        link_of(alike)


def test_results_of_different_devices_are_refused(make_result_of):
    results = [make_result_of(TWO, workers=[2]), on_gpu(make_result_of(TWO, workers=[2]))]
    with pytest.raises(ConfigError, match="different devices") as caught:
        link_of(results)
    assert caught.value.place == "--from"
