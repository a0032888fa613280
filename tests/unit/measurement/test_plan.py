"""Which trials there are, in which order, and what their processes train."""

from typing import get_args

import pytest

from distkeras.config import config_from_mapping, to_mapping
from distkeras.errors import ConfigError
from distkeras.measurement.plan import Ablation, Setting, Trial, config_of, make_plan


def names(plan, index=0):
    return [trial.ablation for trial in plan.trials() if trial.index == index]


def trial(ablation, workers=1, batch=32):
    return Trial(Setting(workers, batch, "float32"), ablation, 0)


def test_one_worker_is_taken_apart_in_four_ways_and_several_in_six(make_config):
    assert names(make_plan(make_config())) == ["real", "one_batch", "bare", "large"]
    assert names(make_plan(make_config(), workers=[2])) == [
        "real",
        "one_batch",
        "bare",
        "apart",
        "large",
        "alone",
    ]


def test_passes_alternate_their_direction(make_config):
    plan = make_plan(make_config(), num_passes=3)
    assert names(plan, 1) == names(plan, 0)[::-1]
    assert names(plan, 2) == names(plan, 0)


def test_every_combination_is_measured_and_the_one_with_most_workers_taken_apart(make_config):
    plan = make_plan(
        make_config(),
        workers=[1, 2],
        batch_sizes=[32, 64],
        precisions=["float32", "mixed_bfloat16"],
        num_passes=1,
    )
    assert len(plan.settings) == 8
    assert plan.subject == Setting(2, 32, "float32")
    assert len(plan.trials()) == 6 + 7
    assert {one.setting for one in plan.trials()} == set(plan.settings)


def test_what_is_not_given_is_the_configs_own(make_config):
    config = make_config(
        topology={"kind": "processes", "workers": 2}, training={"precision": "mixed_bfloat16"}
    )
    assert make_plan(config).settings == [Setting(2, 32, "mixed_bfloat16")]


def test_a_batch_that_does_not_divide_is_refused_before_anything_is_run(make_config):
    with pytest.raises(ConfigError, match="does not divide by the 3 workers"):
        make_plan(make_config(), workers=[1, 3])


def test_a_split_model_is_not_taken_apart_by_workers(make_config):
    split = {"kind": "processes", "workers": 2, "model_parallel": 2, "layout": {"kernel": [None, "model"]}}
    config = make_config(topology=split, engine="jax")
    with pytest.raises(ConfigError, match="split over workers"):
        make_plan(config)


def test_apart_each_worker_has_its_part_of_the_batch(make_config):
    sizes = {
        ablation: trial(ablation, 2).batch_size for ablation in ("real", "bare", "apart", "large", "alone")
    }
    assert sizes == {"real": 32, "bare": 32, "apart": 16, "large": 64, "alone": 16}
    assert trial("large").batch_size == 128
    assert [trial(name, 2).num_processes for name in ("bare", "apart", "alone")] == [2, 2, 1]


def test_a_real_trial_changes_nothing_but_the_end(make_config):
    config = make_config(training={"early_stopping": {}}, checkpoint={"every_steps": 3})
    changed = config_of(config, trial("real"))
    assert changed.checkpoint == config.checkpoint
    assert changed.logging == config.logging
    assert changed.training.early_stopping is None
    assert changed.training.epochs > 10_000


def test_a_bare_trial_neither_commits_nor_logs(make_config):
    config = config_of(make_config(checkpoint={"every_steps": 3}), trial("bare"))
    assert config.checkpoint.every_steps is None
    assert config.checkpoint.every_epochs > config.training.epochs
    assert not config.logging.tensorboard


@pytest.mark.parametrize("ablation", get_args(Ablation))
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "topology",
    [
        {"replicas": 2},
        {"kind": "processes", "workers": 2, "reduction": "bfloat16"},
        {"kind": "ray", "workers": [1, 2], "resources_per_worker": {"CPU": 1.0}, "placement": "SPREAD"},
    ],
)
def test_what_a_trial_trains_is_a_valid_config(make_config, topology, workers, ablation):
    config = config_of(make_config(topology=topology), trial(ablation, workers))
    again = config_from_mapping(to_mapping(config), origin="test", base_folder=config.output_dir)
    assert again == config
    talks = workers == 2 and ablation in ("real", "one_batch", "bare")
    expected = ("ray" if topology.get("kind") == "ray" else "processes") if talks else "local"
    assert config.topology.kind == expected


def test_a_streams_epochs_keep_their_length(make_config):
    stream = {"kind": "generator", "function": "m:f", "shape": [3], "num_classes": 2}
    config = make_config(
        data={"source": stream, "split": {"validation": 0, "test": 0}},
        training={"num_steps": 20, "epochs": 4},
    )
    training = config_of(config, trial("real")).training
    assert training.num_steps / training.epochs == 5
    assert training.num_steps > 10_000


def test_engines_and_xla_are_combined_too_and_jax_has_no_choice_of_it(make_config):
    plan = make_plan(make_config(), engines=["tensorflow", "jax"], jit_compile=[True, False], num_passes=1)
    assert [setting.name for setting in plan.settings] == [
        "1 worker, batch 32, float32, XLA",
        "1 worker, batch 32, float32, no XLA",
        "1 worker, batch 32, float32, jax",
    ]
    compiled, _, on_jax = (config_of(make_config(), Trial(setting, "real", 0)) for setting in plan.settings)
    assert (compiled.training.jit_compile, compiled.engine) == (True, "tensorflow")
    assert (on_jax.training.jit_compile, on_jax.engine) == ("auto", "jax")


def test_what_an_engine_cannot_train_is_refused_before_anything_is_run(make_config):
    config = make_config(topology={"kind": "processes", "workers": 2, "reduction": "bfloat16"})
    with pytest.raises(ConfigError, match="jax"):
        make_plan(config, engines=["jax"])
