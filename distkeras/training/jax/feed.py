"""This worker's rows of every global batch, as NumPy arrays: no worker reads more than its own.

Shards of a batch may differ by one example. Each is filled up to the longest of its step, so that all workers make
arrays of one shape; `step.cut` takes the fill off again inside the compiled step.
"""

from __future__ import annotations

import itertools
import logging
import math
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import keras
import numpy as np

from distkeras.config.sections import RunSettings
from distkeras.data.bad_data import find_unreadable_example
from distkeras.data.batches import BatchPlan, batch_ids
from distkeras.data.lazy_tensorflow import tf
from distkeras.data.order import ById, Order
from distkeras.data.pipeline import evaluation_dataset
from distkeras.data.sources.base import Source
from distkeras.data.streaming import no_end
from distkeras.errors import DataError
from distkeras.topology import Topology
from distkeras.training.feeding import TrainingData, order_of, training_batches

_logger = logging.getLogger(__name__)

# Read at once from arrays: so much that Python's share is small, so little that it stays in the cache.
BLOCK_BYTES = 2**20
MAX_STEPS_PER_BLOCK = 64
# Training asks for steps without end; this many are as good.
NO_END = 2**62


@dataclass(frozen=True)
class Rows:
    """What this worker contributes to one global batch.

    Attributes:
        arrays: (features, label[, sample_weight]), each with `len(local shards) * max(lengths)` rows.
        lengths: Examples of each shard of the batch, over all workers.
    """

    arrays: Any
    lengths: tuple[int, ...]


def training_rows(
    settings: RunSettings, data: TrainingData, plan: BatchPlan, topology: Topology, start_step: int
) -> Iterator[Rows]:
    """Yields this worker's rows of every step from one on, without end, with class weights as sample weights."""
    plan.check_replicas(topology.num_replicas)
    if data.train.needs_tensorflow or data.changes.need_tensorflow:
        _keep_off_gpus()
        batches = training_batches(settings, data, plan, topology, start_step)
        return _from_batches(batches.as_numpy_iterator(), plan, topology, start_step)
    steps = range(start_step, settings.training.num_steps or NO_END)
    source = data.train.in_order(steps.stop * plan.global_batch_size)
    rows = _from_arrays(source, plan, order_of(settings, data), topology, steps)
    weights = settings.training.class_weight
    return rows if weights is None else (_with_class_weight(weights, one) for one in rows)


def evaluation_rows(source: Source, global_batch_size: int, topology: Topology) -> Iterator[Rows]:
    """Yields this worker's rows of one pass over a source: by id, each example exactly once."""
    plan = BatchPlan(source.num_examples, global_batch_size, "partial")
    if source.needs_tensorflow:
        _keep_off_gpus()
        batches = evaluation_dataset(source, topology, global_batch_size=global_batch_size)
        return _from_batches(batches.as_numpy_iterator(), plan, topology, 0)
    return _from_arrays(source, plan, ById(source.num_examples), topology, range(plan.steps_per_epoch))


def num_steps(source: Source, global_batch_size: int) -> int:
    """Returns the steps of one pass of `evaluation_rows`.

    Raises:
        DataError: If the source is a stream.
    """
    if source.is_stream:
        raise no_end(source.name)
    return BatchPlan(source.num_examples, global_batch_size, "partial").steps_per_epoch


def example_of(source: Source) -> Any:
    """Returns a batch of one example, as the model sees it."""
    return next(evaluation_rows(source, 1, Topology())).arrays


def lengths_of(plan: BatchPlan, step: int, num_shards: int) -> tuple[int, ...]:
    """Returns the examples of each shard of a step's batch."""
    step_in_epoch = np.array([step % plan.steps_per_epoch])
    _, lengths = plan.slices(step_in_epoch, np.arange(num_shards), num_shards)
    return tuple(lengths.tolist())


def _from_arrays(
    source: Source, plan: BatchPlan, order: Order, topology: Topology, steps: range
) -> Iterator[Rows]:
    num_local = topology.num_local_replicas
    longest = plan.longest_batch(topology.num_replicas)
    at_once = _steps_at_once(source, num_local * longest)
    for start in range(steps.start, steps.stop, at_once):
        block = steps[start - steps.start : start - steps.start + at_once]
        batches = batch_ids(plan, order, block, topology.local_replicas, topology.num_replicas)
        ids = batches.ids.reshape(len(block), num_local, longest)
        arrays = _narrow(source.read_arrays(ids.reshape(-1)), source)
        for index, step in enumerate(block):
            lengths = lengths_of(plan, step, topology.num_replicas)
            yield Rows(jax.tree.map(partial(_of_step, ids.shape, index, max(lengths)), arrays), lengths)


