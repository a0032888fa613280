"""The verdict names the largest share that something can be done about, what to do, and what that gives."""

from dataclasses import fields, replace

import pytest

from distkeras.measurement.plan import Setting
from distkeras.measurement.remedies import Situation
from distkeras.measurement.shares import Shares
from distkeras.measurement.verdict import judge

ONE, TWO = Setting(1, 32, "float32"), Setting(2, 32, "float32")


def shares(**named):
    named = {**dict.fromkeys((field.name for field in fields(Shares)), 0.0), **named}
    others = sum(value for name, value in named.items() if name not in ("waiting", "lagging"))
    return Shares(**{**named, "compute": 1 - others})


def photos(**keys):
    source = {"kind": "image_folder", "path": "photos"}
    return {
        "task": {"kind": "image_classification"},
        "data": {"source": source, "image": {"size": [8, 8]}, **keys},
    }


def test_photographs_that_are_waited_for_are_cached(make_config):
    verdict = judge(shares(input=0.62), Situation(make_config(**photos()), ONE, input_wait_ratio=0.6))
    assert verdict.bound == "input"
    assert verdict.sentence == (
        "input-bound: 62% of a step waits for input; cache the decoded images (data.cache: {where: memory}, "
        "or disk if they are too many): at most 2.6x."
    )
    assert verdict.remedy.gain == pytest.approx(1 / 0.38)


def test_input_that_is_made_on_the_cores_that_compute_is_told_from_waiting(make_config):
    situation = Situation(make_config(**photos()), ONE, input_wait_ratio=0.2)
    text = judge(shares(input=0.62), situation).sentence
    assert "62% of a step goes into input (20% waits for it, the rest shares the cores with it)" in text


def test_what_is_cached_already_is_not_cached_again(make_config):
    flips = [{"kind": "rotation", "degrees": 10.0}]
    config = photos(cache={"where": "memory"})
    config["data"]["image"] = {"size": [8, 8], "augment": flips}
    text = judge(shares(input=0.6), Situation(make_config(**config), ONE)).sentence
    assert "data.cache" not in text
    assert "use fewer random changes, or more CPU cores: at most 2.5x" in text
    text = judge(shares(input=0.6), Situation(make_config(**config), ONE, on_gpu=True, has_gpu=True)).sentence
    assert "data.image.augment_on: device" in text


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"kind": "parquet", "path": "t", "label": "y"}, "though it is above 1 GiB"),
        (
            {"kind": "parquet", "path": "t", "label": "y", "in_memory": False},
            "hold the table in memory (data.source",
        ),
        ({"kind": "csv", "path": "t.csv", "label": "y"}, "training.global_batch_size: 128 instead of 32"),
        ({"kind": "ray_data", "function": "m:f", "label": "y"}, "give Ray Data more CPUs"),
    ],
)
def test_the_remedy_for_input_is_the_sources(make_config, source, said):
    verdict = judge(shares(input=0.5, host=0.4), Situation(make_config(data={"source": source}), ONE))
    assert verdict.bound == "input"
    assert said in verdict.sentence


def test_a_stream_is_made_faster_or_stored(make_config):
    config = make_config(
        data={
            "source": {"kind": "generator", "function": "my_data:examples", "shape": [3], "num_classes": 2},
            "split": {"validation": 0, "test": 0},
        },
        training={"num_steps": 10},
    )
    assert "make my_data:examples faster" in judge(shares(input=0.9), Situation(config, ONE)).sentence


def test_tiny_steps_want_a_larger_batch(make_config):
    verdict = judge(shares(host=0.8), Situation(make_config(), ONE))
    assert verdict.bound == "host"
    assert "80% of a step is what it costs whatever its batch" in verdict.sentence
    assert "training.global_batch_size: 128 instead of 32" in verdict.sentence
    assert verdict.remedy.gain == pytest.approx(1 / 0.4)  # a quarter of the 80% is left


def test_steps_that_python_calls_one_by_one_run_in_one_call(make_config):
    config = make_config(training={"steps_per_execution": 1})
    assert "steps_per_execution: auto" in judge(shares(host=0.8), Situation(config, ONE)).sentence


def test_a_commit_every_step_is_the_hosts(make_config):
    config = make_config(checkpoint={"every_steps": 1})
    verdict = judge(shares(commits=0.7, logging=0.02, host=0.1), Situation(config, ONE))
    assert verdict.bound == "host"
    assert (
        "82% of a step is not the model: 70% commits, 10% a fixed cost of each step, 2% log"
        in verdict.sentence
    )
    assert "checkpoint.every_steps: 10 instead of 1" in verdict.sentence
    assert verdict.remedy.gain == pytest.approx(1 / 0.37)


@pytest.mark.parametrize(
    ("part", "sections", "said"),
    [
        ("logging", {"logging": {"every_steps": 1}}, "logging.every_steps: auto): at most 2.7x"),
        ("commits", {}, "commit less often (checkpoint.every_epochs: 10 instead of 1): at most 2.7x"),
        ("commits", {"checkpoint": {"every_epochs": 5}}, "checkpoint.every_epochs: 50 instead of 5"),
        ("commits", {"checkpoint": {"every_steps": 15}}, "checkpoint.every_epochs: 10 instead of 1"),
        ("validation", {}, "validate on fewer examples (data.split.validation): at most 3.3x"),
        (
            "validation",
            {"data": {"validation": {"kind": "csv", "path": "v.csv", "label": "y"}}},
            "(data.validation)",
        ),
        ("logging", {}, "nothing in the config makes it faster: longer epochs, of more examples, would"),
    ],
)
def test_of_what_is_kept_too_often_the_part_that_takes_longest_is_done_less(
    make_config, part, sections, said
):
    kept = shares(**{part: 0.7, "commits": 0.7 if part == "commits" else 0.02})
    situation = Situation(make_config(**sections), ONE, steps_per_epoch=15)
    assert said in judge(kept, situation).sentence


