"""C11: what do bfloat16, XLA and JAX do to the time of a step on this processor?

    pip install -e '.[bench,jax]'
    python benchmarks/c11_precision_and_xla.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]

Milliseconds a step of `distkeras.Trainer`, for three classes of models: an MLP (784-512-512-10, batch 128), a CNN (two
blocks on 32x32 images, batch 64) and a transformer (two blocks of width 128, four heads, 64 tokens, batch 32). Each in
float32 and mixed_bfloat16, by TensorFlow with and without XLA and by JAX, which always compiles. Fresh processes,
interleaved; median of the epochs after the first. Nothing has to be reached here: the defaults come from this table.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import harness
import numpy as np
from epochs import train_epochs
from harness import Benchmark, Mode
from ratios import Figures, Ratio

EPOCHS = 4
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
# Engine, and whether TensorFlow compiles.
ENGINES: dict[str, dict[str, Any]] = {
    "tensorflow": {"training.jit_compile": False},
    "xla": {"training.jit_compile": True},
    "jax": {"engine": "jax"},
}
NUM_CLASSES = 10
NUM_TOKENS, NUM_WORDS, WIDTH, NUM_HEADS = 64, 1000, 128, 4


def mlp(inputs: Any) -> Any:
    from keras import layers

    hidden = layers.Dense(512, activation="relu")(inputs)
    return layers.Dense(512, activation="relu")(hidden)


def cnn(inputs: Any) -> Any:
    from keras import layers

    hidden = inputs
    for filters in (32, 64):
        for _ in range(2):
            hidden = layers.Conv2D(filters, 3, padding="same", use_bias=False)(hidden)
            hidden = layers.Activation("relu")(layers.BatchNormalization()(hidden))
        hidden = layers.MaxPooling2D()(hidden)
    return layers.GlobalAveragePooling2D()(hidden)


def transformer(inputs: Any) -> Any:
    from keras import layers

    hidden = layers.Embedding(NUM_WORDS, WIDTH)(inputs)
    for _ in range(2):
        normal = layers.LayerNormalization()(hidden)
        hidden = layers.add(
            [hidden, layers.MultiHeadAttention(NUM_HEADS, WIDTH // NUM_HEADS)(normal, normal)]
        )
        wide = layers.Dense(4 * WIDTH, activation="gelu")(layers.LayerNormalization()(hidden))
        hidden = layers.add([hidden, layers.Dense(WIDTH)(wide)])
    return layers.GlobalAveragePooling1D()(hidden)


# Body, shape of an example, batch, steps of an epoch.
MODELS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...], int, int]] = {
    "mlp": (mlp, (784,), 128, 200),
    "cnn": (cnn, (32, 32, 3), 64, 20),
    "transformer": (transformer, (NUM_TOKENS,), 32, 30),
}


def measure(model: str, engine: str, precision: str) -> Figures:
    """Returns the milliseconds of a step."""
    body, shape, batch, num_steps = MODELS[model]
    rng = np.random.default_rng(0)
    full = (batch * num_steps, *shape)
    is_text = model == "transformer"
    features = (
        rng.integers(0, NUM_WORDS, full, np.int32) if is_text else rng.standard_normal(full, np.float32)
    )
    marks = train_epochs(
        partial(build_model, body, shape, features.dtype.name),
        (features, rng.integers(0, NUM_CLASSES, batch * num_steps, np.int32)),
        epochs=EPOCHS,
        batch_size=batch,
        settings={"training.precision": PRECISIONS[precision], **ENGINES[engine]},
    )
    return {"milliseconds_per_step": 1000 * statistics.median(marks.seconds[1:]) / num_steps}


def build_model(body: Callable[[Any], Any], shape: tuple[int, ...], dtype: str) -> Any:
    import keras

    inputs = keras.Input(shape, dtype=dtype)
    outputs = keras.layers.Dense(NUM_CLASSES, dtype="float32")(body(inputs))
    model = keras.Model(inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def ratios(model: str) -> dict[str, Ratio]:
    """Returns how many times faster than plain float32 each way is, and bfloat16 in each."""
    default = f"{model}_tensorflow_float32"
    ways = {f"{model}_{engine}": Ratio(default, f"{model}_{engine}_float32") for engine in ("xla", "jax")}
    return ways | {
        f"{model}_{engine}_bfloat16": Ratio(f"{model}_{engine}_float32", f"{model}_{engine}_bfloat16")
        for engine in ENGINES
    }


BENCHMARK = Benchmark(
    id="C11",
    script=__file__,
    figure="milliseconds_per_step",
    unit="milliseconds a step, the CNN by default",
    modes={
        f"{model}_{engine}_{precision}": Mode(
            partial(measure, model, engine, precision), needs=("jax",) if engine == "jax" else ()
        )
        for model in MODELS
        for engine in ENGINES
        for precision in PRECISIONS
    },
    subject="cnn_tensorflow_float32",
    ratios={name: ratio for model in MODELS for name, ratio in ratios(model).items()},
    settings={"epochs": EPOCHS, "models": {name: row[1:] for name, row in MODELS.items()}},
    packages=("jax",),
)

if __name__ == "__main__":
    harness.main(BENCHMARK, __doc__)
