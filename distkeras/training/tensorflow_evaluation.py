"""Metrics and outputs of a model over a whole source, on all its replicas, by TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from distkeras.data.batches import BatchPlan, batch_ids
from distkeras.data.order import ById
from distkeras.data.pipeline import evaluation_dataset
from distkeras.data.sources.base import Source
from distkeras.distribution.collectives import Collectives
from distkeras.distribution.reduction import average_replica_state
from distkeras.distribution.strategy import WorkerStrategy
from distkeras.topology import Topology
from distkeras.training.loop import NoData, Validation, testing
from distkeras.training.totals import totals

# Of one call into TensorFlow; only the progress of a terminal would need shorter ones.
STEPS_PER_CALL = 100


def evaluation_batches(source: Source, global_batch_size: int, topology: Topology) -> Validation:
    """Returns a source's batches for `evaluate` and `predict`: in order, each example exactly once a pass."""
    batches = evaluation_dataset(source, topology, global_batch_size=global_batch_size)
    num_steps = int(batches.cardinality()) // topology.num_local_replicas
    return Validation(batches.repeat(), num_steps)


def evaluate(model: keras.Model, strategy: tf.distribute.Strategy, batches: Validation) -> Any:
    """Returns loss and metrics over every example exactly once, whatever the number of replicas. Collective."""
    average_replica_state(model, strategy)
    interval = min(STEPS_PER_CALL, batches.num_steps)
    model.steps_per_execution = interval
    model.test_function = testing(model, strategy, batches, interval, totals(model, strategy))
    return model.evaluate(
        NoData(batches.dataset.element_spec), steps=batches.num_steps, verbose=0, return_dict=True
    )


def predict(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    source: Source,
    batches: Validation,
    global_batch_size: int,
) -> Any:
    """Returns the model's output for each example, in the source's order. Collective."""
    model.steps_per_execution = 1
    model.predict_function = None
    batches_of_step: Any = batches.dataset
    if strategy.num_replicas_in_sync > 1:
        batches_of_step = strategy.distribute_datasets_from_function(lambda _: batches.dataset)
    outputs = model.predict(batches_of_step, steps=batches.num_steps, verbose=0)
    if not isinstance(strategy, WorkerStrategy):
        return outputs
    ids = [
        _ids_of_worker(source, global_batch_size, rank, strategy.topology.world_size)
        for rank in range(strategy.topology.world_size)
    ]
    return keras.tree.map_structure(lambda part: _in_order(part, ids, strategy.collectives), outputs)


def _ids_of_worker(source: Source, global_batch_size: int, rank: int, world_size: int) -> np.ndarray:
    """Returns the examples that one worker evaluates, in its order."""
    plan = BatchPlan(source.num_examples, global_batch_size, "partial")
    steps, replicas = range(plan.steps_per_epoch), range(rank, rank + 1)
    batches = batch_ids(plan, ById(source.num_examples), steps, replicas, world_size)
    return batches.ids[np.arange(batches.ids.shape[1]) < batches.lengths[:, np.newaxis]]


def _in_order(own: np.ndarray, ids: Sequence[np.ndarray], collectives: Collectives) -> np.ndarray:
    """Returns the outputs of all workers, by example."""
    longest = max(map(len, ids))
    padded = np.zeros((longest, *own.shape[1:]), own.dtype)
    padded[: len(own)] = own
    with collectives.waiting():
        everyone = collectives.gather(tf.constant(padded)).numpy().reshape(len(ids), *padded.shape)
    ordered = np.empty((sum(map(len, ids)), *own.shape[1:]), own.dtype)
    for rows, examples in zip(everyone, ids, strict=True):
        ordered[examples] = rows[: len(examples)]
    return ordered
