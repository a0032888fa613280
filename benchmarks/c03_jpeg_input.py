"""C3: how fast do JPEGs become batches of randomly cropped, mirrored and recoloured images?

    pip install -e '.[bench]'
    pip install torch torchvision      # for that peer: gigabytes, with CUDA; without it the peer is skipped
    python benchmarks/c03_jpeg_input.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]

1000 JPEGs of 500x375 from a warm page cache; a random part of each, resized to 224x224, mirrored with probability one
half, with changed brightness, contrast and saturation; batches of 64, examples in random order, every epoch anew.
Images a second, and CPU-seconds per 1000 images, of which a busy machine changes less. Fresh processes, interleaved:

- distkeras: its input layer, as a run reads a config;
- distkeras_without_colour: the same without brightness, contrast and saturation;
- keras_layers: `keras.utils.image_dataset_from_directory` and Keras's random layers in `map`, as Keras's documentation
  shows it. They crop without resizing and leave the saturation alone, which is less work than the others do;
- torch: a `DataLoader` with two worker processes; torchvision's transforms, or the same by Pillow where torchvision
  is missing or does not load;
- grain: two worker processes; Pillow;
- decode_only, the bound: the files are read and decoded in tf.data, whole, and nothing else. Who decodes only what a
  crop shows can be faster.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import harness
import numpy as np
from harness import Benchmark, Mode
from input_layer import training_dataset
from measuring import throughput
from photographs import DESCRIPTION, folder_of_photographs, paths_and_labels
from ratios import Figures, Ratio

BATCH = 64
SIZE = 224
NUM_WARM_UP = 48
NUM_MEASURED = 96
NUM_WORKERS = 2
CHANGE = 0.2
LEAST_AREA, LEAST_RATIO = 0.08, 3 / 4
CONFIG = f"""\
task: {{kind: image_classification}}
data:
  source: {{kind: image_folder, path: {{path}}}}
  split: {{validation: 0, test: 0}}
  image:
    size: [{SIZE}, {SIZE}]
    random_resized_crop: {{}}
    random_flip: horizontal
    augment: [{{kind: color_jitter, brightness: {CHANGE}, contrast: {CHANGE}, saturation: {CHANGE}}}]
model: {{builder: cnn}}
training: {{global_batch_size: {BATCH}}}
"""
WITHOUT_COLOUR = re.sub(" *augment:.*\n", "", CONFIG)


def measure(batches_of: Any) -> Figures:
    """Returns the images a second of an endless iterator of batches that `batches_of` makes."""
    return throughput(batches_of(), num_warm_up=NUM_WARM_UP, num_measured=NUM_MEASURED, batch_size=BATCH)


def distkeras_batches(config: str = CONFIG) -> Iterator[Any]:
    return iter(training_dataset(config.replace("{path}", str(folder_of_photographs()))))


def keras_batches() -> Iterator[Any]:
    import keras
    import tensorflow as tf

    layers = keras.Sequential(
        [
            keras.layers.RandomCrop(SIZE, SIZE),
            keras.layers.RandomFlip("horizontal"),
            keras.layers.RandomBrightness(CHANGE),
            keras.layers.RandomContrast(CHANGE),
        ]
    )
    images = keras.utils.image_dataset_from_directory(
        folder_of_photographs(), image_size=(256, 256), batch_size=None, verbose=False
    )
    batches = images.repeat().batch(BATCH)
    batches = batches.map(lambda x, y: (layers(x, training=True), y), num_parallel_calls=tf.data.AUTOTUNE)
    return iter(batches.prefetch(tf.data.AUTOTUNE))


def decoded_batches() -> Iterator[Any]:
    import tensorflow as tf

    paths, labels = paths_and_labels()
    files = tf.data.Dataset.from_tensor_slices((paths, labels)).shuffle(len(paths)).repeat()
    images = files.map(
        lambda path, label: (tf.io.decode_jpeg(tf.io.read_file(path), channels=3), label),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return iter(images.batch(BATCH).prefetch(tf.data.AUTOTUNE))


def torch_batches() -> Iterator[Any]:
    import torch

    class Photographs(torch.utils.data.Dataset):
        def __init__(self) -> None:
            self.paths, self.labels = paths_and_labels()
            self.transform = torchvision_transform()
            self.rng: np.random.Generator | None = None

        def __len__(self) -> int:
            return len(self.paths)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            if self.transform is not None:
                return self.transform(open_image(self.paths[index])), self.labels[index]
            if self.rng is None:
                self.rng = np.random.default_rng(torch.utils.data.get_worker_info().seed)
            return change_image(self.paths[index], self.rng), self.labels[index]

    photographs = Photographs()
    # One long epoch: with 15 batches each, its workers would stand still for some of the time at every end.
    sampler = torch.utils.data.RandomSampler(photographs, replacement=True, num_samples=10**6)
    return iter(
        torch.utils.data.DataLoader(photographs, batch_size=BATCH, sampler=sampler, num_workers=NUM_WORKERS)
    )


def torchvision_transform() -> Any:
    """Returns the changes as torchvision makes them on Pillow's images; None if it cannot be imported."""
    try:
        from torchvision.transforms import v2
    except (ImportError, RuntimeError):  # RuntimeError: it was built for another torch
        return None
    return v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, (LEAST_AREA, 1), (LEAST_RATIO, 1 / LEAST_RATIO), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(CHANGE, CHANGE, CHANGE),
            v2.PILToTensor(),
        ]
    )


