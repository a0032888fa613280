"""C8: how long does training stand still for a commit?

    pip install orbax-checkpoint       # for that peer; without it the peer is skipped
    python benchmarks/c08_checkpoint_stall.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]

States of 10, 100 and 500 MB: the weights of a stack of dense layers and both moments of Adam, float32. Epochs have 8
steps, and every second one ends in a commit. A stall is the time from the last step of such an epoch to the beginning
of the next one, less the median of that time where nothing is committed. Milliseconds, median (p50) and 99th percentile
(p99) of 11 commits, of which the latter is nearly the slowest; the first commit is warm-up. Fresh processes,
interleaved:

- distkeras: `checkpoint.every_epochs: 2`: copied, and written to the disk in the background;
- model_checkpoint: `fit` with `keras.callbacks.ModelCheckpoint`, whole models as `.keras`;
- orbax: `fit` with `keras.callbacks.OrbaxCheckpoint`, which writes in the background, too;
- memcpy, the bound: the same arrays are copied into memory that is there already, in one thread. What a copy into new
  memory takes is in `into_new_memory_milliseconds`.

What is written in the background makes steps slower meanwhile: `slowed_milliseconds` is how much longer the epochs
after a commit take than the others.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import harness
import numpy as np
from epochs import EpochMarks, train_epochs
from harness import Benchmark, Mode
from ratios import Figures, Ratio

MEGABYTES = (10, 100, 500)
NUM_LAYERS, BATCH, STEPS_PER_EPOCH = 4, 16, 8
NUM_COMMITS, EVERY_EPOCHS = 12, 2
EPOCHS = NUM_COMMITS * EVERY_EPOCHS + 1


def units_for(megabytes: int) -> int:
    """Returns the units of each layer: a weight takes 4 bytes, and 8 more with Adam."""
    return math.isqrt(megabytes * 10**6 // (12 * NUM_LAYERS))


def build_model(units: int) -> Any:
    import keras

    model = keras.Sequential([keras.Input((units,)), *(keras.layers.Dense(units) for _ in range(NUM_LAYERS))])
    # A rate at which nothing diverges: weights that are no numbers are not committed.
    model.compile(keras.optimizers.Adam(1e-7), "mse")
    return model


def examples(units: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns features and targets of an epoch."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(STEPS_PER_EPOCH * BATCH, units)).astype("float32")
    return features, features[:, ::-1].copy()


def commit_by_distkeras(megabytes: int) -> Figures:
    """Returns the stalls of `dk.Trainer`."""
    units = units_for(megabytes)
    settings = {"checkpoint.every_epochs": EVERY_EPOCHS}
    marks = train_epochs(
        partial(build_model, units), examples(units), epochs=EPOCHS, batch_size=BATCH, settings=settings
    )
    return figures(marks)


def save_by_callback(name: str, megabytes: int) -> Figures:
    """Returns the stalls of `fit` with one of Keras's callbacks."""
    import keras

    class Saver(getattr(keras.callbacks, name)):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if (epoch + 1) % EVERY_EPOCHS == 0:
                super().on_epoch_end(epoch, logs)

    units, marks = units_for(megabytes), EpochMarks()
    features, targets = examples(units)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.keras" if name == "ModelCheckpoint" else "checkpoints")
        callbacks = [marks.callback(), Saver(str(path))]
        build_model(units).fit(
            features, targets, batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=callbacks
        )
    return figures(marks)


def stalls(marks: EpochMarks) -> Figures:
    """Returns what the pauses between epochs say, without those before the second commit."""
    pauses = marks.pauses[EVERY_EPOCHS:]
    nothing = statistics.median(pauses[::EVERY_EPOCHS])
    return percentiles([pause - nothing for pause in pauses[1::EVERY_EPOCHS]])


def figures(marks: EpochMarks) -> Figures:
    """Returns the stalls, and how much slower steps are while a commit is written."""
    seconds = marks.seconds[EVERY_EPOCHS:]
    after, others = seconds[::EVERY_EPOCHS], seconds[1::EVERY_EPOCHS]
    return {
        **stalls(marks),
        "slowed_milliseconds": 1000 * (statistics.median(after) - statistics.median(others)),
    }


def percentiles(seconds: list[float]) -> Figures:
    """Returns median and 99th percentile, in milliseconds."""
    p50, p99 = np.percentile(seconds, (50, 99)).tolist()
    return {"stall_milliseconds": 1000 * p50, "stall_p99_milliseconds": 1000 * p99}


def memcpy(megabytes: int) -> Figures:
    """Returns what copying alone takes."""
    units = units_for(megabytes)
    arrays = [np.ones((units, units), np.float32) for _ in range(3 * NUM_LAYERS)]
    copies = [array.copy() for array in arrays]
    into_old: list[float] = []
    into_new: list[float] = []
    for _ in range(NUM_COMMITS):
        begin = time.perf_counter()
        for copy, array in zip(copies, arrays, strict=True):
            np.copyto(copy, array)
        middle = time.perf_counter()
        kept = [array.copy() for array in arrays]
        into_old.append(middle - begin)
        into_new.append(time.perf_counter() - middle)
        del kept
    return {
        **percentiles(into_old[1:]),
        "into_new_memory_milliseconds": 1000 * statistics.median(into_new[1:]),
    }


def modes(megabytes: int) -> dict[str, Mode]:
    """Returns the modes of one size."""
    return {
        f"distkeras_{megabytes}": Mode(partial(commit_by_distkeras, megabytes)),
        f"model_checkpoint_{megabytes}": Mode(partial(save_by_callback, "ModelCheckpoint", megabytes)),
        f"orbax_{megabytes}": Mode(
            partial(save_by_callback, "OrbaxCheckpoint", megabytes), needs=("orbax.checkpoint",)
        ),
        f"memcpy_{megabytes}": Mode(partial(memcpy, megabytes)),
    }


def ratios(megabytes: int, suffix: str) -> dict[str, Ratio]:
    """Returns the ratios of one size."""
    ours, peer, orbax, bound = (
        f"{name}_{megabytes}" for name in ("distkeras", "model_checkpoint", "orbax", "memcpy")
    )
    return {
        f"ratio{suffix}": Ratio(peer, ours, target=5.0),
        f"ratio_p99{suffix}": Ratio(peer, ours, target=5.0, figure="stall_p99_milliseconds"),
        f"ratio_to_orbax{suffix}": Ratio(orbax, ours),
        f"bound_ratio{suffix}": Ratio(ours, bound, target=1.2, better="less"),
    }


BENCHMARK = Benchmark(
    id="C8",
    script=__file__,
    figure="stall_milliseconds",
    unit="milliseconds of standing still, 500 MB",
    modes={name: mode for megabytes in MEGABYTES for name, mode in modes(megabytes).items()},
    subject="distkeras_500",
    peer="model_checkpoint_500",
    bound="memcpy_500",
    ratios={**ratios(500, ""), **ratios(100, "_100"), **ratios(10, "_10")},
    settings={
        "megabytes": MEGABYTES,
        "layers": NUM_LAYERS,
        "global_batch_size": BATCH,
        "steps_per_epoch": STEPS_PER_EPOCH,
        "commits": NUM_COMMITS,
    },
    packages=("orbax-checkpoint",),
)

if __name__ == "__main__":
    harness.main(BENCHMARK, __doc__)
