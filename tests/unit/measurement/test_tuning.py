"""Tuning, of configs that are never trained: how fast each is, is a function of the config."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distkeras.config import Config, load_config
from distkeras.errors import ResourceError
from distkeras.measurement import tuned
from distkeras.measurement.plan import Trial, setting_of
from distkeras.measurement.tuning import BATCH, PARALLEL, PRECISION, STEPS, XLA, Tuner, Tuning

Milliseconds = Callable[[Config], float]


class Machine:
    """Trains configs in no time, and remembers which."""

    def __init__(self, measured_trial: Any, milliseconds: Milliseconds, **of_each: Any) -> None:
        self.measured_trial, self.milliseconds, self.of_each = measured_trial, milliseconds, of_each
        self.trained: list[Config] = []

    def train(self, config: Config, index: int) -> Any:
        self.trained.append(config)
        facts = {name: value(config) if callable(value) else value for name, value in self.of_each.items()}
        return self.measured_trial(
            Trial(setting_of(config), "real", index), self.milliseconds(config), **facts
        )

    def tune(self, config: Config, **options: Any) -> Tuning:
        return Tuner(**{"train": self.train, "num_passes": 3, "num_cores": 2, **options}).tune(config)


@pytest.fixture
def machine(measured_trial: Any) -> Callable[..., Machine]:
    """Returns a machine by the milliseconds that a step of a config takes, and what else each process measures."""

    def make(milliseconds: Milliseconds, **of_each: Any) -> Machine:
        return Machine(measured_trial, milliseconds, **of_each)

    return make


def chosen(tuning: Tuning) -> dict[str, Any]:
    return {choice.key: choice.chosen for choice in tuning.choices}


def reason(tuning: Tuning, key: str) -> str:
    return next(choice.reason for choice in tuning.choices if choice.key == key)


def test_what_is_not_faster_is_left_as_it_is(make_config, machine):
    made = machine(lambda config: 100 * config.training.global_batch_size / 32)
    config = make_config()
    tuning = made.tune(config)
    assert tuning.config == config
    assert not tuning.is_faster
    assert chosen(tuning) == {
        PRECISION: "float32",
        XLA: "auto",
        BATCH: 32,
        STEPS: "auto",
        PARALLEL: "auto",
    }
    assert reason(tuning, PRECISION) == "mixed_bfloat16: 1.00x"
    assert reason(tuning, BATCH) == "64: 1.00x, 128: 1.00x"
    assert "a step of 100 ms hides what a call costs" in reason(tuning, STEPS)
    assert "0% of a step waits for input" in reason(tuning, PARALLEL)
    assert "stays as it is" in tuned.summary(tuning)


def test_everything_that_is_faster_is_taken_and_checked_together(make_config, machine):
    def milliseconds(config: Config) -> float:
        compute = 0.1 if config.training.precision == "mixed_bfloat16" else 0.2
        waits = 0.02 if config.data.num_parallel_calls == 4 else 0.1
        return 10.0 + (compute + waits) * config.training.global_batch_size

    made = machine(milliseconds, input_wait_ratio=0.3, steps_per_epoch=10_000)
    tuning = made.tune(make_config())
    assert chosen(tuning)[PRECISION] == "mixed_bfloat16"
    # An example costs 0.2 ms and its part of 10 ms: of 1024 that is within 5% of 2048, where doubling twice ended.
    assert chosen(tuning)[BATCH] == 1024
    assert chosen(tuning)[PARALLEL] == 4
    assert tuning.is_faster
    assert len(tuning.before) == len(tuning.after) == 3
    before, after = milliseconds(make_config()) / 32, milliseconds(tuning.config) / 1024
    assert tuning.gain == pytest.approx(before / after)
    assert tuned.notes(tuning) == [
        "the learning rate was chosen for batches of 32; look at it again for 1024"
    ]


def test_short_steps_are_tried_with_more_in_a_call_and_long_ones_are_not(make_config, machine):
    def milliseconds(config: Config) -> float:
        return {"auto": 2.0, 4: 1.9, 16: 1.0, 64: 0.99}[config.training.steps_per_execution]

    tuning = machine(milliseconds, steps_per_epoch=20).tune(make_config())
    assert chosen(tuning)[STEPS] == 16
    assert reason(tuning, STEPS) == "4: 1.05x, 16: 2.00x, 64: 2.02x"
    assert tuning.gain == pytest.approx(2.0)


def test_noise_changes_nothing(make_config, machine):
    values = iter([10.0, 9.0, 11.0, 13.0, 8.0, 12.0] * 30)
    tuning = machine(lambda config: next(values)).tune(make_config())
    assert chosen(tuning)[PRECISION] == "float32"


def test_a_batch_that_cannot_be_trained_ends_the_search_and_the_one_before_it_is_chosen(make_config, machine):
    def milliseconds(config: Config) -> float:
        if config.training.global_batch_size > 128:
            raise ResourceError("The GPU has not enough memory for this batch.")
        return 30.0

    tuning = machine(milliseconds, steps_per_epoch=10_000).tune(make_config())
    assert chosen(tuning)[BATCH] == 128
    assert reason(tuning, BATCH) == (
        "64: 2.00x, 128: 4.00x, 256: The GPU has not enough memory for this batch."
    )


def test_what_would_need_more_memory_than_is_free_is_not_tried(make_config, machine):
    made = machine(
        lambda config: 30.0,
        steps_per_epoch=10_000,
        peak_memory_bytes=lambda config: 2**30 + 2**24 * config.training.global_batch_size,
    )
    tuning = made.tune(make_config(), free_memory=lambda: 4 * 2**30)
    sizes = {config.training.global_batch_size for config in made.trained}
    # 1 GiB and 16 MiB an example: 128 examples take 3 GiB, and 256 would take 5.
    assert sizes == {32, 64, 128}
    assert (
        reason(tuning, BATCH)
        == "64: 2.00x, 128: 4.00x, 256: would need 5,120 MiB of the 4,096 MiB that are free"
    )


def test_an_epoch_keeps_enough_steps(make_config, machine):
    tuning = machine(lambda config: 30.0, steps_per_epoch=90).tune(make_config())
    assert chosen(tuning)[BATCH] == 128
    assert reason(tuning, BATCH).endswith("256: an epoch would have 11 steps")


def test_candidates_may_be_given(make_config, machine):
    made = machine(lambda config: 30.0, steps_per_epoch=10_000)
    tuning = made.tune(make_config(), batch_sizes=[64, 96], precisions=["float32"], jit_compile=["auto"])
    assert chosen(tuning)[BATCH] == 96
    assert reason(tuning, PRECISION) == "nothing else was to be tried"
    assert {config.training.precision for config in made.trained} == {"float32"}


def test_jax_always_compiles(make_config, machine):
    tuning = machine(lambda config: 30.0).tune(make_config("jax"))
    assert reason(tuning, XLA) == "JAX always compiles"


def test_a_config_that_cannot_be_trained_is_an_error(make_config, machine):
    def milliseconds(config: Config) -> float:
        raise ResourceError("There is no memory.")

    with pytest.raises(ResourceError, match="no memory"):
        machine(milliseconds).tune(make_config())


def test_the_tuned_config_says_why_and_is_read_back(make_config, machine, tmp_path: Path):
    config = make_config()
    tuning = machine(lambda config: 30.0, steps_per_epoch=90).tune(config)
    path = tmp_path / "tuned.yaml"
    path.write_text(tuned.config_file(tuning, "2026-11-21"))
    text = path.read_text()
    assert text.startswith("# Tuned by distkeras bench --tune on 2026-11-21: 4.00x (4.00 to 4.00) as fast")
    assert "# training.global_batch_size: 128 (was 32); 64: 2.00x, 128: 4.00x, 256: an epoch" in text
    assert load_config(path) == tuning.config.model_copy(update={"name": "mine-tuned"})


def test_the_outcome_as_json_holds_every_rate(make_config, machine):
    tuning = machine(lambda config: 30.0, steps_per_epoch=90).tune(make_config())
    values = tuned.as_mapping(tuning, {"machine": {}})
    assert values["chosen"] == {BATCH: 128}
    batch = next(choice for choice in values["choices"] if choice["key"] == BATCH)
    assert [len(one["rates"]) for one in batch["candidates"]] == [3, 3, 3, 0]
    assert batch["candidates"][3]["examples_per_second"] is None