def test_of_the_hosts_two_parts_the_remedy_that_gains_more_is_named(make_config):
    config = make_config()  # a batch of 32
    both = shares(logging=0.3, host=0.25)
    text = judge(both, Situation(config, ONE)).sentence
    assert "55% of a step is not the model: 30% logging" in text
    assert (
        "training.global_batch_size: 128 instead of 32" in text
    )  # nothing is known against logging this rarely
    unknown = make_config(training={"steps_per_execution": 1})
    assert (
        "run more steps in one call" in judge(shares(host=0.6, commits=0.1), Situation(unknown, ONE)).sentence
    )


def test_workers_that_exchange_too_often_get_larger_batches(make_config):
    verdict = judge(shares(communication=0.6, waiting=0.05), Situation(make_config(), TWO, efficiency=0.6))
    assert verdict.bound == "communication"
    assert (
        "60% of a step is spent between the workers (at least 5% waits for the slowest worker)"
        in verdict.sentence
    )
    assert "training.global_batch_size: 128" in verdict.sentence


def test_workers_that_are_slower_together_than_one_alone_are_too_many(make_config):
    verdict = judge(shares(communication=0.9), Situation(make_config(), TWO, efficiency=0.1))
    assert "use fewer workers: one alone trains faster than the 2 together: expected 5.0x" in verdict.sentence


def test_what_was_measured_counts_before_what_is_computed(make_config):
    large = replace(TWO, global_batch_size=128)
    rates = [(TWO, [100.0]), (large, [120.0]), (ONE, [190.0])]
    text = judge(
        shares(communication=0.9), Situation(make_config(), TWO, efficiency=0.6, rates=rates)
    ).sentence
    assert "use 1 of the 2 workers: expected 1.9x" in text
    text = judge(
        shares(communication=0.9), Situation(make_config(), TWO, efficiency=0.6, rates=rates[:2])
    ).sentence
    assert "send gradients in half precision (topology.reduction: bfloat16): at most 1.8x" in text
    alone = Situation(
        make_config(), ONE, rates=[(ONE, [100.0]), (replace(ONE, global_batch_size=128), [310.0])]
    )
    assert "global_batch_size: 128 instead of 32): expected 3.1x" in judge(shares(host=0.8), alone).sentence


def test_a_slow_worker_is_named(make_config):
    situation = Situation(make_config(), TWO, efficiency=0.7, slowest_rank=1)
    verdict = judge(shares(communication=0.5, waiting=0.4, lagging=0.3), situation)
    assert verdict.bound == "communication"
    assert (
        "most of it is waiting for rank 1: look at what slows its machine: at most 1.4x" in verdict.sentence
    )
    jitter = judge(shares(communication=0.5, waiting=0.4, lagging=0.01), situation)
    assert "rank 1" not in jitter.sentence
    assert "at least 40% waits for the slowest worker" in jitter.sentence


def test_computing_on_a_cpu_is_what_it_is(make_config):
    verdict = judge(shares(host=0.15), Situation(make_config(), ONE))
    assert verdict.bound == "compute"
    assert verdict.remedy is None
    assert verdict.sentence == (
        "compute-bound: 85% of a step computes; nothing in the config makes it faster: more or faster cores, or a "
        "GPU, would. Also: host 15%."
    )


def test_computing_on_a_gpu_in_float32_can_be_halved(make_config):
    situation = Situation(make_config(), ONE, on_gpu=True, has_gpu=True)
    assert "training.precision: mixed_bfloat16" in judge(shares(), situation).sentence
    half = replace(situation, setting=Setting(1, 32, "mixed_bfloat16"))
    assert judge(shares(), half).remedy is None


def test_a_gpu_that_is_not_used_is_named(make_config):
    situation = Situation(make_config(topology={"devices": "cpu"}), ONE, has_gpu=True)
    assert "topology.devices: gpu" in judge(shares(), situation).sentence


def test_a_precision_that_was_measured_to_be_faster_is_named_with_its_gain(make_config):
    half = Setting(1, 32, "mixed_bfloat16")
    situation = Situation(make_config(), ONE, rates=[(ONE, [100.0]), (half, [180.0])])
    assert "train in mixed_bfloat16" in judge(shares(), situation).sentence
    assert "expected 1.8x" in judge(shares(), situation).sentence
    slower = replace(situation, rates=[(ONE, [100.0]), (half, [104.0])])
    assert judge(shares(), slower).remedy is None
    noise = replace(situation, rates=[(ONE, [100.0, 130.0, 90.0]), (half, [120.0, 95.0, 115.0])])
    assert judge(shares(), noise).remedy is None


def test_a_third_of_a_step_with_a_remedy_is_named_before_computing_without_one(make_config):
    assert judge(shares(input=0.35), Situation(make_config(**photos()), ONE)).bound == "input"
    assert judge(shares(input=0.25), Situation(make_config(**photos()), ONE)).bound == "compute"


def test_the_gain_is_never_without_bounds(make_config):
    assert judge(shares(input=1.0), Situation(make_config(**photos()), ONE)).remedy.gain == pytest.approx(100)
