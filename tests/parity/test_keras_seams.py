"""What the engine relies on inside Keras, and what it works around: a test fails when Keras changes either.

Upstream: keras#20582 (gradient accumulation under MirroredStrategy), keras#20585 (multi-worker training).
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras.src.backend.tensorflow import nn as keras_nn
from keras.src.backend.tensorflow.optimizer import TFOptimizer
from keras.src.losses import loss as keras_loss
from keras.src.optimizers.base_optimizer import BaseOptimizer

from distkeras.training.step import _LOCAL_METHODS


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], list[str]]:
    """Replaces a function as the engine does, and returns the list that its calls go into."""

    def replace(owner: Any, name: str) -> list[str]:
        calls: list[str] = []
        original = getattr(owner, name)

        def spying(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, spying)
        return calls

    return replace


@pytest.mark.parametrize("reduction", ["sum", "sum_over_batch_size", "mean_with_sample_weight"])
def test_every_keras_loss_divides_in_reduce_weighted_values(spy, reduction: str) -> None:
    calls = spy(keras_loss, "reduce_weighted_values")
    keras.losses.MeanSquaredError(reduction=reduction)(np.ones((4, 1)), np.zeros((4, 1)))
    assert calls == ["reduce_weighted_values"]


def test_reduce_weighted_values_takes_what_the_engine_passes_on() -> None:
    parameters = list(inspect.signature(keras_loss.reduce_weighted_values).parameters)
    assert parameters == ["values", "sample_weight", "mask", "reduction", "dtype"]


def test_apply_in_optimizers_is_where_gradients_arrive(spy) -> None:
    calls = spy(keras.optimizers.SGD, "apply")
    model = small_model()
    model.train_on_batch(np.ones((2, 3)), np.ones((2, 1)))
    assert calls == ["apply"]


@pytest.mark.parametrize("method", _LOCAL_METHODS)
def test_optimizer_methods_are_local_in_the_base_class(method: str) -> None:
    assert callable(getattr(BaseOptimizer, method))


@pytest.mark.parametrize("method", _LOCAL_METHODS)
def test_optimizer_methods_cross_replicas_in_the_tensorflow_class(method: str) -> None:
    # When Keras no longer overrides one, it leaves _LOCAL_METHODS in distkeras/training/step.py.
    assert method in vars(TFOptimizer)


def test_the_tensorflow_optimizer_overrides_nothing_else_that_crosses_replicas() -> None:
    # A new override would run across replicas inside a step: see whether it belongs to _LOCAL_METHODS.
    overridden = {name for name, value in vars(TFOptimizer).items() if callable(value)}
    assert overridden & set(vars(BaseOptimizer)) == {
        "__init__",
        "_clip_by_norm",
        "_var_key",
        "add_variable_from_reference",
        "assign",
        "assign_add",
        "assign_sub",
        "stateless_apply",
        *_LOCAL_METHODS,
    }


def test_a_built_optimizer_names_the_variables_it_was_built_for() -> None:
    model = small_model()
    model.optimizer.build(model.trainable_variables)
    assert [id(one) for one in model.optimizer._trainable_variables] == [
        id(one) for one in model.trainable_variables
    ]


def test_losses_and_metric_functions_are_recorded_by_mean_update_state(spy) -> None:
    model = small_model(metrics=["mae"])
    model.train_on_batch(np.ones((2, 3)), np.ones((2, 1)))
    calls = spy(keras.metrics.Mean, "update_state")
    model.run_eagerly = True
    model.make_train_function(force=True)
    model.train_on_batch(np.ones((2, 3)), np.ones((2, 1)))
    assert len(calls) == 2  # the loss and the metric


def test_synchronized_moments_are_looked_up_in_the_module(spy) -> None:
    parameters = list(inspect.signature(keras_nn._compute_moments_sync).parameters)
    assert parameters == ["x", "axes", "keepdims"]
    calls = spy(keras_nn, "_compute_moments_sync")
    layer = keras.layers.BatchNormalization()
    layer(np.ones((4, 3), np.float32), training=True)
    assert calls == []
    layer.synchronized = True  # as `topology.sync_batch_norm` sets it, on a model that is built already
    layer(np.ones((4, 3), np.float32), training=True)
    assert calls == ["_compute_moments_sync"]


def test_layers_keep_frozen_weights_apart_from_their_moving_statistics() -> None:
    norm = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), norm])
    model.trainable = False
    state = [variable for layer in model._flatten_layers() for variable in layer._non_trainable_variables]
    assert [id(variable) for variable in state] == [id(norm.moving_mean), id(norm.moving_variance)]


def test_random_layers_keep_an_integer_state_of_seed_and_count() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5)])
    (state,) = [variable for variable in model.variables if "seed_generator_state" in variable.path]
    assert state.shape == (2,)
    assert keras.backend.is_int_dtype(state.dtype)


def test_fit_keeps_a_train_function_that_is_already_set() -> None:
    model = small_model()
    model.train_function = lambda iterator: {"loss": 7.0}
    history = model.fit(np.ones((2, 3)), np.ones((2, 1)), batch_size=2, verbose=0)
    assert model.train_function(None) == {"loss": 7.0}
    assert len(history.history["loss"]) == 1


def small_model(**arguments: Any) -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse", **arguments)
    return model


PLAIN_KERAS = """
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
with {strategy}.scope():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1, **{arguments}), "mse")
model.fit(np.ones((8, 3), "float32"), np.ones((8, 1), "float32"), batch_size=4, epochs=2, verbose=0)
print("trained")
"""
MIRRORED = 'tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])'


def plain_keras(strategy: str, **arguments: Any) -> subprocess.CompletedProcess[str]:
    script = PLAIN_KERAS.format(strategy=strategy, arguments=arguments)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


def test_plain_keras_trains_under_mirrored_strategy() -> None:
    assert plain_keras(MIRRORED).stdout == "trained\n"


def test_plain_keras_still_cannot_accumulate_under_mirrored_strategy() -> None:
    # keras#20582. When this fails, `_apply_weight_decay` and the like may run as Keras has them: try without.
    done = plain_keras(MIRRORED, gradient_accumulation_steps=2)
    assert done.returncode != 0
    assert "merge_call" in done.stderr
