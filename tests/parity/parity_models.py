"""The models of the ladder: each function returns a compiled Keras model and knows nothing of distkeras."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import layers

CROSSENTROPY = "sparse_categorical_crossentropy"


def optimizer(name: str, **arguments: Any) -> keras.optimizers.Optimizer:
    return getattr(keras.optimizers, name)(**arguments)


def momentum(rate: float = 0.05) -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(rate, momentum=0.9)


def dense_stack() -> keras.Sequential:
    stack = [
        keras.Input((12,)),
        layers.Dense(16, activation="tanh"),
        layers.Dense(3),
        layers.Softmax(dtype="float32"),
    ]
    return keras.Sequential(stack)


def mlp(**arguments: Any) -> keras.Model:
    model = dense_stack()
    name = arguments.pop("optimizer")
    model.compile(
        optimizer(name, **arguments), CROSSENTROPY, metrics=["accuracy"], weighted_metrics=[CROSSENTROPY]
    )
    return model


def mlp_with_callbacks() -> keras.Model:
    model = dense_stack()
    model.compile(momentum(), CROSSENTROPY, metrics=["accuracy"])
    return model


def cosine_decay() -> keras.Model:
    model = dense_stack()
    schedule = keras.optimizers.schedules.CosineDecay(0.1, decay_steps=40, warmup_steps=10, warmup_target=0.2)
    model.compile(keras.optimizers.SGD(schedule, momentum=0.9), CROSSENTROPY, metrics=["accuracy"])
    return model


def eager() -> keras.Model:
    model = dense_stack()
    model.compile(
        keras.optimizers.SGD(0.1, clipnorm=0.1), CROSSENTROPY, metrics=["accuracy"], run_eagerly=True
    )
    return model


def reduced_loss(reduction: str) -> keras.Model:
    model = dense_stack()
    loss = keras.losses.SparseCategoricalCrossentropy(reduction=reduction)
    model.compile(momentum(0.01), loss, weighted_metrics=["accuracy"])
    return model


def frozen_layers() -> keras.Model:
    model = dense_stack()
    model.layers[0].trainable = False
    model.compile(momentum(), CROSSENTROPY)
    return model


def batch_norm() -> keras.Model:
    stack = [
        keras.Input((12,)),
        layers.Dense(16, use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        layers.Activation("tanh"),
        layers.Dense(3, activation="softmax"),
    ]
    model = keras.Sequential(stack)
    model.compile(momentum(), CROSSENTROPY, metrics=["accuracy"])
    return model


def dropout() -> keras.Model:
    stack = [
        keras.Input((12,)),
        layers.GaussianNoise(0.1),
        layers.Dense(16, activation="tanh"),
        layers.Dropout(0.5),
        layers.Dense(3, activation="softmax"),
    ]
    model = keras.Sequential(stack)
    model.compile(momentum(), CROSSENTROPY, metrics=["accuracy"])
    return model


def embedding(**arguments: Any) -> keras.Model:
    stack = [
        keras.Input((7,), dtype="int32"),
        layers.Embedding(20, 6),
        layers.Flatten(),
        layers.Dense(3, activation="softmax"),
    ]
    model = keras.Sequential(stack)
    name = arguments.pop("optimizer")
    model.compile(optimizer(name, **arguments), CROSSENTROPY, metrics=["accuracy"])
    return model


def tagger(reduction: str = "sum_over_batch_size") -> keras.Model:
    """A class for each token; tokens that are 0 are masked out of loss and metrics."""
    stack = [
        keras.Input((7,), dtype="int32"),
        layers.Embedding(20, 6, mask_zero=True),
        layers.LSTM(6, return_sequences=True),
        layers.Dense(3, activation="softmax"),
    ]
    model = keras.Sequential(stack)
    loss = keras.losses.SparseCategoricalCrossentropy(reduction=reduction)
    model.compile(momentum(0.05 if reduction != "sum" else 0.005), loss, weighted_metrics=["accuracy"])
    return model


def sequence_classifier() -> keras.Model:
    stack = [
        keras.Input((7,), dtype="int32"),
        layers.Embedding(20, 6, mask_zero=True),
        layers.LSTM(6),
        layers.Dense(3, activation="softmax"),
    ]
    model = keras.Sequential(stack)
    model.compile(momentum(), CROSSENTROPY, metrics=["accuracy"])
    return model


def recurrent() -> keras.Model:
    stack = [
        keras.Input((7,), dtype="int32"),
        layers.Embedding(20, 6),
        layers.GRU(6, return_sequences=True),
        layers.Bidirectional(layers.SimpleRNN(4)),
        layers.Dense(3, activation="softmax"),
    ]
    model = keras.Sequential(stack)
    model.compile(momentum(), CROSSENTROPY, metrics=["accuracy"])
    return model


def convolution() -> keras.Model:
    stack = [
        keras.Input((6, 6, 1), dtype="uint8"),
        layers.Rescaling(1 / 127.5, offset=-1),
        layers.Conv2D(4, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(3, activation="softmax"),
    ]
    model = keras.Sequential(stack)
    model.compile(momentum(), CROSSENTROPY, metrics=["accuracy"])
    return model


def _two_inputs() -> tuple[dict[str, Any], Any]:
    inputs = {"ids": keras.Input((7,), dtype="int32", name="ids"), "table": keras.Input((12,), name="table")}
    summed = layers.GlobalAveragePooling1D()(layers.Embedding(20, 6)(inputs["ids"]))
    joined = layers.Concatenate()([summed, inputs["table"]])
    return inputs, layers.Dense(8, activation="tanh")(joined)


def dict_inputs() -> keras.Model:
    inputs, hidden = _two_inputs()
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(hidden))
    model.compile(momentum(), CROSSENTROPY, metrics=["accuracy"])
    return model


def dict_outputs() -> keras.Model:
    inputs, hidden = _two_inputs()
    outputs = {
        "kind": layers.Dense(3, activation="softmax", name="kind")(hidden),
        "amount": layers.Dense(1, name="amount")(hidden),
    }
    model = keras.Model(inputs, outputs)
    model.compile(
        momentum(0.01),
        loss={"kind": CROSSENTROPY, "amount": "mse"},
        loss_weights={"kind": 1.0, "amount": 0.3},
        metrics={"kind": ["accuracy"], "amount": ["mae"]},
    )
    return model


class LazySubclass(keras.Model):
    """Has no Input: its layers are built by the first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = layers.Dense(16, activation="tanh")
        self.head = layers.Dense(3, activation="softmax")

    def call(self, inputs: Any) -> Any:
        return self.head(self.hidden(inputs))


