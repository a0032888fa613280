"""Texts to token ids: what is learnt, in graphs, eagerly, with Keras on JAX, and inside a saved model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from distkeras.config.source_sections import JsonlSource as JsonlSection
from distkeras.config.transform_sections import TextSection
from distkeras.data.preprocessing.text import TextPreprocessing, learn_text, restore_text
from distkeras.data.sources.base import Subset
from distkeras.data.sources.jsonl import JsonlSource
from distkeras.errors import DataError

TEXTS = ["The cat sat.", "the  dog sat, and", "cat: a dog!", "zebra ÄRGER", ""]
NEW = np.array([b"The dog and a gnu", b"", b"\xc3\x84rger"], dtype=object)


def write(folder: Path, texts: list[str]) -> JsonlSource:
    path = folder / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": 0}) + "\n" for text in texts))
    return JsonlSource(JsonlSection(kind="jsonl", path=path))


def learnt(folder: Path, texts: list[str] = TEXTS, **keys: Any) -> TextPreprocessing:
    return learn_text(TextSection(sequence_length=4, **keys), write(folder, texts))


def vocabulary(preprocessing: TextPreprocessing) -> list[str]:
    return preprocessing.state()["vocabulary"]


def test_the_vocabulary_is_by_frequency_then_backwards_by_name(tmp_path: Path) -> None:
    assert vocabulary(learnt(tmp_path)) == [
        *("", "[UNK]"),
        *("the", "sat", "dog", "cat"),
        *("Ärger", "zebra", "and", "a"),
    ]  # Keras lowers ASCII letters only.


def test_texts_become_ids(tmp_path: Path) -> None:
    preprocessing = learnt(tmp_path)
    assert (preprocessing.feature_shape, preprocessing.feature_dtype) == ((4,), "int64")
    ids = preprocessing(NEW)
    assert ids.dtype == tf.int64
    np.testing.assert_array_equal(ids, [[2, 4, 8, 9], [0, 0, 0, 0], [6, 0, 0, 0]])


def test_works_in_a_pipeline(tmp_path: Path) -> None:
    source = write(tmp_path, TEXTS)
    preprocessing = learn_text(TextSection(sequence_length=4), source)
    dataset = tf.data.Dataset.range(5).batch(3).map(lambda ids: preprocessing(source.read(ids)[0]))
    assert dataset.element_spec == tf.TensorSpec((None, 4), tf.int64)
    assert np.concatenate(list(dataset))[0].tolist() == [2, 5, 3, 0]


def test_only_the_training_part_is_learnt_from(tmp_path: Path) -> None:
    part = Subset(write(tmp_path, TEXTS), np.array([1, 3]))
    assert set(vocabulary(learn_text(TextSection(), part))[2:]) == {
        "the",
        "dog",
        "sat",
        "and",
        "zebra",
        "Ärger",
    }


def test_the_order_and_number_of_batches_do_not_matter(tmp_path: Path) -> None:
    texts = [f"word{number % 700} common{number % 3}" for number in range(3_000)]
    learnt_once = vocabulary(learnt(tmp_path, texts, max_tokens=100))
    assert len(learnt_once) == 100
    assert learnt_once[2:5] == ["common2", "common1", "common0"]
    assert vocabulary(learnt(tmp_path, texts[::-1], max_tokens=100)) == learnt_once


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"standardize": "none"}, {"The", "cat", "sat."}),
        ({"standardize": "lower"}, {"the", "cat", "sat."}),
        ({"standardize": "strip_punctuation"}, {"The", "cat", "sat"}),
        ({"split": "character"}, set("the cats")),
        ({"ngrams": 2}, {"the", "cat", "sat", "the cat", "cat sat"}),
    ],
)
def test_what_a_token_is(tmp_path: Path, keys: dict[str, Any], expected: set[str]) -> None:
    preprocessing = learnt(tmp_path, ["The cat sat."], **keys)
    assert set(vocabulary(preprocessing)[2:]) == expected
    restored = restore_text(TextSection(sequence_length=4, **keys), preprocessing.state())
    np.testing.assert_array_equal(preprocessing(["The cat sat."]), restored(["The cat sat."]))


def test_what_was_learnt_is_made_again_from_json(tmp_path: Path) -> None:
    preprocessing = learnt(tmp_path, max_tokens=7)
    state = json.loads(json.dumps(preprocessing.state()))
    assert len(state["vocabulary"]) == 7
    restored = restore_text(TextSection(sequence_length=4, max_tokens=7), state)
    assert restored.state() == state
    np.testing.assert_array_equal(restored(NEW), preprocessing(NEW))
    with pytest.raises(DataError, match=r"The saved vocabulary has 7 tokens; data\.text\.max_tokens is 6"):
        restore_text(TextSection(max_tokens=6), state)


def test_very_long_words_are_not_learnt(tmp_path: Path) -> None:
    assert vocabulary(learnt(tmp_path, ["a " + "x" * 201, "y" * 200]))[2:] == ["y" * 200, "a"]


def test_texts_without_tokens(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"The training texts have no tokens"):
        learnt(tmp_path, ["?!", " "])


def test_a_saved_model_takes_raw_texts_in_another_process(
    tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    preprocessing = learnt(tmp_path)
    inputs = keras.Input((), dtype="string")
    hidden = keras.layers.Embedding(10, 3)(preprocessing.as_layer()(inputs))
    model = keras.Model(inputs, keras.layers.Flatten()(hidden))
    model.save(tmp_path / "model.keras")
    code = """
import keras, numpy as np, tensorflow as tf
model = keras.models.load_model("model.keras")
np.save("outputs.npy", model(tf.constant(["The dog and a gnu", "", "Ärger"])))
"""
    result = run_python("-c", code)
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "outputs.npy"), model(tf.constant(NEW)))
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(copy(tf.constant(NEW)), model(tf.constant(NEW)))


def test_the_jax_backend_gives_the_same(tmp_path: Path, run_python: Callable[..., Any]) -> None:
    here = learnt(tmp_path)
    code = """
import keras, numpy as np, tensorflow as tf
from pathlib import Path
from distkeras.config.source_sections import JsonlSource as Section
from distkeras.config.transform_sections import TextSection
from distkeras.data.preprocessing.text import learn_text
from distkeras.data.sources.jsonl import JsonlSource
assert keras.backend.backend() == "jax"
source = JsonlSource(Section(kind="jsonl", path=Path("texts.jsonl")))
preprocessing = learn_text(TextSection(sequence_length=4), source)
dataset = tf.data.Dataset.range(5).batch(5).map(lambda ids: preprocessing(source.read(ids)[0]))
[ids] = dataset.as_numpy_iterator()
assert (preprocessing(source.read_arrays(np.arange(5))[0]).numpy() == ids).all()
print(ids.dtype, ids.tolist(), preprocessing.state())
"""
    result = run_python("-c", code, env={**os.environ, "KERAS_BACKEND": "jax"})
    assert result.returncode == 0, result.stderr
    ids = here(np.array([text.encode() for text in TEXTS], dtype=object)).numpy()
    assert result.stdout.strip() == f"int64 {ids.tolist()} {here.state()}"