def grain_batches() -> Iterator[Any]:
    import grain
    from absl import flags

    # Grain reads absl's flags, which nobody has parsed here.
    flags.FLAGS.mark_as_parsed()
    paths, labels = paths_and_labels()
    examples = grain.MapDataset.source(list(zip(paths, labels, strict=True))).seed(0).shuffle().repeat()
    examples = examples.random_map(lambda example, rng: (change_image(example[0], rng), example[1]))
    batches = examples.batch(BATCH).to_iter_dataset()
    return iter(batches.mp_prefetch(grain.multiprocessing.MultiprocessingOptions(num_workers=NUM_WORKERS)))


def open_image(path: str) -> Any:
    from PIL import Image

    with Image.open(path) as file:
        return file.convert("RGB")


def change_image(path: str, rng: np.random.Generator) -> np.ndarray:
    """Returns one image as the peers without tf.data make it, uint8, shape (SIZE, SIZE, 3)."""
    from PIL import Image, ImageEnhance

    image = open_image(path)
    image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, random_box(*image.size, rng))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = change(image).enhance(rng.uniform(1 - CHANGE, 1 + CHANGE))
    return np.array(image)


def random_box(width: int, height: int, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Returns a random part of an image as (left, top, right, bottom); the middle if ten tries do not fit."""
    for _ in range(10):
        area = width * height * rng.uniform(LEAST_AREA, 1)
        ratio = np.exp(rng.uniform(np.log(LEAST_RATIO), -np.log(LEAST_RATIO)))
        w, h = (area * ratio) ** 0.5, (area / ratio) ** 0.5
        if w <= width and h <= height:
            left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
            return left, top, left + w, top + h
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


BENCHMARK = Benchmark(
    id="C3",
    script=__file__,
    figure="examples_per_second",
    unit="images a second",
    modes={
        "distkeras": Mode(partial(measure, distkeras_batches)),
        "distkeras_without_colour": Mode(partial(measure, partial(distkeras_batches, WITHOUT_COLOUR))),
        "keras_layers": Mode(partial(measure, keras_batches)),
        "torch": Mode(partial(measure, torch_batches), needs=("torch",)),
        "grain": Mode(partial(measure, grain_batches), needs=("grain",)),
        "decode_only": Mode(partial(measure, decoded_batches)),
    },
    subject="distkeras",
    peer="keras_layers",
    bound="decode_only",
    ratios={
        "ratio": Ratio("distkeras", "keras_layers", target=4.0),
        "ratio_to_torch": Ratio("distkeras", "torch"),
        "ratio_to_grain": Ratio("distkeras", "grain"),
        "bound_ratio": Ratio("distkeras", "decode_only", target=1.0),
        "bound_ratio_without_colour": Ratio("distkeras_without_colour", "decode_only"),
        "cpu_ratio_to_bound": Ratio("distkeras", "decode_only", better="less", figure="cpu_seconds_per_1000"),
    },
    settings={"data": DESCRIPTION, "config": CONFIG, "worker_processes": NUM_WORKERS},
    packages=("grain", "pillow", "torch", "torchvision"),
    prepare=folder_of_photographs,
)

if __name__ == "__main__":
    harness.main(BENCHMARK, __doc__)
