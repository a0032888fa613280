"""A small convolutional network, for small images."""

from __future__ import annotations

import keras


def cnn(
    inputs: keras.KerasTensor,
    filters: list[int] | None = None,
    dense_units: int = 64,
    dropout: float = 0.0,
    batch_norm: bool = False,
) -> keras.KerasTensor:
    """Returns features of shape (batch, dense_units): blocks of two convolutions and a pooling, then a dense layer.

    Args:
        inputs: Images, shape (batch, height, width, channels).
        filters: Filters of each block; None: [32, 64]. Each block but the last halves height and width.
        dense_units: Units of the dense layer.
        dropout: Share of units dropped before the head, in [0, 1).
        batch_norm: Whether BatchNormalization follows each convolution.
    """
    hidden = inputs
    blocks = filters or [32, 64]
    for index, num_filters in enumerate(blocks):
        for _ in range(2):
            hidden = keras.layers.Conv2D(num_filters, 3, padding="same", use_bias=not batch_norm)(hidden)
            if batch_norm:
                hidden = keras.layers.BatchNormalization()(hidden)
            hidden = keras.layers.Activation("relu")(hidden)
        if index < len(blocks) - 1:
            hidden = keras.layers.MaxPooling2D()(hidden)
    hidden = keras.layers.GlobalAveragePooling2D()(hidden)
    hidden = keras.layers.Dense(dense_units, activation="relu")(hidden)
    return keras.layers.Dropout(dropout)(hidden) if dropout else hidden
