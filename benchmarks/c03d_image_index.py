"""C3d: how long does opening an image folder of a million files take, and how much memory does it keep?

    python benchmarks/c03d_image_index.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]

1,000,000 files in 1000 class folders: hard links to some dozens of small JPEGs, so that file names and headers come
from memory and the file system's own reading is not measured. Seconds, and resident memory that the open source keeps,
after everything was imported. Fresh processes, interleaved:

- distkeras: reads every file's header, so that a damaged one is found before training;
- keras: `keras.utils.image_dataset_from_directory` lists the names, and opens no file;
- walk, the bound: `os.walk` lists and sorts the names, and nothing else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import Benchmark, Mode
from measuring import scratch
from ratios import Figures, Ratio

NUM_FILES, NUM_CLASSES = 1_000_000, 1000
# ext4 allows 65,000 links to one file.
LINKS_PER_FILE = 50_000
SIDE = 32


def folder_of_links() -> Path:
    """Returns the folder; makes it the first time."""
    return scratch(f"links-{NUM_FILES}-files-{NUM_CLASSES}-classes", _link)


def _link(folder: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(NUM_FILES):
        if index % LINKS_PER_FILE == 0:
            picture = folder / f".{index}"
            pixels = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
            Image.fromarray(pixels).save(picture, "JPEG")
        name = folder / f"class-{index % NUM_CLASSES:03}"
        if index < NUM_CLASSES:
            name.mkdir()
        os.link(picture, name / f"{index:06}.jpg")


def measure(opener: Callable[[], Callable[[Path], Any]]) -> Figures:
    """Returns the cost of opening the folder by the function that `opener` imports."""
    import psutil

    folder, open_folder = folder_of_links(), opener()
    process = psutil.Process()
    before, started = process.memory_info().rss, time.perf_counter()
    opened = open_folder(folder)
    seconds = time.perf_counter() - started
    kept = process.memory_info().rss - before
    del opened
    return {"seconds": seconds, "resident_bytes_per_file": kept / NUM_FILES}


def distkeras_opener() -> Callable[[Path], Any]:
    from distkeras.config.source_sections import ImageFolderSource
    from distkeras.data.sources import image_folder, open_source

    del image_folder  # only imported, so that importing it is not counted
    return lambda folder: open_source(ImageFolderSource(kind="image_folder", path=folder))


def keras_opener() -> Callable[[Path], Any]:
    import keras
    import tensorflow as tf

    tf.constant(0)  # what TensorFlow sets up with its first tensor is not counted
    return partial(keras.utils.image_dataset_from_directory, image_size=(SIDE, SIDE), verbose=False)


def walk_opener() -> Callable[[Path], Any]:
    return lambda folder: sorted(
        os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names
    )


BENCHMARK = Benchmark(
    id="C3d",
    script=__file__,
    figure="seconds",
    unit="seconds",
    modes={
        "distkeras": Mode(partial(measure, distkeras_opener)),
        "keras": Mode(partial(measure, keras_opener)),
        "walk": Mode(partial(measure, walk_opener)),
    },
    subject="distkeras",
    peer="keras",
    bound="walk",
    ratios={
        "ratio": Ratio("distkeras", "keras", better="less"),
        "bound_ratio": Ratio("distkeras", "walk", better="less"),
        "memory_ratio": Ratio("distkeras", "keras", better="less", figure="resident_bytes_per_file"),
    },
    settings={"files": NUM_FILES, "classes": NUM_CLASSES, "links_per_file": LINKS_PER_FILE},
    prepare=folder_of_links,
)

if __name__ == "__main__":
    harness.main(BENCHMARK, __doc__)
