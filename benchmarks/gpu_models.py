"""The models that gpu.py trains, written with Keras layers: ResNet-50, ViT-B/16 and GPT-2 small.

Each comes with synthetic examples in memory and with the floating-point operations of a forward pass, counted as is
usual for MFU: two for a multiplication and an addition, of convolutions and matrix products alone, attention whole.
Keras is imported at the top: choose its backend first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers


@dataclass(frozen=True)
class Workload:
    """A model and what it is trained on.

    Attributes:
        batch_size: Examples of a step.
        build: Returns the compiled model.
        examples: From a number of examples to (features, labels).
        flops: Operations of a forward pass of one example, given the model.
        tokens: Tokens of an example; None: it is an image.
    """

    batch_size: int
    build: Callable[[], keras.Model]
    examples: Callable[[int], tuple[np.ndarray, np.ndarray]]
    flops: Callable[[keras.Model], float]
    tokens: int | None = None


@dataclass(frozen=True)
class Sizes:
    """Sizes of a transformer.

    Attributes:
        num_blocks: Blocks.
        width: Width of the residual stream.
        num_heads: Heads of attention.
        length: Tokens of an example.
    """

    num_blocks: int
    width: int
    num_heads: int
    length: int

    @property
    def flops(self) -> float:
        """Operations of a forward pass through the blocks: 24 n w^2 for the weights, 4 n^2 w for attention."""
        weights = 24 * self.length * self.width**2
        return self.num_blocks * (weights + 4 * self.length**2 * self.width)


def workload(name: str, *, tiny: bool) -> Workload:
    """Returns a workload by name: `resnet50`, `resnet50_float32`, `vit_b16` or `gpt2_small`.

    Args:
        name: Which.
        tiny: Sizes at which a processor is done in seconds, to try the script.
    """
    if name.startswith("resnet50"):
        side, num_classes = (32, 10) if tiny else (224, 1000)
        dtype = "float32" if name == "resnet50_float32" else "uint8"
        return Workload(
            4 if tiny else 256,
            partial(resnet50, side, num_classes, dtype),
            partial(images, side, num_classes, dtype=dtype),
            convolution_flops,
        )
    if name == "vit_b16":
        side, patch, num_classes = (32, 8, 10) if tiny else (224, 16, 1000)
        length = (side // patch) ** 2 + 1
        sizes = Sizes(2, 64, 2, length) if tiny else Sizes(12, 768, 12, length)
        return Workload(
            4 if tiny else 128,
            partial(vision_transformer, sizes, side, patch, num_classes),
            partial(images, side, num_classes),
            lambda model: sizes.flops + convolution_flops(model),
        )
    sizes, num_words = (Sizes(2, 64, 2, 32), 512) if tiny else (Sizes(12, 768, 12, 1024), 50257)
    return Workload(
        4 if tiny else 16,
        partial(language_model, sizes, num_words),
        partial(texts, sizes.length, num_words),
        lambda model: sizes.flops + 2 * sizes.length * sizes.width * num_words,
        tokens=sizes.length,
    )


def resnet50(side: int, num_classes: int, dtype: str) -> keras.Model:
    """Returns ResNet-50 as `keras.applications` has it, for pixels from 0 to 255 of a type."""
    inputs = keras.Input((side, side, 3), dtype=dtype)
    body = keras.applications.ResNet50(
        weights=None, input_shape=(side, side, 3), classes=num_classes, classifier_activation=None
    )
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    return _compiled(keras.Model(inputs, body(layers.Rescaling(1 / 127.5, -1.0)(inputs))), optimizer)


def vision_transformer(sizes: Sizes, side: int, patch: int, num_classes: int) -> keras.Model:
    """Returns a vision transformer with a class token (https://arxiv.org/abs/2010.11929), for bytes."""
    inputs = keras.Input((side, side, 3), dtype="uint8")
    patches = layers.Conv2D(sizes.width, patch, strides=patch)(layers.Rescaling(1 / 127.5, -1.0)(inputs))
    hidden = Positions(has_class_token=True)(layers.Reshape((-1, sizes.width))(patches))
    for _ in range(sizes.num_blocks):
        hidden = block(hidden, sizes, causal=False)
    outputs = layers.Dense(num_classes)(layers.LayerNormalization(epsilon=1e-6)(hidden)[:, 0])
    return _compiled(keras.Model(inputs, outputs), keras.optimizers.AdamW(1e-3))


def language_model(sizes: Sizes, num_words: int) -> keras.Model:
    """Returns a decoder as GPT-2 is one, without dropout; its last layer is its embedding, transposed."""
    inputs = keras.Input((sizes.length,), dtype="int32")
    embedding = layers.ReversibleEmbedding(num_words, sizes.width)
    hidden = Positions()(embedding(inputs))
    for _ in range(sizes.num_blocks):
        hidden = block(hidden, sizes, causal=True)
    outputs = embedding(layers.LayerNormalization(epsilon=1e-5)(hidden), reverse=True)
    return _compiled(keras.Model(inputs, outputs), keras.optimizers.AdamW(6e-4))


def block(hidden: Any, sizes: Sizes, *, causal: bool) -> Any:
    """Returns one block of a transformer that normalises first."""
    normal = layers.LayerNormalization(epsilon=1e-5)(hidden)
    attention = layers.MultiHeadAttention(sizes.num_heads, sizes.width // sizes.num_heads)
    hidden = layers.add([hidden, attention(normal, normal, use_causal_mask=causal)])
    wide = layers.Dense(4 * sizes.width, activation="gelu")(layers.LayerNormalization(epsilon=1e-5)(hidden))
    return layers.add([hidden, layers.Dense(sizes.width)(wide)])


class Positions(layers.Layer):
    """Adds a learnt vector for each position, and puts a class token first where there is one."""

    def __init__(self, *, has_class_token: bool = False, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.has_class_token = has_class_token

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the vectors."""
        length, width = (size or 0 for size in input_shape[1:])
        if self.has_class_token:
            self.token = self.add_weight((1, 1, width), "zeros", name="token")
        positions = (1, length + self.has_class_token, width)
        self.positions = self.add_weight(
            positions, keras.initializers.RandomNormal(stddev=0.02), name="positions"
        )

    def call(self, hidden: Any) -> Any:
        """Returns shape (batch, length, width), or one token longer."""
        if self.has_class_token:
            token = keras.ops.broadcast_to(self.token, (keras.ops.shape(hidden)[0], 1, hidden.shape[-1]))
            hidden = keras.ops.concatenate([keras.ops.cast(token, hidden.dtype), hidden], axis=1)
        return hidden + keras.ops.cast(self.positions, hidden.dtype)


def convolution_flops(model: keras.Model) -> float:
    """Returns the operations of a model's convolutions and of its dense layers of one vector, for one example."""
    total = 0
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, layers.Conv2D):
            total += 2 * math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:3])
        elif isinstance(layer, layers.Dense) and len(layer.output.shape) == 2:
            total += 2 * math.prod(layer.kernel.shape)
    return total


def images(side: int, num_classes: int, count: int, *, dtype: str = "uint8") -> tuple[np.ndarray, np.ndarray]:
    """Returns noise from 0 to 255, shape (count, side, side, 3), with labels."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, side, side, 3), np.uint8).astype(dtype, copy=False)
    return pixels, rng.integers(0, num_classes, count, np.int32)


def texts(length: int, num_words: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns token ids, int32, shape (count, length), and the ids that follow them."""
    ids = np.random.default_rng(0).integers(0, num_words, (count, length + 1), np.int32)
    return ids[:, :-1], ids[:, 1:]


def _compiled(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> keras.Model:
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model
