"""The LSTM, for texts, windows of a time series, and spectrograms."""

from __future__ import annotations

import keras


def lstm(
    inputs: keras.KerasTensor,
    units: list[int] | None = None,
    embedding_units: int = 64,
    vocabulary_size: int = 20_000,
    bidirectional: bool = False,
    dropout: float = 0.0,
) -> keras.KerasTensor:
    """Returns the last layer's output after the last step, shape (batch, units[-1]), or twice that if bidirectional.

    Args:
        inputs: Token ids, integers, shape (batch, steps), in which 0 is padding at the end; or numbers, shape
            (batch, steps), (batch, steps, channels) or (batch, steps, bands, channels).
        units: Units of each layer; None: [64].
        embedding_units: Numbers that stand for one token; for token ids only.
        vocabulary_size: One more than the largest token id: `data.text.max_tokens`, whose default this is, or more.
        bidirectional: Whether each layer also reads from the end to the beginning.
        dropout: Share of units dropped after each layer, in [0, 1).
    """
    if len(inputs.shape) == 2 and not keras.backend.is_float_dtype(inputs.dtype):
        hidden = _embedded(inputs, vocabulary_size, embedding_units)
    elif len(inputs.shape) == 3:
        hidden = inputs
    else:
        hidden = keras.layers.Reshape((inputs.shape[1], -1))(inputs)
    layer_units = units or [64]
    for index, num_units in enumerate(layer_units):
        layer = keras.layers.LSTM(num_units, return_sequences=index < len(layer_units) - 1)
        hidden = (keras.layers.Bidirectional(layer) if bidirectional else layer)(hidden)
        if dropout:
            hidden = keras.layers.Dropout(dropout)(hidden)
    return hidden


def _embedded(ids: keras.KerasTensor, vocabulary_size: int, units: int) -> keras.KerasTensor:
    # A text without tokens counts as one unknown token: cuDNN refuses a batch with a sequence that is all padding.
    ids = keras.ops.concatenate([keras.ops.maximum(ids[:, :1], 1), ids[:, 1:]], axis=1)
    return keras.layers.Embedding(vocabulary_size, units, mask_zero=True)(ids)
