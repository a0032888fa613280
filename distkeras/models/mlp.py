"""The multi-layer perceptron, for tables of numbers and small images."""

from __future__ import annotations

import keras


def mlp(
    inputs: keras.KerasTensor,
    hidden_units: list[int] | None = None,
    dropout: float = 0.0,
    batch_norm: bool = False,
    l2: float = 0.0,
) -> keras.KerasTensor:
    """Returns the last hidden layer's output, shape (batch, hidden_units[-1]).

    Args:
        inputs: Shape (batch, ...); flattened.
        hidden_units: Units of each hidden layer; None: [64, 64].
        dropout: Share of units dropped after each hidden layer, in [0, 1).
        batch_norm: Whether BatchNormalization follows each hidden layer.
        l2: Weight of the squared-weights penalty.
    """
    hidden = keras.layers.Flatten()(inputs) if len(inputs.shape) > 2 else inputs
    for units in hidden_units or [64, 64]:
        penalty = keras.regularizers.L2(l2) if l2 else None
        hidden = keras.layers.Dense(units, kernel_regularizer=penalty)(hidden)
        if batch_norm:
            hidden = keras.layers.BatchNormalization()(hidden)
        hidden = keras.layers.Activation("relu")(hidden)
        if dropout:
            hidden = keras.layers.Dropout(dropout)(hidden)
    return hidden
