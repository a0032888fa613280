"""The Python interface as a user meets it: the model afterwards, wrong input, a run that goes on."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import distkeras as dk
from distkeras.errors import ConfigError, DataError, DistkerasError, TrainingError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("int64")


def build_model() -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    return model


@pytest.fixture
def trainer(tmp_path):
    def make(name="run", **options):
        return dk.Trainer(name, **({"epochs": 2, "global_batch_size": 20, "output_dir": tmp_path} | options))

    return make


def test_a_run_knows_what_it_measured(trainer):
    run = trainer().fit(build_model, (X, Y), validation=(X[:60], Y[:60]))
    assert (run.name, run.status, run.step) == ("run", "completed", 20)
    assert set(run.history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert [len(values) for values in run.history.values()] == [2, 2, 2, 2]
    assert "<td>val_accuracy</td>" in run._repr_html_()
    assert run.summary()["metrics"]["accuracy"] == run.history["accuracy"][-1]


def test_the_trained_model_is_an_ordinary_keras_model(trainer):
    one = trainer()
    one.fit(build_model, (X, Y), validation=(X[:60], Y[:60]))
    model = one.trained.model
    predicted = model.predict(X, verbose=0).argmax(axis=1)
    result = model.evaluate(X, Y, batch_size=13, verbose=0, return_dict=True)
    assert result["accuracy"] == pytest.approx((predicted == Y).mean())
    before = model.get_weights()[0].copy()
    history = model.fit(X, Y, batch_size=50, epochs=3, verbose=0).history
    assert len(history["loss"]) == 3
    assert not np.array_equal(model.get_weights()[0], before)
    assert model.train_on_batch(X[:10], Y[:10], return_dict=True).keys() == {"accuracy", "loss"}


def test_metrics_of_several_numbers_are_kept(trainer):
    def build():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "softmax")])
        model.compile("sgd", "categorical_crossentropy", metrics=[keras.metrics.F1Score()])
        return model

    run = trainer().fit(build, (X, keras.utils.to_categorical(Y)))
    assert {"f1_score_0", "f1_score_1"} <= set(run.metrics)


def test_the_end_of_fit_is_not_lost_by_a_crash_after_the_last_commit(trainer):
    def build():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.5, use_ema=True), loss)
        return model

    class Crash(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            raise RuntimeError("the machine is gone")

    undisturbed, crashed, resumed = trainer("a"), trainer("b"), trainer("b")
    undisturbed.fit(build, (X, Y))
    with pytest.raises(RuntimeError, match="the machine is gone"):
        crashed.fit(build, (X, Y), callbacks=[Crash()])
    resumed.fit(build, (X, Y))
    for left, right in zip(
        undisturbed.trained.model.get_weights(), resumed.trained.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(left, right)


def test_early_stopping_goes_on_where_it_was(trainer):
    def stopping():
        return keras.callbacks.EarlyStopping("loss", patience=2, min_delta=10.0)

    whole, first, second = trainer("a", epochs=8), trainer("b", epochs=2), trainer("b", epochs=8)
    expected = whole.fit(build_model, (X, Y), callbacks=[stopping()]).step
    first.fit(build_model, (X, Y), callbacks=[stopping()])
    assert second.fit(build_model, (X, Y), callbacks=[stopping()]).step == expected == 30


def test_arguments_of_callbacks_may_change_on_resume(trainer, tmp_path):
    trainer(epochs=1).fit(
        build_model, (X, Y), callbacks=[keras.callbacks.ModelCheckpoint(tmp_path / "old.keras")]
    )
    (tmp_path / "old.keras").unlink()
    trainer(epochs=2).fit(
        build_model, (X, Y), callbacks=[keras.callbacks.ModelCheckpoint(tmp_path / "new.keras")]
    )
    assert (tmp_path / "new.keras").exists()
    assert not (tmp_path / "old.keras").exists()


def test_a_lazy_custom_train_step_resumes(trainer):
    class Lazy(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = keras.Sequential([keras.layers.Dense(3), keras.layers.Dense(1)])
            self.own_optimizer = keras.optimizers.Adam(0.01)

        def train_step(self, data):
            import tensorflow as tf

            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(self.inner(data[0])))
            weights = self.inner.trainable_weights
            self.own_optimizer.apply(tape.gradient(loss, weights), weights)
            return {"loss": loss}

    def build():
        model = Lazy()
        model.compile()
        return model

    trainer(epochs=1).fit(build, (X, Y))
    assert trainer(epochs=2).fit(build, (X, Y)).step == 20


@pytest.mark.parametrize(
    ("options", "fit", "kind", "sentence"),
    [
        ({"epochs": 0}, {}, ConfigError, "training.epochs"),
        ({"settings": {"training.epoch": 3}}, {}, ConfigError, "training.epochs"),
        ({"settings": {"training.loss": "mse"}}, {}, ConfigError, "builder decides this"),
        ({"replicas": 3}, {}, DistkerasError, "does not divide by the 3 replicas|already running"),
        ({"global_batch_size": 999}, {}, DataError, "fewer than one global batch"),
        ({}, {"train": X}, ConfigError, "Data is a Source, or a tuple"),
        ({}, {"train": (X, Y[:50])}, DataError, "differ in their number of examples"),
        ({}, {"train": (np.full((200, 4), np.nan), Y)}, DataError, "NaN, infinity"),
        ({}, {"validation": (X[:, :3], Y)}, DataError, "validation examples are of another shape"),
        ({}, {"build_model": lambda: keras.Sequential([keras.layers.Dense(1)])}, ConfigError, "not compiled"),
    ],
)
def test_wrong_input_is_a_sentence(options, fit, kind, sentence, trainer):
    arguments = {"build_model": build_model, "train": (X, Y)} | fit
    with pytest.raises(kind, match=sentence):
        trainer(**options).fit(**arguments)


def test_a_monitor_that_does_not_exist_is_found_before_the_first_step(trainer):
    settings = {"training.early_stopping.monitor": "val_acuracy"}
    with pytest.raises(ConfigError, match="There is no metric of this name to watch") as caught:
        trainer(settings=settings).fit(build_model, (X, Y), validation=(X, Y))
    assert "did you mean 'val_accuracy'" in caught.value.remedy


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_commit(trainer, tmp_path):
    one = trainer(epochs=1)
    one.fit(build_model, (X, Y))

    class Diverge(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 1e30

    two = trainer(epochs=4)
    with pytest.raises(TrainingError, match=r"no longer (a finite number|finite numbers)"):
        two.fit(build_model, (X, Y), callbacks=[Diverge()])
    assert trainer(epochs=2).fit(build_model, (X, Y)).step == 20


@pytest.mark.parametrize("arguments", [{"replicas": 0}, {"devices": "tpu"}])
def test_scale_refuses_wrong_arguments(arguments):
    with pytest.raises(ConfigError, match="topology"), dk.scale(**arguments):
        pass


def test_prepare_needs_a_compiled_model():
    with pytest.raises(ConfigError, match="Only a compiled model can be prepared"):
        dk.prepare(keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)]))
