"""Networks by name, networks of the user's, and what is said when neither can be had."""

import re
import sys

import keras
import numpy as np
import pytest

from distkeras.config.sections import ModelSection
from distkeras.errors import ConfigError
from distkeras.models.builders import build_network


def build(builder, shape=(32, 32, 3), num_outputs=4, weights=None, normalized=False, **arguments):
    inputs = keras.Input(shape)
    preprocessed = keras.layers.Rescaling(1 / 255)(inputs) if normalized else inputs
    section = ModelSection(builder=builder, arguments=arguments, weights=weights)
    return build_network(
        section, inputs=inputs, preprocessed=preprocessed, num_outputs=num_outputs, activation="softmax"
    )


@pytest.mark.parametrize("builder", ["mlp", "cnn", "resnet50", "applications.MobileNetV3Small"])
def test_networks_end_in_one_output_a_class(builder):
    model = build(builder, normalized=True)
    assert model.output_shape == (None, 4)
    outputs = model(np.zeros((2, 32, 32, 3), "float32"))
    assert np.asarray(outputs).sum(axis=1) == pytest.approx([1, 1])


def test_arguments_reach_the_network():
    model = build("mlp", (5,), hidden_units=[7, 3], dropout=0.5, batch_norm=True, l2=0.1)
    assert [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)] == [7, 3, 4]
    assert len(model.losses) == 2


def test_the_head_computes_in_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build("mlp", (5,))
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.layers[-1].compute_dtype == "float32"
    assert model.layers[-2].compute_dtype == "bfloat16"


def test_a_function_of_the_users(tmp_path, monkeypatch):
    source = """
import keras
def build(input_shape, num_outputs, units):
    return keras.Sequential([keras.Input(input_shape), keras.layers.Dense(units), keras.layers.Dense(num_outputs)])
"""
    (tmp_path / "my_models.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert build("my_models:build", (5,), units=3).output_shape == (None, 4)
    with pytest.raises(ConfigError, match="normalises its inputs itself"):
        build("my_models:build", (5,), normalized=True, units=3)
    with pytest.raises(ConfigError, match="has no argument 'unit'") as caught:
        build("my_models:build", (5,), unit=3)
    assert caught.value.place == "model.arguments.unit"
    with pytest.raises(ConfigError, match="The model function cannot be imported"):
        build("my_models:bild", (5,))


@pytest.mark.parametrize(
    ("builder", "meant"),
    [
        ("mpl", "mlp"),
        ("resnet5", "resnet50"),
        ("applications.EfficientNetB00", "applications.EfficientNetB0"),
    ],
)
def test_an_unknown_network_says_what_was_meant(builder, meant):
    with pytest.raises(ConfigError, match="There is no model of this name") as caught:
        build(builder)
    assert f"did you mean {meant!r}" in caught.value.remedy


def test_a_module_that_does_not_exist():
    with pytest.raises(ConfigError, match="The model function cannot be imported"):
        build("no_such_module:build")


def test_refused_arguments_say_why():
    with pytest.raises(ConfigError, match="The model 'mlp' could not be built"):
        build("mlp", (5,), dropout=7.0)


def test_initial_weights(tmp_path):
    path = tmp_path / "start.weights.h5"
    model = build("mlp", (5,))
    model.save_weights(path)
    again = build("mlp", (5,), weights=path)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), again.get_weights(), strict=True))
    with pytest.raises(ConfigError, match="The initial weights do not fit the model"):
        build("mlp", (5,), weights=path, hidden_units=[3])
    with pytest.raises(ConfigError, match="The file of initial weights does not exist"):
        build("mlp", (5,), weights=tmp_path / "missing.weights.h5")


def test_initial_weights_of_an_application_are_its_bodys(tmp_path):
    path = tmp_path / "body.weights.h5"
    body = keras.applications.MobileNetV3Small(
        include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg"
    )
    body.save_weights(path)
    model = build("applications.MobileNetV3Small", num_outputs=9, weights=path)
    assert np.array_equal(model.get_weights()[0], body.get_weights()[0])


@pytest.mark.parametrize(
    ("source", "sentence", "line"),
    [
        ("def build(**_):\n    return None", "The model function did not return a Keras model", None),
        ("def build(**_):\n    raise KeyError('x')", "could not be built: KeyError: 'x'", 2),
        (
            "import keras\ndef build(**_):\n    keras.layers.Dense(-1)",
            "could not be built: ValueError: Received an invalid value for `units`",
            3,
        ),
        ("import no_such_module", "cannot be imported: ModuleNotFoundError", 1),
        ("\nundefined", "cannot be imported: NameError", 2),
        ("\n\ndef build(:", "cannot be imported: SyntaxError", 3),
        ("def other(): pass", "cannot be imported: AttributeError", None),
        ("build = 3", "What is named as the model function is none.", None),
    ],
)
def test_faults_of_a_users_builder_are_sentences_and_name_the_line(
    source, sentence, line, tmp_path, monkeypatch
):
    name = f"faulty_{abs(hash(source))}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(ConfigError, match=re.escape(sentence)) as raised:
        build(f"{name}:build", (5,))
    place = str(raised.value.place)
    assert place.endswith(f"{tmp_path / name}.py:{line}") if line else "," not in place