def lazy_subclass() -> keras.Model:
    model = LazySubclass()
    model.compile(keras.optimizers.Adam(0.02), CROSSENTROPY, metrics=["accuracy"])
    return model


def binary_metrics() -> keras.Model:
    stack = [keras.Input((12,)), layers.Dense(8, activation="tanh"), layers.Dense(1, activation="sigmoid")]
    model = keras.Sequential(stack)
    metrics = [
        keras.metrics.AUC(name="auc"),
        keras.metrics.F1Score("micro", threshold=0.5, name="f1"),
        keras.metrics.Precision(name="precision"),
        keras.metrics.Recall(name="recall"),
        "accuracy",
    ]
    model.compile(momentum(), "binary_crossentropy", metrics=metrics)
    return model


def regression_metrics() -> keras.Model:
    model = keras.Sequential([keras.Input((12,)), layers.Dense(8, activation="tanh"), layers.Dense(1)])
    metrics = [keras.metrics.R2Score(name="r2"), keras.metrics.RootMeanSquaredError(name="rmse"), "mae"]
    model.compile(momentum(), keras.losses.Huber(0.5), metrics=metrics)
    return model


def mean_confidence(labels: Any, outputs: Any) -> Any:
    """A metric that is one number a batch, which Keras averages over batches as they are."""
    return keras.ops.mean(keras.ops.max(outputs, axis=-1))


def scalar_metric() -> keras.Model:
    model = dense_stack()
    model.compile(momentum(), CROSSENTROPY, metrics=[mean_confidence])
    return model


def regularizers() -> keras.Model:
    stack = [
        keras.Input((12,)),
        layers.Dense(16, activation="tanh", kernel_regularizer=keras.regularizers.L1L2(0.001, 0.01)),
        layers.Dense(8, activation="tanh", activity_regularizer=keras.regularizers.L2(0.01)),
        layers.Dense(3, activation="softmax", bias_regularizer="l2"),
    ]
    model = keras.Sequential(stack)
    model.compile(momentum(), CROSSENTROPY, metrics=["accuracy"])
    return model


class MeanActivity(layers.Layer):
    """Adds the mean square of what passes through it, times a weight, to the loss.

    Of no examples the mean is 0/0, and so is the gradient of the weight.
    """

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs: Any) -> Any:
        self.add_loss(0.1 * keras.ops.square(self.factor) * keras.ops.mean(keras.ops.square(inputs)))
        return inputs


def add_loss() -> keras.Model:
    stack = [
        keras.Input((12,)),
        layers.Dense(16, activation="tanh"),
        MeanActivity(),
        layers.Dense(3, activation="softmax"),
    ]
    model = keras.Sequential(stack)
    model.compile(momentum(), CROSSENTROPY, metrics=["accuracy"])
    return model


