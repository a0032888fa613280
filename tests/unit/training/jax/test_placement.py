"""What the JAX engine refuses, and how it seeds a process."""

from __future__ import annotations

import random
from typing import Any

import keras
import numpy as np
import pytest

pytest.importorskip("jax", reason="the extra `jax` is not installed")

from distkeras.errors import ConfigError, MissingDependencyError
from distkeras.runners.attempt import use_backend
from distkeras.training.jax.placement import check_model, seed_process


class TensorFlowStep(keras.Model):
    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


class JaxStep(keras.Model):
    def train_step(self, state: Any, data: Any) -> Any:
        return super().train_step(state, data)


def model(kind: type[keras.Model] = keras.Model, **arguments: Any) -> keras.Model:
    features = keras.Input((4,))
    made = kind(features, keras.layers.Dense(2)(features))
    made.compile("sgd", "mse", **arguments)
    return made


@pytest.mark.parametrize("kind", [keras.Model, JaxStep])
def test_models_that_it_can_train_pass(kind: type[keras.Model]) -> None:
    check_model(model(kind))


def test_a_step_written_for_tensorflow_is_refused() -> None:
    with pytest.raises(ConfigError, match="own train_step is written for TensorFlow") as refusal:
        check_model(model(TensorFlowStep))
    assert "train_step(self, state, data)" in str(refusal.value.remedy)


def test_a_second_optimizer_is_refused() -> None:
    made = model()
    made.other = keras.optimizers.Adam()
    with pytest.raises(ConfigError, match="one optimizer"):
        check_model(made)


def test_an_eager_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="run_eagerly"):
        check_model(model(run_eagerly=True))


def test_seeding_is_what_keras_does() -> None:
    def draws() -> list[Any]:
        keras_draw = keras.ops.convert_to_numpy(keras.random.normal((3,)))
        return [random.random(), np.random.random(), *keras_draw.tolist()]

    keras.utils.set_random_seed(9)
    expected = draws()
    seed_process(9)
    assert draws() == expected


def test_jax_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distkeras.runners.attempt.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="'jax'") as refusal:
        use_backend("jax")
    assert "distkeras[jax]" in str(refusal.value.remedy)


def test_keras_that_was_imported_for_another_engine_is_refused() -> None:
    use_backend("tensorflow")
    with pytest.raises(ConfigError, match="computes with tensorflow in this process") as refusal:
        use_backend("jax")
    assert "KERAS_BACKEND=jax" in str(refusal.value.remedy)
