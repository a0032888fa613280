"""Texts as token ids, by Keras's TextVectorization; its vocabulary is learnt from the training part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from distkeras.config.transform_sections import TextSection
from distkeras.data.pipeline import evaluation_dataset
from distkeras.data.preprocessing.base import Preprocessing
from distkeras.data.sources.base import Source
from distkeras.errors import DataError
from distkeras.topology import Topology

# Counting looks up a batch's words in a table: large batches have fewer different ones for each text.
TEXTS_PER_BATCH = 1024
# Keras keeps a vocabulary as an array whose every cell is as wide as the longest token: one line of base64 among
# 20,000 words would take gigabytes. What is longer is no word.
LONG_WORDS = r"\S{201,}"
# Padding and unknown words come first in every vocabulary.
NUM_SPECIAL_TOKENS = 2


class TextPreprocessing(Preprocessing):
    """Texts, string, shape (batch,), to token ids, int64, shape (batch, sequence_length).

    0 is padding and 1 an unknown word. It works in tf.data graphs with any Keras backend.

    Args:
        section: How texts are split.
        vocabulary: All tokens by id, padding and unknown included.
    """

    feature_dtype = "int64"

    def __init__(self, section: TextSection, vocabulary: Sequence[str]) -> None:
        self.feature_shape = (section.sequence_length,)
        self._section = section
        self._vocabulary = tuple(vocabulary)
        # As a graph it is TensorFlow's with every Keras backend, also where it is called eagerly.
        self._ids = tf.function(
            self.as_layer(), input_signature=[tf.TensorSpec((None,), tf.string)], autograph=False
        )

    def __call__(self, features: Any) -> tf.Tensor:
        return self._ids(features)

    def state(self) -> dict[str, Any]:
        return {"vocabulary": list(self._vocabulary)}

    def as_layer(self) -> keras.layers.TextVectorization:
        """Returns a new Keras layer that does the same, for a model that is given texts.

        The vocabulary is in its config, so that copies of the model have it, too.
        """
        # The constructor adds what is special of itself.
        return _layer(self._section, vocabulary=list(self._vocabulary[NUM_SPECIAL_TOKENS:]))


def learn_text(section: TextSection, source: Source) -> TextPreprocessing:
    """Learns the most frequent tokens of the training part; of equally frequent ones the later in sorted order.

    Words of more than 200 characters are not learnt.

    Args:
        section: How texts are split, and how many tokens are told apart.
        source: The training part: texts.

    Raises:
        DataError: If the texts have no tokens.
    """
    layer = _layer(section)
    batches = evaluation_dataset(source, Topology(), global_batch_size=TEXTS_PER_BATCH)
    layer.adapt(batches.map(lambda features, *_: tf.strings.regex_replace(features, LONG_WORDS, "")))
    vocabulary = [str(token) for token in layer.get_vocabulary()]
    if len(vocabulary) == NUM_SPECIAL_TOKENS:
        raise DataError(
            "The training texts have no tokens.",
            place=source.name,
            remedy="See data.text.standardize and data.text.split: nothing is left of any text.",
        )
    return TextPreprocessing(section, vocabulary)


def restore_text(section: TextSection, state: Mapping[str, Any]) -> TextPreprocessing:
    """Returns what `TextPreprocessing.state` was taken of.

    Raises:
        DataError: If the vocabulary is larger than the config allows.
    """
    vocabulary = state["vocabulary"]
    if len(vocabulary) > section.max_tokens:
        raise DataError(
            f"The saved vocabulary has {len(vocabulary):,} tokens; data.text.max_tokens is {section.max_tokens:,}.",
            place="data.text.max_tokens",
            remedy="set it to what the run was trained with, or train under another name",
        )
    return TextPreprocessing(section, vocabulary)


def _layer(section: TextSection, vocabulary: list[str] | None = None) -> keras.layers.TextVectorization:
    return keras.layers.TextVectorization(
        max_tokens=section.max_tokens,
        standardize=None if section.standardize == "none" else section.standardize,
        split=section.split,
        ngrams=section.ngrams,
        output_sequence_length=section.sequence_length,
        vocabulary=vocabulary,
    )
