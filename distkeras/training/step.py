"""The numerics of one step on every replica: forward, backward, reduction over replicas, optimizer, metrics.

One replica runs the model's own `train_step` and nothing else. Several replicas, of one process or of several
workers, each run that same `train_step` on their part of the global batch, with three things put in its way while
it is traced:

1.  Every optimizer's `apply` first replaces the local gradients by those of the global batch's mean loss
    (`reduce_gradients`). Clipping, weight decay, accumulation and moving averages come after it, inside `apply`,
    and so see the global gradients. A model with two optimizers has two reductions.
2.  The update itself runs on each replica's own copy of the variables (`_LOCAL_METHODS`): all copies start equal
    and get equal gradients, so they stay equal, and nothing has to cross replicas inside a condition, which
    TensorFlow cannot do (keras#20582: gradient accumulation under MirroredStrategy crashes).
3.  Losses that Keras does not divide by the number of examples (masks, sums, sums of weights) are scaled so that
    the weighted sum over replicas is the loss of the global batch (`_global_reduction`). Numbers that are
    recorded once a batch count by the replica's share of it (`_counting_batches_by_share`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from types import MethodType
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.tensorflow import nn as keras_nn
from keras.src.losses import loss as keras_loss
from keras.src.optimizers.base_optimizer import BaseOptimizer

from distkeras.distribution.moments import global_moments
from distkeras.distribution.reduction import all_reduce_sum, reduce_gradients, replica_state, share_of
from distkeras.distribution.strategy import ReplicaStrategy, WorkerStrategy
from distkeras.training.compiled_step import compiled_train_step
from distkeras.training.replacing import replaced
from distkeras.training.state import optimizers_of

Step = Callable[[Any], Any]
# What the device does to a batch before the model gets it.
Change = Callable[[Any], Any]

# Keras's TensorFlow optimizer crosses replicas in these; its backend-agnostic base class does the same work locally.
_LOCAL_METHODS = (
    "_apply_weight_decay",
    "_backend_increment_gradient_accumulators",
    "_backend_update_step",
    "_overwrite_model_variables_with_average_value",
)

# The replicas of one process are traced in threads of their own; each has its own share of the batch.
_replica = threading.local()


def one_step(
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    method: str,
    *,
    jit_compile: bool = False,
    change: Change | None = None,
) -> Step:
    """Returns the function that runs one step of the model on a global batch.

    Args:
        model: A compiled model, created under `strategy`.
        strategy: A `ReplicaStrategy`, a `WorkerStrategy`, or any strategy of one replica.
        method: `"train_step"` or `"test_step"`.
        jit_compile: Under a `WorkerStrategy`, whether XLA compiles what comes before the reduction.
        change: What each replica does to its batch first; None: nothing.

    Returns:
        A function from a batch (per-replica values under a `ReplicaStrategy`) to the step's logs: a dict of
        scalar tensors, this batch's values or the model's running metrics, as the model's own step returns them.
        Under a `WorkerStrategy` they are this worker's part, until `totals` adds up the workers'.
    """
    if isinstance(strategy, ReplicaStrategy):
        return _replicated_step(model, strategy, method, change)
    if isinstance(strategy, WorkerStrategy):
        return _worker_step(model, strategy, method, jit_compile, change)

    def step(data: Any) -> Any:
        return strategy.run(lambda batch: getattr(model, method)(_prepared(batch, change)), args=(data,))

    return step


def trace_variables(model: keras.Model, batch: Any) -> None:
    """Makes all variables that a custom `train_step` makes in its first call, on all replicas at once; runs nothing.

    Args:
        model: A compiled model; call this under the strategy that it was created under.
        batch: Specification of a batch.
    """

    def building(optimizer: Any) -> Callable[..., None]:
        def apply(grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
            if not optimizer.built and trainable_variables is not None:
                with tf.init_scope():
                    optimizer.build(list(trainable_variables))

        return apply

    with ExitStack() as stack:
        for optimizer in optimizers_of(model):
            stack.enter_context(replaced(optimizer, "apply", building(optimizer)))
        step = tf.function(lambda data: model.train_step(_without_optionals(data)), autograph=False)
        step.get_concrete_function(batch)


def _replicated_step(
    model: keras.Model, strategy: ReplicaStrategy, method: str, change: Change | None
) -> Step:
    replica_step = _replica_step(model, getattr(model, method), change)

    def step(data: Any) -> Any:
        with strategy.counting_as_one(), _global_batch_semantics(optimizers_of(model)):
            logs = strategy.run(replica_step, args=(data,))
        means = tf.nest.map_structure(lambda value: strategy.reduce("SUM", value, axis=None), logs)
        # What the model tracks in metrics is exact over replicas only when their state is read as one.
        return with_tracked(model, means)

    return step


def _worker_step(
    model: keras.Model, strategy: WorkerStrategy, method: str, jit_compile: bool, change: Change | None
) -> Step:
    if not strategy.reduces_steps and method == "train_step":
        return _step_apart(model, strategy, change)
    is_compiled = jit_compile and method == "train_step"
    own_step = compiled_train_step(model, strategy) if is_compiled else getattr(model, method)
    replica_step = _replica_step(model, own_step, change)

    def step(data: Any) -> Any:
        with _global_batch_semantics(optimizers_of(model)):
            return strategy.run(replica_step, args=(data,))

    return step


def _step_apart(model: keras.Model, strategy: WorkerStrategy, change: Change | None) -> Step:
    """Returns a step that nothing of crosses workers: the model's own, on this worker's part of the batch."""
    share = tf.constant(1 / strategy.topology.num_replicas)

    def replica_step(data: Any) -> Any:
        data = _prepared(data, change)
        features = tf.nest.flatten(data)[0]
        _replica.share = tf.where(tf.shape(features)[0] > 0, share, 0.0)
        with _state_kept(model, may_be_empty=features.shape[0] in (None, 0)):
            logs = model.train_step(data)
        return tf.nest.map_structure(lambda value: _weighted(value, share), logs)

    return lambda data: strategy.run(replica_step, args=(data,))


def _replica_step(model: keras.Model, own_step: Step, change: Change | None) -> Step:
    """Returns the step of one replica; its logs are this replica's part of the global batch's."""

    def step(data: Any) -> Any:
        data = _prepared(data, change)
        features = tf.nest.flatten(data)[0]
        _replica.share = share_of(features)
        with _state_kept(model, may_be_empty=features.shape[0] in (None, 0)):
            logs = own_step(data)
        return tf.nest.map_structure(lambda value: _weighted(value, _replica.share), logs)

    return step


@contextmanager
def _state_kept(model: keras.Model, *, may_be_empty: bool) -> Generator[None]:
    """Keeps moving statistics from the mean over no examples, 0/0, where a replica has none."""
    state = [variable.value for variable in replica_state(model)] if may_be_empty else []
    before = [variable.read_value() for variable in state]
    yield
    for variable, value in zip(state, before, strict=True):
        after = variable.read_value()
        # Statistics over all replicas are numbers on an empty one too, and it moves as the others do.
        variable.assign(tf.where((_replica.share > 0) | tf.math.is_finite(after), after, value))


def _weighted(value: Any, share: tf.Tensor) -> tf.Tensor:
    value = tf.convert_to_tensor(value)
    value = value if value.dtype.is_floating else tf.cast(value, tf.float32)
    # An empty replica's mean is 0/0; its share of the global mean is nothing.
    return tf.math.multiply_no_nan(value, tf.cast(share, value.dtype))


def with_tracked(model: keras.Model, logs: Any) -> Any:
    """Returns logs in which what the model tracks in metrics is what their state says now."""
    if not isinstance(logs, dict):
        return logs
    return logs | {name: value for name, value in model.get_metrics_result().items() if name in logs}


def _prepared(data: Any, change: Change | None) -> Any:
    data = _without_optionals(data)
    return data if change is None else change(data)


def _without_optionals(data: Any) -> Any:
    """Keras hands None through tf.data as an empty Optional."""
    return tf.nest.map_structure(
        lambda leaf: None if isinstance(leaf, tf.experimental.Optional) else leaf, data
    )


@contextmanager
def _global_batch_semantics(optimizers: Sequence[Any]) -> Generator[None]:
    with ExitStack() as stack:
        for optimizer in optimizers:
            stack.enter_context(_reducing(optimizer))
        stack.enter_context(_global_reduction())
        stack.enter_context(_counting_batches_by_share())
        stack.enter_context(_synchronized_moments())
        yield


@contextmanager
def _reducing(optimizer: Any) -> Generator[None]:
    own_apply = type(optimizer).apply

    def apply(grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        if not optimizer.built and trainable_variables is not None:
            _build_across_replicas(optimizer, list(trainable_variables))
        own_apply(optimizer, reduce_gradients(list(grads), _replica.share), trainable_variables)

    with ExitStack() as stack:
        stack.enter_context(replaced(optimizer, "apply", apply))
        for owner in {
            id(one): one for one in (optimizer, getattr(optimizer, "inner_optimizer", None))
        }.values():
            if owner is not None:
                for name in _LOCAL_METHODS:
                    method = MethodType(getattr(BaseOptimizer, name), owner)
                    stack.enter_context(replaced(owner, name, method))
        yield


def _build_across_replicas(optimizer: Any, variables: list[Any]) -> None:
    """Builds an optimizer that a custom `train_step` left unbuilt; its variables must exist on all replicas at once."""

    def build(_: tf.distribute.Strategy) -> None:
        with tf.init_scope():
            if not optimizer.built:
                optimizer.build(variables)

    tf.distribute.get_replica_context().merge_call(build)


@contextmanager
def _global_reduction() -> Generator[None]:
    """Scales each Keras loss by what its own normaliser is of the global batch's, where that is not the example count.

    Keras has no seam for this: `reduce_weighted_values` is where every `keras.losses` loss divides. The parity tests
    of masks and of `reduction="sum"` fail when Keras calls something else there.
    """
    keras_reduction = keras_loss.reduce_weighted_values

    def reduce_weighted_values(
        values: Any,
        sample_weight: Any = None,
        mask: Any = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ) -> Any:
        value = keras_reduction(values, sample_weight, mask, reduction, dtype)
        factor = _normaliser_factor(sample_weight, mask, reduction)
        return value if factor is None else value * tf.cast(factor, value.dtype)

    keras_loss.reduce_weighted_values = reduce_weighted_values
    try:
        yield
    finally:
        keras_loss.reduce_weighted_values = keras_reduction


def _normaliser_factor(sample_weight: Any, mask: Any, reduction: str | None) -> tf.Tensor | None:
    """Returns (local normaliser / global normaliser) / share, or None where that is 1 by construction."""
    if reduction in (None, "none"):
        return None
    if reduction == "sum":
        return tf.math.divide_no_nan(1.0, _replica.share)
    if reduction == "mean_with_sample_weight" and sample_weight is not None:
        # Keras's own combination: weights (batch, 1) and a mask (batch,) must not become (batch, batch).
        local = tf.reduce_sum(
            keras_loss.apply_mask(tf.cast(sample_weight, tf.float32), mask, "float32", reduction)
        )
    elif mask is not None:
        local = tf.reduce_sum(tf.cast(mask, tf.float32))
    else:
        return None
    return tf.math.divide_no_nan(local, all_reduce_sum(local) * _replica.share)


@contextmanager
def _counting_batches_by_share() -> Generator[None]:
    """Counts a number that a step records once a batch, such as a loss of its own, by the replica's share.

    Keras's means count every such number as one. Replicas with more examples than others would count too little,
    and one without examples would record 0/0.
    """
    keras_update = keras.metrics.Mean.update_state

    def update_state(metric: Any, values: Any, sample_weight: Any = None) -> None:
        if keras.ops.ndim(values) == 0:
            values = tf.where(_replica.share > 0, values, tf.zeros_like(values))
            sample_weight = _replica.share if sample_weight is None else sample_weight
        keras_update(metric, values, sample_weight)

    keras.metrics.Mean.update_state = update_state
    try:
        yield
    finally:
        keras.metrics.Mean.update_state = keras_update


@contextmanager
def _synchronized_moments() -> Generator[None]:
    """Gives a synchronized BatchNormalization the gradient of the global batch, also where replicas differ in size."""
    keras_moments = keras_nn._compute_moments_sync

    def moments(x: Any, axes: Sequence[int], keepdims: bool) -> Any:
        return global_moments(x, list(axes), keepdims, _replica.share)

    keras_nn._compute_moments_sync = moments
    try:
        yield
    finally:
        keras_nn._compute_moments_sync = keras_moments
