"""Models of the worker tests, named in their configs as `worker_models:NAME`; some go wrong on one rank."""

from __future__ import annotations

import time
from typing import Any

import keras
import tensorflow as tf


def rank() -> int:
    """The worker that builds the model; 0 where there is only one."""
    topology = getattr(tf.distribute.get_strategy(), "topology", None)
    return topology.rank if topology else 0


def stack(input_shape: Any, num_outputs: int, width: int = 8) -> keras.Sequential:
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Dense(width, "relu"),
            keras.layers.Dense(num_outputs, "softmax"),
        ]
    )


class Failing(keras.Model):
    """On rank one its step cannot be traced."""

    def train_step(self, data: Any) -> Any:
        if rank() == 1:
            raise ZeroDivisionError("only here")
        return super().train_step(data)


def fails_on_rank_one(input_shape: Any, num_outputs: int) -> keras.Model:
    model = stack(input_shape, num_outputs)
    return Failing(model.inputs, model.outputs)


def wider_on_rank_one(input_shape: Any, num_outputs: int) -> keras.Model:
    return stack(input_shape, num_outputs, width=8 + rank())


class Straying(keras.Model):
    """On rank one an update goes wrong at the tenth step."""

    def train_step(self, data: Any) -> Any:
        logs = super().train_step(data)
        kernel = self.trainable_variables[2]
        if rank() == 1:
            late = tf.cast(self.optimizer.iterations >= 10, kernel.dtype)
            kernel.assign_add(late * 1e-3 * tf.ones_like(kernel.value))
        return logs


def strays_on_rank_one(input_shape: Any, num_outputs: int) -> keras.Model:
    model = stack(input_shape, num_outputs)
    return Straying(model.inputs, model.outputs)


class MinusOutput(keras.losses.Loss):
    """Falls by 1 where an output grows by 1."""

    def __init__(self) -> None:
        super().__init__(reduction="sum")

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return -y_pred[:, 0]


def counting(input_shape: Any, num_outputs: int, num_examples: int) -> keras.Model:
    """One weight an example; each use of an example adds exactly 1 to it (plain SGD, constant gradient)."""
    ids = keras.Input(input_shape)
    uses = keras.layers.Embedding(num_examples, num_outputs, embeddings_initializer="zeros")
    model = keras.Model(ids, keras.layers.Flatten()(uses(ids)))
    model.compile(keras.optimizers.SGD(1.0), MinusOutput())
    return model


class Stuck(keras.Model):
    """Rank one stops answering at the tenth step, and lives on."""

    def train_step(self, data: Any) -> Any:
        if rank() == 1:
            wait = tf.py_function(lambda n: time.sleep(1000 * int(n == 10)), [self.optimizer.iterations], [])
            with tf.control_dependencies([wait]):
                data = tf.nest.map_structure(tf.identity, data)
        return super().train_step(data)


def stuck_on_rank_one(input_shape: Any, num_outputs: int) -> keras.Model:
    model = stack(input_shape, num_outputs)
    return Stuck(model.inputs, model.outputs)
