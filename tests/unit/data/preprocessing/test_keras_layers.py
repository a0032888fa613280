"""Keras layers by name: adapted to the training part, saved as JSON, random ones in training only."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from distkeras.config.sections import NamedObject
from distkeras.config.source_sections import JsonlSource as JsonlSection
from distkeras.data.preprocessing.keras_layers import KerasLayers, learn_layers, restore_layers
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.sources.base import Source, Subset
from distkeras.data.sources.jsonl import JsonlSource
from distkeras.errors import ConfigError, DataError

RANDOM = np.random.default_rng(5)
TABLE = RANDOM.normal(3, 2, (1_500, 4)).astype(np.float32)
PICTURES = RANDOM.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)


def source_of(features: np.ndarray) -> Source:
    return ArraySource(features, np.zeros(len(features), np.int64))


def named(*layers: str | tuple[str, dict[str, Any]]) -> list[NamedObject]:
    pairs = [layer if isinstance(layer, tuple) else (layer, {}) for layer in layers]
    return [NamedObject(name=name, arguments=arguments) for name, arguments in pairs]


def restored(layers: list[NamedObject], source: Source, learnt: KerasLayers) -> KerasLayers:
    return restore_layers(layers, source, json.loads(json.dumps(learnt.state())))


def check_restored(
    layers: list[NamedObject], source: Source, features: Any
) -> tuple[KerasLayers, np.ndarray]:
    """Learns, and checks that the same comes out of what was saved."""
    learnt = learn_layers(layers, source)
    again = restored(layers, source, learnt)
    assert again.state() == learnt.state()
    assert (again.feature_shape, again.feature_dtype) == (learnt.feature_shape, learnt.feature_dtype)
    values = learnt(features).numpy()
    np.testing.assert_array_equal(again(features), values)
    assert (values.shape[1:], values.dtype.name) == (learnt.feature_shape, learnt.feature_dtype)
    return learnt, values


def test_layers_without_a_state_run_in_order() -> None:
    layers = named(("Rescaling", {"scale": 0.5}), ("Rescaling", {"scale": 1, "offset": 1.0}))
    learnt, values = check_restored(layers, source_of(PICTURES), PICTURES)
    np.testing.assert_array_equal(values, PICTURES / np.float32(2) + 1)
    assert learnt.state() == {"layers": [{}, {}]}
    assert not learnt.is_random


def test_normalization_learns_from_the_training_part_what_comes_before_it() -> None:
    part = Subset(source_of(TABLE), np.arange(0, 1_500, 3))
    layers = named(("Rescaling", {"scale": 10}), "Normalization")
    learnt, _ = check_restored(layers, part, TABLE)
    state = learnt.state()["layers"][1]
    np.testing.assert_allclose(state["mean"], 10 * TABLE[::3].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(state["variance"], 100 * TABLE[::3].var(axis=0), rtol=1e-4)
    values = learnt(TABLE[::3]).numpy()
    np.testing.assert_allclose(values.std(axis=0), 1, rtol=1e-4)


@pytest.mark.parametrize("axis", [None, -1, [1, 3]])
def test_normalization_along_any_axis(axis: Any) -> None:
    check_restored(named(("Normalization", {"axis": axis})), source_of(PICTURES), PICTURES)


def test_what_the_config_gives_is_not_learnt() -> None:
    layers = named(("Normalization", {"mean": 1.0, "variance": 4.0}))
    learnt, values = check_restored(layers, source_of(TABLE), TABLE)
    np.testing.assert_allclose(values, (TABLE - 1) / 2, rtol=1e-6)
    assert learnt.state() == {"layers": [{}]}


def test_discretization() -> None:
    layers = named(("Discretization", {"num_bins": 4}))
    _, values = check_restored(layers, source_of(TABLE), TABLE)
    assert set(np.unique(values)) == {0, 1, 2, 3}


@pytest.mark.parametrize("output_mode", ["int", "multi_hot", "count", "tf_idf"])
def test_integer_lookup(output_mode: str) -> None:
    numbers = RANDOM.integers(10, 15, (300, 3))
    layers = named(("IntegerLookup", {"output_mode": output_mode}))
    learnt, _ = check_restored(layers, source_of(numbers), numbers)
    assert sorted(learnt.state()["layers"][0]["vocabulary"]) == [-1, 10, 11, 12, 13, 14]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (("StringLookup", {"output_mode": "one_hot"}), (4,)),
        (("TextVectorization", {"output_sequence_length": 3}), (3,)),
        (("TextVectorization", {"output_mode": "tf_idf", "max_tokens": 4}), (4,)),
    ],
)
def test_texts(tmp_path: Path, layer: tuple[str, dict[str, Any]], shape: tuple[int, ...]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": 0}) + "\n" for text in ("a b", "b ä", "b")))
    source = JsonlSource(JsonlSection(kind="jsonl", path=path))
    learnt, _ = check_restored(named(layer), source, source.read_arrays(np.arange(3))[0])
    assert learnt.feature_shape == shape


def test_random_layers_run_in_training_only() -> None:
    layers = named(("Rescaling", {"scale": 1.0}), ("RandomFlip", {"mode": "horizontal"}))
    learnt, values = check_restored(layers, source_of(PICTURES), PICTURES)
    np.testing.assert_array_equal(values, PICTURES)
    assert learnt.is_random
    assert learnt.state() == {"layers": [{}]}
    changed = [learnt.random(values).numpy() for _ in range(8)]
    assert any((one != other).any() for one, other in pairwise(changed))
    for pictures in changed:
        for before, after in zip(PICTURES, pictures, strict=True):
            assert (after == before).all() or (after == before[:, ::-1]).all()


def test_random_changes_follow_from_the_seed() -> None:
    def changed(*layers: Any) -> list[np.ndarray]:
        learnt = learn_layers(named(*layers), source_of(PICTURES))
        return [learnt.random(learnt(PICTURES)).numpy() for _ in range(2)]

    one = ("RandomBrightness", {"factor": 0.5})
    np.testing.assert_array_equal(changed(one), changed(one))
    assert (np.array(changed(one)) != changed(("RandomBrightness", {"factor": 0.5, "seed": 7}))).any()
    assert (np.array(changed(one)) != changed(("Rescaling", {"scale": 1}), one)).any()


def test_pixels_stay_pixels() -> None:
    learnt = learn_layers(named(("RandomRotation", {"factor": 0.3})), source_of(PICTURES))
    changed = learnt.random(learnt(PICTURES))
    assert changed.dtype == tf.uint8
    assert learnt.feature_dtype == "uint8"
    assert (changed.numpy() != PICTURES).any()


def test_works_in_a_pipeline() -> None:
    source = source_of(PICTURES)
    layers = named(("Resizing", {"height": 4, "width": 5}), ("RandomRotation", {"factor": 0.3}))
    learnt = learn_layers(layers, source)
    dataset = tf.data.Dataset.range(6).batch(3).map(lambda ids: learnt.random(learnt(source.read(ids)[0])))
    assert dataset.element_spec == tf.TensorSpec((None, 4, 5, 3), tf.float32)
    assert [batch.shape for batch in dataset] == [(3, 4, 5, 3)] * 2


def test_every_layer_with_a_seed_leaves_evaluation_alone() -> None:
    """What `random` rests on: a layer with a seed changes nothing when it does not train."""
    for name, arguments in {
        "RandomZoom": {"height_factor": 0.3},
        "RandAugment": {},
        "Solarization": {},
    }.items():
        layer = getattr(keras.layers, name)(**arguments)
        np.testing.assert_array_equal(layer(PICTURES, training=False), PICTURES)


@pytest.mark.parametrize(
    ("layers", "sentence", "place", "remedy"),
    [
        (
            ["RandomRotatoin"],
            "There is no Keras preprocessing layer",
            "data.layers[0].name",
            "'RandomRotation'?",
        ),
        (
            [("Rescaling", {"scale": 1}), "Dense"],
            "There is no Keras",
            "data.layers[1].name",
            "use one of AugMix",
        ),
        (["MixUp"], "The Keras layer MixUp cannot be used here", "data.layers[0].name", "data.image.augment"),
        (
            ["Rescaling"],
            "The Keras layer Rescaling refuses its arguments",
            "data.layers[0].arguments",
            "docu",
        ),
        (
            [("Resizing", {"hight": 3})],
            "The Keras layer Resizing refuses",
            "data.layers[0].arguments",
            "docu",
        ),
        ([("RandomZoom", {"height_factor": "x"})], "RandomZoom refuses", "data.layers[0].arguments", "docu"),
        (
            [("CenterCrop", {"height": 9, "width": 9, "data_format": "x"})],
            "refuses",
            "data.layers[0]",
            "docu",
        ),
        (["StringLookup"], "The Keras layer StringLookup cannot learn", "data.layers[0]", "docu"),
        (
            [("Normalization", {"axis": 7})],
            "The Keras layer Normalization cannot learn",
            "data.layers[0]",
            "docu",
        ),
        (
            [("TextVectorization", {"vocabulary": ["a"]})],
            "The Keras layer TextVectorization cannot be applied: ValueError: When using",
            "data.layers[0]",
            "docu",
        ),
        (
            ["RandomGrayscale", ("Rescaling", {"scale": 1})],
            "Random layers come last: Rescaling stands after RandomGrayscale",
            "data.layers[1]",
            "move it before",
        ),
        (
            [("RandomCrop", {"height": 3, "width": 3})],
            "The random Keras layer RandomCrop changes the shape",
            "data.layers[0]",
            "data.image.random_crop",
        ),
    ],
)
def test_what_is_refused(layers: list[Any], sentence: str, place: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        learn_layers(named(*layers), source_of(PICTURES))
    assert sentence in caught.value.problem
    assert caught.value.place is not None
    assert caught.value.place.startswith(place)
    assert remedy in str(caught.value.remedy)


def test_texts_without_a_length(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a b", "label": 0}\n')
    source = JsonlSource(JsonlSection(kind="jsonl", path=tmp_path / "a.jsonl"))
    with pytest.raises(ConfigError, match="does not give one array of a known shape for each example"):
        learn_layers(named("TextVectorization"), source)


def test_examples_with_many_inputs() -> None:
    source = ArraySource({"a": TABLE, "b": TABLE}, np.zeros(1_500, np.int64))
    with pytest.raises(ConfigError, match="Keras layers are for examples with one input"):
        learn_layers(named(("Rescaling", {"scale": 1})), source)


def test_a_state_of_other_layers() -> None:
    source = source_of(TABLE)
    state = learn_layers(named("Normalization"), source).state()
    with pytest.raises(
        DataError, match=r"What was learnt is of 1 layers; data\.layers has 2 that are not random"
    ):
        restore_layers(named("Normalization", ("Rescaling", {"scale": 1})), source, state)


def test_the_jax_backend_gives_the_same(tmp_path: Path, run_python: Callable[..., Any]) -> None:
    np.save(tmp_path / "pictures.npy", PICTURES)
    code = """
