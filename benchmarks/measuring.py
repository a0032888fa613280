"""What a mode uses inside its own process: a clock that counts CPU-seconds, too, and data that is made once."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def scratch(name: str, make: Callable[[Path], None]) -> Path:
    """Returns a folder of data in the temporary folder, made once and kept.

    Args:
        name: Names the data and everything that decides what it is: other data needs another name.
        make: Fills an empty folder. If it is interrupted, nothing is kept.
    """
    folder = Path(tempfile.gettempdir(), "distkeras-benchmarks", name)
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as parent:
            made = Path(parent, name)
            made.mkdir()
            make(made)
            made.rename(folder)
    return folder


class Stopwatch:
    """Seconds and CPU-seconds since it was made, of this process and of all processes below it."""

    def __init__(self) -> None:
        self._cpu, self._wall = _tree_cpu_seconds(), time.perf_counter()

    def read(self) -> tuple[float, float]:
        """Returns (seconds, CPU-seconds); the kernel counts the latter in hundredths."""
        wall = time.perf_counter() - self._wall
        return wall, _tree_cpu_seconds() - self._cpu


def throughput(
    batches: Iterator[Any], *, num_warm_up: int, num_measured: int, batch_size: int
) -> dict[str, float]:
    """Takes batches as fast as they come, and returns `examples_per_second` and `cpu_seconds_per_1000` examples.

    What was made ahead during the warm-up is had for nothing, and as much is made ahead for nobody at the end.

    Args:
        batches: Endless, or at least as long as both numbers together.
        num_warm_up: Batches that are taken before the clock starts.
        num_measured: Batches that are timed.
        batch_size: Examples of a batch.
    """
    take = taker(batches)
    take(num_warm_up)
    watch = Stopwatch()
    take(num_measured)
    wall, cpu = watch.read()
    examples = num_measured * batch_size
    return {"examples_per_second": examples / wall, "cpu_seconds_per_1000": 1000 * cpu / examples}


def taker(batches: Iterator[Any]) -> Callable[[int], None]:
    """Returns what takes a number of batches from an iterator and drops them.

    An iterator of TensorFlow is driven from inside a graph, as training drives it: asked for each batch from Python, it
    takes some tenths of a millisecond more for each.
    """

    def take(num_batches: int) -> None:
        for _ in range(num_batches):
            next(batches)

    if not hasattr(batches, "element_spec"):
        return take
    import tensorflow as tf

    # An argument, and not captured: a graph would keep the iterator until the interpreter ends, and an iterator that
    # calls Python cannot end then.
    @tf.function
    def take_in_graph(iterator: Any, num_batches: tf.Tensor) -> None:
        for _ in tf.range(num_batches):
            next(iterator)

    return lambda num_batches: take_in_graph(batches, tf.constant(num_batches))


def _tree_cpu_seconds() -> float:
    # Here, so that the benchmarks without a stopwatch do without psutil (extra `bench`).
    import psutil

    me, total = psutil.Process(), 0.0
    for process in (me, *me.children(recursive=True)):
        # What has ended just now is counted by its parent, which waited for it.
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total
