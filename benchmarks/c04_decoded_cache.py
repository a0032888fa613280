"""C4: how much faster are the epochs after the first from a cache of decoded images than from JPEGs?

    python benchmarks/c04_decoded_cache.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]

The JPEGs of C3, resized to 224x224, without random changes; batches of 64, in random order. Images a second, once the
cache is filled and four epochs are over. Fresh processes, interleaved: distkeras with `data.cache` in memory and on
disk (a memory-mapped file, from a warm page cache), distkeras without a cache, and the bound: the images of each batch
are copied out of one array into another, in one thread.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from typing import Any

import harness
import numpy as np
from harness import Benchmark, Mode
from input_layer import training_dataset
from measuring import throughput
from photographs import DESCRIPTION, NUM_FILES, folder_of_photographs
from ratios import Figures, Ratio

BATCH = 64
SIZE = 224
# `wrap`: every epoch, of 16 batches, visits every image.
NUM_WARM_UP, NUM_MEASURED = 64, 128
CONFIG = f"""\
task: {{kind: image_classification}}
data:
  source: {{kind: image_folder, path: {{path}}}}
  split: {{validation: 0, test: 0}}
  remainder: wrap
  image: {{size: [{SIZE}, {SIZE}]}}
  cache: {{cache}}
model: {{builder: cnn}}
training: {{global_batch_size: {BATCH}}}
"""


def measure(batches: Iterator[Any]) -> Figures:
    """Returns the images a second of an endless iterator of batches."""
    return throughput(batches, num_warm_up=NUM_WARM_UP, num_measured=NUM_MEASURED, batch_size=BATCH)


def from_config(cache: str) -> Figures:
    """Returns the images a second of distkeras with a cache section."""
    with tempfile.TemporaryDirectory() as folder:
        config = CONFIG.replace("{path}", str(folder_of_photographs())).replace("{cache}", cache)
        return measure(iter(training_dataset(config.replace("{folder}", folder))))


def memcpy() -> Figures:
    """Returns the images a second of copying alone."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (NUM_FILES, SIZE, SIZE, 3), np.uint8)
    batch = np.empty((BATCH, SIZE, SIZE, 3), np.uint8)

    def batches() -> Iterator[np.ndarray]:
        while True:
            yield np.take(images, rng.integers(0, NUM_FILES, BATCH), axis=0, out=batch, mode="clip")

    return measure(batches())


BENCHMARK = Benchmark(
    id="C4",
    script=__file__,
    figure="examples_per_second",
    unit="images a second",
    modes={
        "in_memory": Mode(partial(from_config, "{where: memory}")),
        "on_disk": Mode(partial(from_config, "{where: disk, folder: {folder}}")),
        "jpeg": Mode(partial(from_config, "null")),
        "memcpy": Mode(memcpy),
    },
    subject="in_memory",
    peer="jpeg",
    bound="memcpy",
    ratios={
        "ratio": Ratio("in_memory", "jpeg", target=3.0),
        "ratio_on_disk": Ratio("on_disk", "jpeg", target=3.0),
        "bound_ratio": Ratio("in_memory", "memcpy"),
    },
    settings={"data": DESCRIPTION, "config": CONFIG},
    prepare=folder_of_photographs,
)

if __name__ == "__main__":
    harness.main(BENCHMARK, __doc__)
