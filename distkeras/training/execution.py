"""Many steps in one call into TensorFlow, and the seconds among them that were spent waiting for input.

All of it is traced without AutoGraph, as Keras's own `fit` is: rewriting the code takes longer than tracing it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.distribute.values import PerReplicaSpec

from distkeras.distribution.strategy import ReplicaStrategy, WorkerStrategy, waiting
from distkeras.training.step import Change, Step, one_step

# What each worker wants, as whole numbers; what comes out is the largest of each.
Votes = Sequence[int]
# (iterator, number of steps, votes) -> (logs of the last step, seconds spent waiting for input, what was voted)
TrainingChunk = Callable[[Any, int, Votes], tuple[Any, float, list[int]]]
# (iterator, number of steps) -> logs of the last step
TestingChunk = Callable[[Any, int], Any]


def training_chunk(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    *,
    jit_compile: bool,
    deterministic: bool,
    change: Change | None = None,
) -> TrainingChunk:
    """Returns a function that trains any number of steps inside one call into TensorFlow.

    The number is an argument of the graph, not part of it: a change of it traces nothing again. Workers vote in the
    same call, while its first step runs, so that agreeing on what comes after it costs no time of its own.

    Args:
        model: A compiled model, created under `strategy`.
        strategy: Where it runs.
        jit_compile: Whether XLA compiles the step; of workers, all of it before the reduction, which has no kernel.
        deterministic: Whether TensorFlow's determinism is on, which forbids a graph to read the clock; Python
            then calls each step.
        change: What each replica does to its batch first; None: nothing.
    """
    step = step_function(model, strategy, "train_step", jit_compile, change)
    count = _vote_counter(strategy)
    if deterministic or model.run_eagerly:
        stepwise = _stepwise(step, strategy, count)

        def run_stepwise(iterator: Any, num_steps: int, votes: Votes) -> tuple[Any, float, list[int]]:
            with waiting(strategy, "train", num_steps):
                return stepwise(iterator, num_steps, votes)

        return run_stepwise

    @tf.function(autograph=False, reduce_retracing=True)
    def chunk(iterator: Any, num_steps: tf.Tensor, votes: tf.Tensor) -> tuple[Any, tf.Tensor, tf.Tensor]:
        voted = count(votes)

        def one_more(done: tf.Tensor, waited: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            batch, waited = _timed_batch(iterator, strategy, waited)
            step(batch)
            return done + 1, _after_update(model, waited)

        begin = (tf.constant(1), tf.zeros((), tf.float64))
        _, waited = tf.while_loop(lambda done, _: done < num_steps, one_more, begin)
        batch, waited = _timed_batch(iterator, strategy, waited)
        return step(batch), waited, voted

    def run(iterator: Any, num_steps: int, votes: Votes) -> tuple[Any, float, list[int]]:
        with waiting(strategy, "train", num_steps):
            logs, waited, voted = chunk(iterator, tf.constant(num_steps), tf.constant(votes, tf.int32))
            return logs, float(waited), voted.numpy().tolist()

    return run


def _vote_counter(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    return strategy.collectives.max if isinstance(strategy, WorkerStrategy) else lambda votes: votes


def testing_chunk(model: keras.Model, strategy: tf.distribute.Strategy) -> TestingChunk:
    """Returns a function that evaluates any number of steps inside one call."""
    step = step_function(model, strategy, "test_step", jit_compile=False)
    if model.run_eagerly:
        stepwise = _stepwise(step, strategy, tf.identity)
        return lambda iterator, num_steps: stepwise(iterator, num_steps, ())[0]

    @tf.function(autograph=False, reduce_retracing=True)
    def chunk(iterator: Any, num_steps: tf.Tensor) -> Any:
        def one_more(done: tf.Tensor) -> tuple[tf.Tensor]:
            step(_next_batch(iterator, strategy))
            return (done + 1,)

        tf.while_loop(lambda done: done < num_steps, one_more, (tf.constant(1),))
        return step(_next_batch(iterator, strategy))

    def run(iterator: Any, num_steps: int) -> Any:
        with waiting(strategy, "test", num_steps):
            logs = chunk(iterator, tf.constant(num_steps))
            for value in tf.nest.flatten(logs):
                value.numpy()  # a GPU is waited for here, within the limit
            return logs

    return run


def step_function(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    method: str,
    jit_compile: bool,
    change: Change | None = None,
) -> Step:
    """Returns one step of the model as a graph, or as it is where the model runs eagerly."""
    jit_compile = jit_compile and not model.run_eagerly
    step = one_step(model, strategy, method, jit_compile=jit_compile, change=change)
    if model.run_eagerly:
        return step
    compile_step = jit_compile and not isinstance(strategy, ReplicaStrategy | WorkerStrategy)
    return tf.function(step, jit_compile=compile_step, autograph=False, reduce_retracing=True)


def for_batches_like(spec: Any, step: Any) -> Step:
    """Returns the step, traced for any batch that is as an iterator's `element_spec` says; None: it says nothing.

    Traced for the batch that Python happened to fetch, Keras would weigh batches in its metrics by that one's size.
    """
    is_graph = hasattr(step, "get_concrete_function")
    return step.get_concrete_function(spec) if is_graph and spec is not None else step


def _stepwise(
    step: Step, strategy: tf.distribute.Strategy, count: Callable[[tf.Tensor], tf.Tensor]
) -> TrainingChunk:
    def run(iterator: Any, num_steps: int, votes: Votes) -> tuple[Any, float, list[int]]:
        voted = count(tf.constant(votes, tf.int32))
        logs: Any = {}
        waited = 0.0
        for _ in range(num_steps):
            begin = time.perf_counter()
            batch = _next_batch(iterator, strategy)
            waited += time.perf_counter() - begin
            logs = for_batches_like(_batch_spec(iterator, strategy), step)(batch)
        return logs, waited, voted.numpy().tolist()

    return run


def _next_batch(iterator: Any, strategy: tf.distribute.Strategy) -> Any:
    """Returns the batch of one step: of several replicas in this process, one for each.

    TensorFlow's own iterator for replicas has one more for each of them, whose tuning threads, as the pipeline's, are
    waited for one after the other when it is dropped (see data/pipeline.py): 15 s after 7 s of reading on 4.
    """
    if not isinstance(strategy, ReplicaStrategy):
        return next(iterator)
    batches = [next(iterator) for _ in range(strategy.num_replicas)]
    return strategy.experimental_distribute_values_from_function(
        lambda context: batches[context.replica_id_in_sync_group]
    )


def _batch_spec(iterator: Any, strategy: tf.distribute.Strategy) -> Any:
    """Returns what `_next_batch` returns, as specs."""
    if not isinstance(strategy, ReplicaStrategy):
        return iterator.element_spec
    return tf.nest.map_structure(
        lambda leaf: PerReplicaSpec(*[leaf] * strategy.num_replicas), iterator.element_spec
    )


def _timed_batch(iterator: Any, strategy: tf.distribute.Strategy, waited: tf.Tensor) -> tuple[Any, tf.Tensor]:
    """Returns the next batch, and `waited` plus the seconds that it took.

    A graph runs what it can as early as it can: without these dependencies the clock would be read too soon.
    """
    with tf.control_dependencies([waited]):
        begin = tf.timestamp()
    with tf.control_dependencies([begin]):
        batch = _next_batch(iterator, strategy)
    leaves = tf.nest.flatten(batch, expand_composites=True)
    with tf.control_dependencies(leaves):
        waited += tf.timestamp() - begin
    # Without this, a single thread may run the whole step before it reads the second clock.
    with tf.control_dependencies([waited]):
        return tf.nest.map_structure(tf.identity, batch, expand_composites=True), waited


def _after_update(model: keras.Model, waited: tf.Tensor) -> tf.Tensor:
    """Returns `waited`, but not before the step's update of the layer that the backward pass reaches last."""
    updated = [variable.value.read_value() for variable in model.trainable_variables[:1]]
    with tf.control_dependencies([tf.reshape(value, [-1])[:0] for value in updated]):
        return tf.identity(waited)
