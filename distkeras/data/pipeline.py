"""The order of the tf.data operations, from step numbers to batches, and why they stand in that order.

    step numbers -> blocks of ids and draws -> read -> batch -> finish -> augment -> prefetch

1. Ids come first, a block of steps at a time. They are arithmetic in NumPy (`batches.py`), so a run resumes at
   any step at once, and Python is called once a block rather than once a batch.
2. Only the ids of this worker's replicas are made, so nothing is read to be thrown away. tf.data's own
   sharding is off: it would shard a second time.
3. Reading is where time goes, so it runs in parallel. A source that reads many ids at once gets a whole
   block; one that reads a file or a record at a time gets ids one by one.
4. Images are brought to one size as they are read: of different sizes they do not stack. Where a random part of an
   image is wanted, only that part of a JPEG is decoded.
5. What is learnt from the data, and augmentation, work on batches: few vectorised operations rather than many small
   ones an example. Random numbers were drawn with the ids, from (seed, pass, example id).
6. Prefetch is last, so that the next batches are made while the model trains.

Parallel stages keep their order. All batches are made equally long, because stacking and slicing are cheapest
with one length; where a plan has shorter ones, the fill is cut off at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from distkeras.data.batches import BatchPlan, batch_ids
from distkeras.data.changes import RandomChanges
from distkeras.data.lazy_tensorflow import tf
from distkeras.data.order import ById, Order, each_value
from distkeras.data.permutation import order_key, uniforms
from distkeras.data.sources.base import Source
from distkeras.errors import DataError
from distkeras.observability.environment import available_memory, num_usable_cores
from distkeras.topology import Topology

# Blocks are so large that Python's share of a small batch is some microseconds, and so small that the blocks
# in flight take little memory: 4 MiB of float32. A step of large images is a block of its own.
BLOCK_VALUES = 2**20
MAX_STEPS_PER_BLOCK = 64
# As how many numbers a text counts.
TEXT_VALUES = 512
# Training asks for steps without end; this many are as good.
NO_END = 2**62
# Several for each core, so that none waits for the next to be handed out: 1000 photographs took 1.0 CPU-seconds with 8
# on each of 2 cores, 1.24 with 1, and 1.1 with as many as tf.data tuned itself to (2026-11-22).
READS_PER_CORE = 8
# Finished batches that wait for each replica, where there is memory for them.
BATCHES_AHEAD = 8
# Steps of a stream that are read ahead: what was read is lost to it when the run ends.
STREAM_STEPS_AHEAD = 2


def training_dataset(
    source: Source,
    plan: BatchPlan,
    order: Order,
    topology: Topology,
    *,
    seed: int,
    start_step: int,
    end_step: int | None = None,
    changes: RandomChanges | None = None,
    num_parallel_calls: int | None = None,
    ram_budget_bytes: int | None = None,
) -> tf.data.Dataset:
    """Returns this worker's batches from a step on, without end.

    Args:
        source: The training examples, as the model sees them.
        plan: How an epoch is cut into steps; for `order.num_examples` examples.
        order: Which example stands where.
        topology: Whose batches.
        seed: The run's seed, for random changes.
        start_step: Global step of the first batch, counted over epochs. Any step is reached at once.
        end_step: The global step that nobody will ask for; None: there is none. A stream is not read beyond it.
        changes: Random changes to the examples; None: none.
        num_parallel_calls: Examples that are read at the same time; None: several for each core.
        ram_budget_bytes: Memory that finished batches may take; None: half of what is free.

    Returns:
        A dataset of (features, label[, sample_weight]), each the batch of one replica. They come step by
        step, and within a step by replica, of this worker only. The batch dimension is static where all
        batches are equal.

    Raises:
        DataError: If the plan was made for another number of examples, or there are fewer than replicas.
    """
    plan.check_replicas(topology.num_replicas)
    if plan.num_examples != order.num_examples:
        raise DataError(
            f"The plan is for {plan.num_examples:,} examples; the order has {order.num_examples:,}.",
            place=source.name,
        )
    end_step = NO_END if end_step is None else end_step
    source = source.in_order(end_step * plan.global_batch_size)
    reading = _Reading(source, plan, order, topology, changes or RandomChanges(), seed)
    batches = reading.batches(range(start_step, end_step), num_parallel_calls, ram_budget_bytes)
    return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))


def evaluation_dataset(source: Source, topology: Topology, *, global_batch_size: int) -> tf.data.Dataset:
    """Returns this worker's batches of one pass over a source: by id, each example exactly once.

    Args:
        source: The examples, as the model sees them.
        topology: Whose batches.
        global_batch_size: Examples of a step over all replicas; the last step has what is left.

    Returns:
        A dataset of (features, label[, sample_weight]), each the batch of one replica, step by step and
        within a step by replica. Every replica gets as many batches as the others; a batch may be empty. Its
        cardinality is known: steps x this worker's replicas.
    """
    plan = BatchPlan(source.num_examples, global_batch_size, "partial")
    reading = _Reading(source, plan, ById(source.num_examples), topology, RandomChanges(), seed=0)
    num_batches = plan.steps_per_epoch * topology.num_local_replicas
    batches = reading.batches(range(plan.steps_per_epoch))
    return batches.apply(tf.data.experimental.assert_cardinality(num_batches))


@dataclass(frozen=True)
class _Reading:
    """Everything that decides which examples are read, and how."""

    source: Source
    plan: BatchPlan
    order: Order
    topology: Topology
    changes: RandomChanges
    seed: int

    def batches(
        self, steps: range, num_parallel_calls: int | None = None, ram_budget_bytes: int | None = None
    ) -> tf.data.Dataset:
        """The pipeline, in the order that the module's docstring explains."""
        blocks, num_cores = self._blocks(steps), num_usable_cores()
        if self.source.granularity == "batch":
            # The examples of a stream can only be read one after the other.
            in_parallel = None if self.source.is_stream else num_parallel_calls or num_cores
            batches = _mapped(blocks, self._read_block, in_parallel).unbatch()
        else:
            examples = _mapped(blocks, self._flatten_with_boxes).unbatch()
            in_parallel = num_parallel_calls or READS_PER_CORE * num_cores
            examples = _mapped(examples, self._read_example, in_parallel)
            batches = examples.batch(self._batch_length, drop_remainder=True)
            batches = _mapped(batches, self._finish_batch, num_cores)
        ahead = self._num_ahead(batches, ram_budget_bytes)
        if not self._has_equal_batches:
            batches = _mapped(batches, _cut)
        options = tf.data.Options()
        options.deterministic = True
        # Examples and batches are made side by side. Single operations that are divided among threads, too, only wait
        # for each other: 1.15 against 0.95 CPU-seconds for 1000 photographs, on two cores.
        options.threading.max_intra_op_parallelism = 1
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        # TensorFlow 2.21 waits, when an iterator is dropped, for the next turn of the thread that tunes it, up to a
        # minute: 37 s after 45 s of reading. Nor is that thread needed: see READS_PER_CORE.
        options.autotune.enabled = False
        return batches.prefetch(ahead).with_options(options)

    def _num_ahead(self, batches: tf.data.Dataset, ram_budget_bytes: int | None) -> int:
        """Returns how many finished batches wait for training."""
        num_replicas = self.topology.num_local_replicas
        if self.source.is_stream:
            return STREAM_STEPS_AHEAD * num_replicas
        size = max(1, sum(map(_num_bytes, tf.nest.flatten(batches.element_spec))))
        fit = (available_memory() // 2 if ram_budget_bytes is None else ram_budget_bytes) // size
        return max(1, min(BATCHES_AHEAD * num_replicas, fit))

    def _blocks(self, steps: range) -> tf.data.Dataset:
        """Blocks of (ids, lengths[, draws]), a row a batch: step by step, and within a step by replica."""
        block_length = self._steps_per_block()
        types = (tf.int64, tf.int64, tf.float32)[: 3 if self.changes.num_draws else 2]

        def make_block(index: np.int64) -> tuple[np.ndarray, ...]:
            start = int(index) * block_length
            return self._ids_and_draws(steps[start : start + block_length])

        def block(index: tf.Tensor) -> tuple[tf.Tensor, ...]:
            ids, lengths, *draws = tf.numpy_function(make_block, [index], types)
            ids.set_shape((None, self._batch_length))
            lengths.set_shape((None,))
            for numbers in draws:
                numbers.set_shape((None, self._batch_length, self.changes.num_draws))
            return ids, lengths, *draws

        return _mapped(tf.data.Dataset.range(math.ceil(len(steps) / block_length)), block)

    def _ids_and_draws(self, steps: range) -> tuple[np.ndarray, ...]:
        topology, num_draws = self.topology, self.changes.num_draws
        block = batch_ids(self.plan, self.order, steps, topology.local_replicas, topology.num_replicas)
        if not num_draws:
            # Rather nothing than an array without elements: `unbatch` on such a tensor corrupts memory
            # (TensorFlow 2.21: Dataset.range(1000).map(lambda _: tf.zeros([64, 0])).unbatch() crashes).
            return block.ids, block.lengths
        draws = np.empty((*block.ids.shape, num_draws), np.float32)
        for one, chosen in each_value(block.passes):
            key = order_key(f"augmentation/{self.source.fingerprint}", self.seed, one)
            draws[chosen] = uniforms(key, block.ids[chosen], num_draws)
        return block.ids, block.lengths, draws

    def _read_block(self, ids: tf.Tensor, lengths: tf.Tensor, *draws: tf.Tensor) -> tuple[Any, ...]:
        flat_ids, _, *flat_draws = self._flatten(ids, lengths, *draws)
        example = self._finish(self.source.read(flat_ids), *flat_draws)

        def into_rows(part: tf.Tensor) -> tf.Tensor:
            rows = tf.reshape(part, tf.concat([[-1, self._batch_length], tf.shape(part)[1:]], axis=0))
            rows.set_shape((None, self._batch_length, *part.shape[1:]))
            return rows

        example = tf.nest.map_structure(into_rows, example)
        return example if self._has_equal_batches else (example, lengths)

    def _flatten(self, ids: tf.Tensor, lengths: tf.Tensor, *draws: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """A row an example: (ids, lengths of their batches[, draws])."""
        flat_draws = [tf.reshape(numbers, [-1, self.changes.num_draws]) for numbers in draws]
        return tf.reshape(ids, [-1]), tf.repeat(lengths, self._batch_length), *flat_draws

    def _flatten_with_boxes(
        self, ids: tf.Tensor, lengths: tf.Tensor, *draws: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """A row an example: (ids, lengths of their batches[, draws[, boxes]])."""
        rows = self._flatten(ids, lengths, *draws)
        if not draws:
            return rows
        boxes = self.changes.boxes(self.source, rows[0], rows[2])
        return rows if boxes is None else (*rows, boxes)

    def _read_example(self, example_id: tf.Tensor, length: tf.Tensor, *drawn: tf.Tensor) -> tuple[Any, ...]:
        return self.changes.read(self.source, example_id, *drawn), length, *drawn[:1]

    def _finish_batch(self, example: Any, lengths: tf.Tensor, *draws: tf.Tensor) -> tuple[Any, ...]:
        example = self._finish(example, *draws)
        return example if self._has_equal_batches else (example, lengths[0])

    def _finish(self, example: tuple[Any, ...], *draws: tf.Tensor) -> tuple[Any, ...]:
        features, *rest = example
        features = _shaped(self.source.finish(features), self.source.feature_shape)
        return self.changes.apply(self.source, (features, *rest), *draws)

    @property
    def _batch_length(self) -> int:
        return self.plan.longest_batch(self.topology.num_replicas)

    @property
    def _has_equal_batches(self) -> bool:
        return self.plan.has_equal_batches(self.topology.num_replicas)

    def _steps_per_block(self) -> int:
        if self.source.is_stream:
            return 1  # a step must not wait for the examples of later ones
        # A source that reads one example at a time needs only the ids of a block at once.
        read_at_once = 1
        if self.source.granularity == "batch":
            is_text = self.source.feature_dtype == "string"
            read_at_once = TEXT_VALUES if is_text else _num_values(self.source.feature_shape)
        step_values = self._batch_length * self.topology.num_local_replicas * read_at_once
        return max(1, min(MAX_STEPS_PER_BLOCK, BLOCK_VALUES // step_values))


def _mapped(
    dataset: tf.data.Dataset, function: Callable[..., Any], in_parallel: int | None = None
) -> tf.data.Dataset:
    """Maps without AutoGraph, which would take half a second to rewrite what has no use for it."""
    traced = tf.autograph.experimental.do_not_convert(function)
    return dataset.map(traced, num_parallel_calls=in_parallel)


def _shaped(features: Any, shape: Any) -> Any:
    """Decoders do not know shapes before they run; the model needs them when it is built."""
    if isinstance(features, Mapping):
        return {name: _shaped(part, shape[name]) for name, part in features.items()}
    if isinstance(features, tuple):
        return tuple(map(_shaped, features, shape))
    return tf.ensure_shape(features, (None, *shape))


def _cut(example: tuple[Any, ...], length: tf.Tensor) -> tuple[Any, ...]:
    """Takes the fill off a batch."""
    return tf.nest.map_structure(lambda part: part[:length], example)


def _num_bytes(spec: tf.TensorSpec) -> int:
    """The bytes of a tensor; those of a text are not known before it is read."""
    per_value = TEXT_VALUES if spec.dtype == tf.string else spec.dtype.size
    return per_value * math.prod(size or 1 for size in spec.shape)


def _num_values(shape: Any) -> int:
    """The numbers in one example's features, over all of its inputs."""
    if isinstance(shape, Mapping):
        return sum(_num_values(part) for part in shape.values())
    if any(isinstance(part, tuple) for part in shape):
        return sum(_num_values(part) for part in shape)
    return math.prod(size or 1 for size in shape)
