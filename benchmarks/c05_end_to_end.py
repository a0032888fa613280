"""C5: is training from JPEGs as fast as its input and its model allow together?

    python benchmarks/c05_end_to_end.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]

A small CNN on 8000 JPEGs of 500x375 (those of C3, eight times), of each a random part as 96x96, mirrored with
probability one half; batches of 64. Images a second over 100 steps of the second epoch. Fresh processes, interleaved:

- distkeras: `distkeras train`;
- fit: the same model by Keras's `fit`, with `keras.utils.image_dataset_from_directory`, `RandomCrop` and `RandomFlip`
  in `map`, and prefetch;
- pipe: distkeras's input layer alone, as fast as it gives;
- model: `distkeras train` on the same number of 96x96 images in memory, which need no work.

Input and model share the cores, so the bound is 1 / (1 / pipe + 1 / model), of the same pass.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import Benchmark, Derived, Mode
from input_layer import open_config, training_dataset
from measuring import scratch, throughput
from photographs import DESCRIPTION, NUM_FILES, large_folder_of_photographs
from ratios import Figures, Ratio
from train_command import train_rows

BATCH = 64
SIZE = 96
NUM_COPIES = 8
NUM_EXAMPLES = NUM_COPIES * NUM_FILES
# Of an epoch's 125 steps: it is timed from the 25th to the last one.
FIRST_STEP, NUM_STEPS = 25, 100
NUM_WARM_UP, NUM_MEASURED = 64, 128
CONFIG = f"""\
task: {{kind: image_classification}}
data:
  source: {{source}}
  split: {{validation: 0, test: 0}}
  image: {{image}}
  normalize: unit
model: {{builder: cnn, arguments: {{filters: [4, 8, 16]}}}}
training: {{epochs: 2, global_batch_size: {BATCH}}}
topology: {{devices: cpu}}
logging: {{every_steps: {FIRST_STEP}, tensorboard: false}}
"""
CHANGES = f"{{size: [{SIZE}, {SIZE}], random_resized_crop: {{}}, random_flip: horizontal}}"


def jpeg_config() -> str:
    """Returns the config that trains from JPEGs."""
    source = f"{{kind: image_folder, path: {large_folder_of_photographs(NUM_COPIES)}}}"
    return CONFIG.replace("{source}", source).replace("{image}", CHANGES)


def array_config() -> str:
    """Returns the config that trains the same model on images in memory."""
    source = f"{{kind: arrays, path: {array_folder()}}}"
    return CONFIG.replace("{source}", source).replace("{image}", "{}")


def array_folder() -> Path:
    """Returns a folder of arrays; writes it the first time."""

    def write(folder: Path) -> None:
        rng = np.random.default_rng(0)
        np.save(folder / "x.npy", rng.integers(0, 256, (NUM_EXAMPLES, SIZE, SIZE, 3), np.uint8))
        np.save(folder / "y.npy", rng.integers(0, 2, NUM_EXAMPLES))

    return scratch(f"arrays-{NUM_EXAMPLES}x{SIZE}x{SIZE}x3", write)


def train(config_of: Any) -> Figures:
    """Returns the images a second of `distkeras train`."""
    seconds = [row["time"] for row in train_rows(config_of()) if row["epoch"] == 1]
    return {"examples_per_second": NUM_STEPS * BATCH / (seconds[-1] - seconds[0])}


def fit() -> Figures:
    """Returns the images a second of Keras's `fit`."""
    import keras
    import tensorflow as tf

    model = open_config(array_config()).build_model()
    layers = keras.Sequential([keras.layers.RandomCrop(SIZE, SIZE), keras.layers.RandomFlip("horizontal")])
    images = keras.utils.image_dataset_from_directory(
        large_folder_of_photographs(NUM_COPIES), image_size=(112, 112), batch_size=BATCH, verbose=False
    )
    batches = images.map(lambda x, y: (layers(x, training=True), y), num_parallel_calls=tf.data.AUTOTUNE)
    marks: list[float] = []
    mark = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: marks.append(time.perf_counter())
    )
    model.fit(batches.prefetch(tf.data.AUTOTUNE), epochs=2, verbose=0, callbacks=[mark])
    return {"examples_per_second": NUM_STEPS * BATCH / (marks[-1] - marks[-1 - NUM_STEPS])}


def pipe() -> Figures:
    """Returns the images a second of the input layer alone."""
    batches = iter(training_dataset(jpeg_config()))
    return throughput(batches, num_warm_up=NUM_WARM_UP, num_measured=NUM_MEASURED, batch_size=BATCH)


def one_after_the_other(pipe: float, model: float) -> float:
    """Returns the images a second of input and model on the same cores."""
    return 1 / (1 / pipe + 1 / model)


BENCHMARK = Benchmark(
    id="C5",
    script=__file__,
    figure="examples_per_second",
    unit="images a second",
    modes={
        "distkeras": Mode(partial(train, jpeg_config)),
        "fit": Mode(fit),
        "pipe": Mode(pipe),
        "model": Mode(partial(train, array_config)),
    },
    derived={"bound": Derived(one_after_the_other, ("pipe", "model"))},
    subject="distkeras",
    peer="fit",
    bound="bound",
    ratios={
        "ratio": Ratio("distkeras", "fit"),
        "bound_ratio": Ratio("distkeras", "bound", target=0.95),
    },
    settings={"data": DESCRIPTION, "copies": NUM_COPIES, "config": CONFIG, "image": CHANGES},
    prepare=lambda: (large_folder_of_photographs(NUM_COPIES), array_folder()),
)

if __name__ == "__main__":
    harness.main(BENCHMARK, __doc__)
