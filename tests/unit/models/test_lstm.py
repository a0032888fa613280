"""The LSTM learns from texts, windows and spectrograms."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from distkeras.config.sections import ModelSection
from distkeras.errors import ConfigError
from distkeras.models.builders import build_network

RANDOM = np.random.default_rng(4)


def build(
    shape: tuple[int, ...], dtype: str = "float32", num_outputs: int = 2, **arguments: Any
) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape, dtype=dtype)
    section = ModelSection(builder="lstm", arguments=arguments)
    return build_network(
        section, inputs=inputs, preprocessed=inputs, num_outputs=num_outputs, activation="softmax"
    )


def accuracy_after_training(model: keras.Model, features: np.ndarray, labels: np.ndarray) -> float:
    model.compile(keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(features, labels, batch_size=32, epochs=15, verbose=0)
    return model.evaluate(features, labels, verbose=0, return_dict=True)["accuracy"]


def test_learns_texts_of_any_length() -> None:
    labels = np.arange(128) % 2
    ids = RANDOM.integers(4, 30, (128, 9))
    ids[np.arange(128), RANDOM.integers(0, 4, 128)] = (
        2 + labels
    )  # One word tells, among four at the beginning.
    ids[np.arange(9) >= RANDOM.integers(4, 10, 128)[:, np.newaxis]] = 0
    model = build((9,), "int64", units=[8], embedding_units=4, vocabulary_size=30)
    assert accuracy_after_training(model, ids, labels) > 0.95


def test_padding_does_not_matter() -> None:
    ids = np.array([[5, 3, 7]])
    short, long = build((3,), "int64", vocabulary_size=9), build((8,), "int64", vocabulary_size=9)
    long.set_weights(short.get_weights())
    padded = np.pad(ids, ((0, 0), (0, 5)))
    np.testing.assert_allclose(long(padded), short(ids), atol=1e-6)
    assert np.abs(np.asarray(long(padded)) - np.asarray(long(padded[:, ::-1]))).max() > 1e-6


def test_a_text_without_tokens_is_one_unknown_token() -> None:
    model = build((4,), "int64", vocabulary_size=9)
    empty, unknown = np.zeros((1, 4), int), np.array([[1, 0, 0, 0]])
    np.testing.assert_array_equal(model(empty), model(unknown))


def test_learns_windows_of_a_time_series() -> None:
    labels = np.arange(96) % 2
    rising = np.linspace(0, 1, 12) * (2 * labels[:, np.newaxis] - 1)
    windows = (rising + RANDOM.normal(0, 0.3, (96, 12)))[..., np.newaxis] * [1.0, 0.5]
    assert accuracy_after_training(build((12, 2), units=[8]), windows, labels) > 0.95
    assert accuracy_after_training(build((12,), units=[8]), windows[..., 0], labels) > 0.95


def test_learns_spectrograms() -> None:
    labels = np.arange(96) % 2
    pictures = RANDOM.normal(0, 0.5, (96, 7, 6, 1))
    pictures[labels == 1, :, 2] += 1
    assert accuracy_after_training(build((7, 6, 1), units=[8], dropout=0.1), pictures, labels) > 0.95


def test_arguments_reach_the_layers() -> None:
    model = build((5,), "int64", units=[6, 3], embedding_units=7, bidirectional=True, dropout=0.2)
    assert [
        layer.forward_layer.units for layer in model.layers if isinstance(layer, keras.layers.Bidirectional)
    ] == [6, 3]
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.2, 0.2]
    [embedding] = [layer for layer in model.layers if isinstance(layer, keras.layers.Embedding)]
    assert (embedding.input_dim, embedding.output_dim) == (20_000, 7)
    assert model.layers[-1].input.shape == (None, 6)


def test_is_saved_and_loaded(tmp_path: Any) -> None:
    model = build((5,), "int64", vocabulary_size=9)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    ids = RANDOM.integers(0, 9, (3, 5))
    np.testing.assert_array_equal(loaded(ids), model(ids))


def test_a_wrong_argument_is_named() -> None:
    with pytest.raises(ConfigError, match="The model 'lstm' has no argument 'unit'") as caught:
        build((5,), "int64", unit=[6])
    assert caught.value.place == "model.arguments.unit"