import json
import keras, numpy as np, tensorflow as tf
from distkeras.config.sections import NamedObject
from distkeras.data.preprocessing.keras_layers import learn_layers, restore_layers
from distkeras.data.sources.arrays import ArraySource
assert keras.backend.backend() == "jax"
source = ArraySource(np.load("pictures.npy"), np.zeros(6, np.int64))
layers = [NamedObject(name="Normalization"), NamedObject(name="RandomFlip", arguments={"mode": "vertical"})]
learnt = restore_layers(layers, source, json.loads(json.dumps(learn_layers(layers, source).state())))
dataset = tf.data.Dataset.range(6).batch(6).map(lambda ids: learnt(source.read(ids)[0]))
np.save("values.npy", next(dataset.as_numpy_iterator()))
np.save("changed.npy", next(dataset.map(learnt.random).as_numpy_iterator()))
"""
    result = run_python("-c", code, env={**os.environ, "KERAS_BACKEND": "jax"})
    assert result.returncode == 0, result.stderr
    layers = named("Normalization", ("RandomFlip", {"mode": "vertical"}))
    learnt = learn_layers(layers, source_of(PICTURES))
    np.testing.assert_allclose(np.load(tmp_path / "values.npy"), learnt(PICTURES), atol=1e-5)
    np.testing.assert_allclose(np.load(tmp_path / "changed.npy"), learnt.random(learnt(PICTURES)), atol=1e-5)