class Gan(keras.Model):
    """Two networks, two optimizers, one loss of Keras's and one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = keras.Sequential([keras.Input((4,)), layers.Dense(12)])
        hidden = layers.Dense(8, activation="tanh")
        self.discriminator = keras.Sequential([keras.Input((12,)), hidden, layers.Dense(1)])
        self.loss_tracker = keras.metrics.Mean(name="discriminator_loss")

    def compile(self) -> None:
        super().compile(loss=None)
        self.generator_optimizer = keras.optimizers.SGD(0.05, clipnorm=0.5)
        self.discriminator_optimizer = keras.optimizers.Adam(0.01)
        self.crossentropy = keras.losses.BinaryCrossentropy(from_logits=True)

    @property
    def metrics(self) -> list[Any]:
        return [self.loss_tracker]

    def call(self, inputs: Any) -> Any:
        return self.discriminator(inputs)

    def train_step(self, data: Any) -> dict[str, Any]:
        real = data[0]
        count = tf.shape(real)[0]
        noise = real[:, :4] * 0.5  # of the data, so that every rung draws the same
        with tf.GradientTape() as tape:
            loss = self.crossentropy(tf.ones((count, 1)), self.discriminator(real))
            loss += self.crossentropy(tf.zeros((count, 1)), self.discriminator(self.generator(noise)))
        weights = self.discriminator.trainable_weights
        self.discriminator_optimizer.apply(tape.gradient(loss, weights), weights)
        with tf.GradientTape() as tape:
            generator_loss = tf.reduce_mean(tf.nn.softplus(-self.discriminator(self.generator(noise))))
        weights = self.generator.trainable_weights
        self.generator_optimizer.apply(tape.gradient(generator_loss, weights), weights)
        self.loss_tracker.update_state(loss, sample_weight=count)
        return {"discriminator_loss": self.loss_tracker.result(), "generator_loss": generator_loss}

    def test_step(self, data: Any) -> dict[str, Any]:
        score = self.discriminator(data[0])
        self.loss_tracker.update_state(self.crossentropy(tf.ones_like(score), score), tf.shape(score)[0])
        return {"discriminator_loss": self.loss_tracker.result()}


def gan() -> keras.Model:
    model = Gan()
    model.compile()
    return model


class Vae(keras.Model):
    """Trackers of its own, updated as Keras's VAE example does it: one number a step, without a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = keras.Sequential([keras.Input((12,)), layers.Dense(8)])
        self.decoder = keras.Sequential([keras.Input((4,)), layers.Dense(12)])
        self.trackers = [keras.metrics.Mean(name=name) for name in ("loss", "reconstruction", "divergence")]

    @property
    def metrics(self) -> list[Any]:
        return self.trackers

    def call(self, inputs: Any) -> Any:
        return self.decoder(self.encoder(inputs)[:, :4])

    def losses_of(self, inputs: Any) -> tuple[Any, ...]:
        mean, spread = tf.split(self.encoder(inputs), 2, axis=1)
        code = (
            mean + tf.exp(spread / 2) * inputs[:, :4]
        )  # noise of the data, so that every rung draws the same
        reconstruction = tf.reduce_mean(tf.reduce_sum(tf.square(inputs - self.decoder(code)), axis=1))
        divergence = tf.reduce_mean(tf.reduce_sum(tf.square(mean) + tf.exp(spread) - spread - 1, axis=1)) / 2
        return reconstruction + divergence, reconstruction, divergence

    def train_step(self, data: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            losses = self.losses_of(data[0])
        self.optimizer.apply(tape.gradient(losses[0], self.trainable_weights), self.trainable_weights)
        return self.tracked(losses)

    def test_step(self, data: Any) -> dict[str, Any]:
        return self.tracked(self.losses_of(data[0]))

    def tracked(self, losses: tuple[Any, ...]) -> dict[str, Any]:
        for tracker, loss in zip(self.trackers, losses, strict=True):
            tracker.update_state(loss)
        return {tracker.name: tracker.result() for tracker in self.trackers}


def vae() -> keras.Model:
    model = Vae()
    model.compile(keras.optimizers.Adam(0.01))
    return model


def callbacks_of(model: str) -> list[keras.callbacks.Callback]:
    """Returns Keras callbacks that change the training of one case; none for the others."""
    if model != "mlp_with_callbacks":
        return []
    return [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=1, min_delta=0.05),
        keras.callbacks.EarlyStopping(
            monitor="val_loss", patience=2, min_delta=0.02, restore_best_weights=True
        ),
    ]
