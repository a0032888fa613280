"""C10: how long does a user wait for the first step?

    python benchmarks/c10_start.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]

Seconds from the start of a process, and CPU-seconds of all processes by then, from a warm page cache but for what is
called cold; fresh, interleaved. The MLP of C1 on 6,400 examples in an `.npz` file:

- help: `distkeras --help`, to its end;
- train: `distkeras train`, to the first step that metrics.jsonl tells of;
- ray: the same on one Ray worker, with a cluster that the run starts itself;
- script: a plain Keras script that loads the same file and calls `fit`, to the end of its first step;
- import_keras, the bound: `python -c "import keras"`, and nothing else;
- train_cold and script_cold, on Linux: train and script after the kernel was told to forget the files of Python's
  standard library, of all installed packages and of distkeras (POSIX_FADV_DONTNEED), as it has after a reboot. It
  keeps what a running process has mapped: Python itself, NumPy, and TensorFlow where another process uses it. What was
  read from the disk again is `read_mebibytes`; next to nothing means that this system does not forget when told to.

Targets are in seconds, so some ratios are to limits: half a second for the help, and a second more than the script for
the first step.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import harness
import numpy as np
from harness import Benchmark, Derived, Mode
from measuring import Stopwatch, scratch
from ratios import Figures, Ratio

import distkeras

NUM_EXAMPLES, BATCH = 6400, 64
HELP_SECONDS, MORE_SECONDS = 0.5, 1.0
POLL_SECONDS = 0.01
TRAIN = (sys.executable, "-m", "distkeras", "train", "--config", "run.yaml", "--quiet")
CONFIG = f"""\
task: {{kind: tabular_classification}}
data: {{source: {{kind: arrays, path: {{path}}}}, split: {{validation: 0, test: 0}}}}
model: {{builder: mlp, arguments: {{hidden_units: [64, 64]}}}}
training: {{global_batch_size: {BATCH}, metrics: [accuracy]}}
logging: {{every_steps: 1}}
"""
SCRIPT = f"""\
from pathlib import Path

import keras
import numpy as np

with np.load("{{path}}") as file:
    features, labels = file["x"], file["y"]
layers = [keras.Input((64,)), *(keras.layers.Dense(64, activation="relu") for _ in range(2))]
model = keras.Sequential([*layers, keras.layers.Dense(10, activation="softmax")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
mark = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: Path("step").write_text(str(batch)))
model.fit(features, labels, batch_size={BATCH}, verbose=0, callbacks=[mark])
"""


def data_file() -> Path:
    """Returns the file of examples; writes it the first time."""

    def write(folder: Path) -> None:
        rng = np.random.default_rng(0)
        features = rng.normal(size=(NUM_EXAMPLES, 64)).astype("float32")
        np.savez(folder / "data.npz", x=features, y=rng.integers(0, 10, NUM_EXAMPLES))

    return scratch(f"start-{NUM_EXAMPLES}x64", write) / "data.npz"


def whole(command: Sequence[str]) -> Figures:
    """Returns how long a command takes."""
    watch = Stopwatch()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return _figures(watch)


def to_first_step(command: Sequence[str], program: tuple[str, str], sign: str) -> Figures:
    """Returns how long a command takes until a file has content; waits for its end, uncounted.

    Args:
        command: Runs in a folder of its own.
        program: Name and content of a file in it.
        sign: Path in it of the file that the first step writes.
    """
    with tempfile.TemporaryDirectory() as folder:
        name, text = program
        Path(folder, name).write_text(text.replace("{path}", str(data_file())))
        watch = Stopwatch()
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        while not _has_content(Path(folder, sign)):
            if process.poll() is not None:
                raise SystemExit(f"{' '.join(command)} ended before its first step.")
            time.sleep(POLL_SECONDS)
        figures = _figures(watch)
        if process.wait(timeout=300):
            raise SystemExit(f"{' '.join(command)} failed after its first step.")
        # The only child of this process so far. The kernel counts blocks of 512 bytes.
        blocks = resource.getrusage(resource.RUSAGE_CHILDREN).ru_inblock
        return {**figures, "read_mebibytes": blocks / 2048}


def _figures(watch: Stopwatch) -> Figures:
    seconds, cpu_seconds = watch.read()
    return {"seconds": seconds, "cpu_seconds": cpu_seconds}


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def train(topology: str) -> Figures:
    """Returns how long `distkeras train` takes to its first step."""
    config = f"{CONFIG}topology: {{{topology}, devices: cpu}}\n"
    return to_first_step(TRAIN, ("run.yaml", config), "runs/run/metrics.jsonl")


def script_to_first_step() -> Figures:
    """Returns how long a plain Keras script takes to its first step."""
    return to_first_step((sys.executable, "script.py"), ("script.py", SCRIPT), "step")


def cold(measure: Callable[[], Figures]) -> Figures:
    """Returns the same with nothing of Python and its packages in the page cache."""
    for path in installed_files():
        forget(path)
    return measure()


def installed_files() -> Iterator[Path]:
    """Yields the files of the standard library, of all installed packages, and of distkeras wherever it is."""
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    for folder in (*folders, Path(distkeras.__file__).parent):
        yield from (path for path in Path(folder).rglob("*") if path.is_file())


def forget(path: Path) -> None:
    """Tells the kernel to drop a file from its page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


TRAIN_LOCALLY = partial(train, "kind: local")
COLD = {
    "train_cold": Mode(partial(cold, TRAIN_LOCALLY)),
    "script_cold": Mode(partial(cold, script_to_first_step)),
}
BENCHMARK = Benchmark(
    id="C10",
    script=__file__,
    figure="seconds",
    unit="seconds to the first step",
    modes={
        "help": Mode(partial(whole, (sys.executable, "-m", "distkeras", "--help"))),
        "train": Mode(TRAIN_LOCALLY),
        "script": Mode(script_to_first_step),
        "ray": Mode(partial(train, "kind: ray, workers: 1"), needs=("ray",)),
        "import_keras": Mode(partial(whole, (sys.executable, "-c", "import keras"))),
        **(COLD if hasattr(os, "posix_fadvise") else {}),
    },
    derived={
        "help_limit": Derived(lambda: HELP_SECONDS),
        "train_limit": Derived(lambda script: script + MORE_SECONDS, ("script",)),
        "train_cold_limit": Derived(lambda script: script + MORE_SECONDS, ("script_cold",)),
    },
    subject="train",
    peer="script",
    bound="import_keras",
    ratios={
        "ratio": Ratio("train", "script", better="less"),
        "cpu_ratio": Ratio("train", "script", better="less", figure="cpu_seconds"),
        "bound_ratio": Ratio("train", "import_keras", better="less"),
        "train_to_limit": Ratio("train", "train_limit", target=1.0, better="less"),
        "train_cold_to_limit": Ratio("train_cold", "train_cold_limit", target=1.0, better="less"),
        "help_to_limit": Ratio("help", "help_limit", target=1.0, better="less"),
        "ray_to_local": Ratio("ray", "train", better="less"),
        "ratio_cold": Ratio("train_cold", "script_cold", better="less"),
        "cold_to_warm": Ratio("train_cold", "train", better="less"),
    },
    settings={"config": CONFIG, "script": SCRIPT},
    packages=("ray",),
    prepare=data_file,
)

if __name__ == "__main__":
    harness.main(BENCHMARK, __doc__)