def _steps_at_once(source: Source, step_rows: int) -> int:
    if source.is_stream:
        return 1  # a step must not wait for the examples of later ones
    row_bytes = sum(part.nbytes for part in jax.tree.leaves(source.read_arrays(np.array([0]))))
    return max(1, min(MAX_STEPS_PER_BLOCK, BLOCK_BYTES // max(1, row_bytes * step_rows)))


def _of_step(block_shape: tuple[int, ...], index: int, num_rows: int, part: np.ndarray) -> np.ndarray:
    """Returns one step of a block, shape (steps, shards, longest), of which each shard has `num_rows` here."""
    rows = part.reshape(*block_shape, *part.shape[1:])[index, :, :num_rows]
    return rows.reshape(-1, *rows.shape[2:])


def _from_batches(
    batches: Iterator[Any], plan: BatchPlan, topology: Topology, start_step: int
) -> Iterator[Rows]:
    """From the batches of each local replica, as tf.data makes them."""
    step = start_step
    while True:
        shards = list(itertools.islice(batches, topology.num_local_replicas))
        if len(shards) < topology.num_local_replicas:
            return
        lengths = lengths_of(plan, step, topology.num_replicas)
        arrays = jax.tree.map(partial(_filled, max(lengths)), *shards)
        yield Rows(_narrow(arrays, None), lengths)
        step += 1


def _filled(rows: int, *parts: np.ndarray) -> np.ndarray:
    """Returns the shards one after the other, each with rows of zeros up to a length."""
    filled = np.zeros((len(parts), rows, *parts[0].shape[1:]), parts[0].dtype)
    for place, part in zip(filled, parts, strict=True):
        place[: len(part)] = part
    return filled.reshape(-1, *filled.shape[2:])


def _narrow(arrays: Any, source: Source | None) -> Any:
    """Returns arrays of the types that JAX computes with: 32 bits, unless the run's precision is float64."""

    def one(array: np.ndarray) -> np.ndarray:
        dtype = jax.dtypes.canonicalize_dtype(array.dtype)
        if dtype == array.dtype:
            return array
        if array.dtype.kind in "iu" and array.size and np.abs(array).max() > np.iinfo(dtype).max:
            raise DataError(
                f"A whole number is too large for {dtype}, the widest that this run's JAX computes with.",
                place=source.name if source is not None else None,
                received=array.max().item(),
                remedy="count from 0, or set training.precision: float64",
            )
        return array.astype(dtype)

    return jax.tree.map(one, arrays)


def _with_class_weight(weights: Mapping[int, float], rows: Rows) -> Rows:
    """Multiplies each example's weight by its class's; classes that are not named have weight 1, as in Keras."""
    features, label, *sample_weight = rows.arrays
    table = np.ones(max(weights) + 1, keras.config.floatx())
    table[list(weights)] = list(weights.values())
    is_one_hot = label.ndim == 2 and label.shape[1] > 1
    index = label.argmax(axis=1) if is_one_hot else label.reshape(-1).astype(np.int64)
    weight = np.where(index < len(table), table[np.minimum(index, len(table) - 1)], table.dtype.type(1))
    return Rows((features, label, weight * sample_weight[0] if sample_weight else weight), rows.lengths)


def unreadable_example(error: Exception, data: TrainingData) -> DataError | None:
    """Returns which example TensorFlow could not read; None if the error is another."""
    if not type(error).__module__.startswith("tensorflow."):
        return None
    sources = [source for source in (data.train, data.validation) if source is not None]
    return next((found for found in map(find_unreadable_example, sources) if found is not None), None)


def _keep_off_gpus() -> None:
    """TensorFlow only reads here; the memory of the GPUs is JAX's."""
    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError as error:
        _logger.warning("TensorFlow had started before and may hold memory of the GPUs: %s", error)


class Prefetched:
    """Rows that are read in a thread of their own while the devices compute; close it at the end.

    Args:
        rows: What is read.
        depth: Steps that are read ahead.
    """

    def __init__(self, rows: Iterator[Rows], depth: int) -> None:
        self._queue: queue.Queue[Rows | Exception | None] = queue.Queue(depth)
        self._seen: list[Rows | Exception | None] = []  # of the queue's first, if it was looked at
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(rows,), daemon=True, name="distkeras-feed")
        self._thread.start()

    def if_read(self) -> Rows | None:
        """Returns the next rows if they have been read; before an end or an error there are none."""
        if not self._seen:
            try:
                self._seen.append(self._queue.get_nowait())
            except queue.Empty:
                return None
        found = self._seen[0]
        if not isinstance(found, Rows):
            return None
        self._seen.clear()
        return found

    def __next__(self) -> Rows:
        found = self._seen.pop() if self._seen else self._queue.get()
        if isinstance(found, Exception):
            raise found
        if found is None:
            raise StopIteration
        return found

    def close(self) -> None:
        """Ends the thread."""
        self._closed.set()
        while self._thread.is_alive():
            self._drain()
            self._thread.join(0.01)

    def _drain(self) -> None:
        try:
            while True:
                self._queue.get_nowait()
        except queue.Empty:
            return

    def _read(self, rows: Iterator[Rows]) -> None:
        try:
            for one in rows:
                self._queue.put(one)
                if self._closed.is_set():
                    return
            self._queue.put(None)
        except Exception as error:
            self._queue.put(error)


def depth_for(row_bytes: int) -> int:
    """Returns how many steps are read ahead: some for small batches, few for large ones."""
    return max(2, min(2 * MAX_STEPS_PER_BLOCK, 64 * BLOCK_BYTES // max(1, row_bytes)))


def bytes_of(arrays: Any) -> int:
    """Returns the size of a tree of arrays."""
    return sum(math.prod(part.shape) * part.dtype.itemsize for part in jax.tree.leaves(arrays))
