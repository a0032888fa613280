"""Names in the config become Keras objects, or a sentence that names what was meant."""

import keras
import numpy as np
import pytest

from distkeras.config.sections import NamedObject, OptimizerSection, TrainingSection
from distkeras.errors import ConfigError
from distkeras.training.compiling import compile_model, make_optimizer


def compiled(section, loss="mean_squared_error", metrics=()):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    compile_model(model, section, loss=loss, metrics=metrics, jit_compile=False)
    return model


def test_optimizer_by_name_with_its_arguments():
    optimizer = make_optimizer(OptimizerSection(name="adamw", arguments={"weight_decay": 0.1}), 3)
    assert isinstance(optimizer, keras.optimizers.AdamW)
    assert optimizer.weight_decay == 0.1
    assert optimizer.gradient_accumulation_steps == 3


def test_schedule_by_name():
    rate = NamedObject(name="CosineDecay", arguments={"initial_learning_rate": 0.1, "decay_steps": 5})
    optimizer = make_optimizer(OptimizerSection(name="sgd", learning_rate=rate))
    assert float(optimizer.learning_rate) == pytest.approx(0.1)


@pytest.mark.parametrize(("name", "meant"), [("adamm", "Adam"), ("SGDD", "SGD"), ("rms_propp", "RMSprop")])
def test_an_unknown_optimizer_says_what_was_meant(name, meant):
    with pytest.raises(ConfigError, match=r"Keras has nothing of this name in keras\.optimizers") as caught:
        make_optimizer(OptimizerSection(name=name))
    assert caught.value.place == "training.optimizer"
    assert f"did you mean {meant!r}" in caught.value.remedy


def test_an_unknown_schedule_names_its_key():
    rate = NamedObject(name="CosineDecayy")
    with pytest.raises(ConfigError, match=r"keras\.schedules") as caught:
        make_optimizer(OptimizerSection(learning_rate=rate))
    assert caught.value.place == "training.optimizer.learning_rate"


def test_refused_arguments_name_their_key():
    with pytest.raises(ConfigError, match="Keras refuses the arguments of 'adam'") as caught:
        make_optimizer(OptimizerSection(arguments={"momentumm": 0.9}))
    assert caught.value.place == "training.optimizer.arguments"


@pytest.mark.parametrize(
    ("section", "place"),
    [
        (TrainingSection(loss="mean_squared_errorr"), "training.loss"),
        (TrainingSection(loss=NamedObject(name="Hubber")), "training.loss"),
        (TrainingSection(metrics=["mae", "acuracy"]), "training.metrics.1"),
        (TrainingSection(metrics=[NamedObject(name="AUCC")]), "training.metrics.0"),
    ],
)
def test_an_unknown_loss_or_metric_names_its_key(section, place):
    with pytest.raises(ConfigError, match="Keras has nothing of this name") as caught:
        compiled(section)
    assert caught.value.place == place


def test_the_tasks_loss_and_metrics_are_the_default():
    model = compiled(TrainingSection(), loss="mean_absolute_error", metrics=["mean_squared_error"])
    assert model.loss == "mean_absolute_error"
    names = model.evaluate(np.ones((1, 2)), np.ones((1, 1)), verbose=0, return_dict=True)
    assert set(names) == {"loss", "mean_squared_error"}


def test_a_model_that_its_builder_compiled_keeps_what_it_has():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mean_absolute_error")
    compile_model(model, TrainingSection(), loss="mean_squared_error", metrics=(), jit_compile=False)
    assert model.loss == "mean_absolute_error"


@pytest.mark.parametrize(
    ("kind", "name", "arguments"),
    [
        ("loss", "SparseCategoricalCrossentropy", {"from_logits": True}),
        ("loss", "Huber", {"delta": 2.0}),
        ("loss", "binary_crossentropy", {"label_smoothing": 0.1}),
        ("metric", "TopKCategoricalAccuracy", {"k": 2}),
        ("metric", "BinaryAccuracy", {"threshold": 0.3}),
        ("metric", "AUC", {"num_thresholds": 10}),
    ],
)
def test_a_loss_or_metric_takes_arguments(kind, name, arguments):
    named = NamedObject(name=name, arguments=arguments)
    section = TrainingSection(loss=named) if kind == "loss" else TrainingSection(metrics=[named])
    assert compiled(section).compiled
