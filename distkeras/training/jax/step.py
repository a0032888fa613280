"""Compiled steps on a global batch: one or many of training, one of evaluation, one of prediction.

A batch is one array over all devices, so that losses, clipping, metrics and BatchNormalization's statistics are those
of the global batch by nature; XLA puts the reductions in. What is left to do is the last batch of an epoch, whose
shards may differ in length: `cut`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from distkeras.topology import Topology
from distkeras.training.jax.layout import BATCH

Lengths = tuple[int, ...]
# The variables of a model as Keras's stateless methods take them: lists of arrays.
State = tuple[list[jax.Array], ...]


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of what every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def as_global(arrays: Any, mesh: Mesh, topology: Topology) -> Any:
    """Makes global arrays of this worker's rows of a block of steps.

    Args:
        arrays: A tree of arrays, shape (steps, rows of this worker, ...).
        mesh: All devices.
        topology: How the batch is dealt out.

    Returns:
        The same tree of arrays of shape (steps, rows of all workers, ...).
    """

    sharding = NamedSharding(mesh, PartitionSpec(None, BATCH))
    if jax.process_count() == 1:
        return jax.device_put(arrays, sharding)

    def one(array: np.ndarray) -> jax.Array:
        shape = (array.shape[0], array.shape[1] * topology.world_size, *array.shape[2:])
        return jax.make_array_from_process_local_data(sharding, array, shape)

    return jax.tree.map(one, arrays)


def laid_out(state: Sequence[Sequence[jax.Array]], mesh: Mesh) -> State:
    """Returns variables of which every one lies on all devices.

    Where there is one device, Keras leaves what it resets or a callback assigns as it was made. To JAX the same array
    on the same device is another type then, and the step would be compiled again.
    """

    def one(value: jax.Array) -> jax.Array:
        if isinstance(value.sharding, NamedSharding):
            return value
        array = np.asarray(value)
        return jax.make_array_from_callback(array.shape, replicated(mesh), lambda index: array[index])

    return tuple([one(value) for value in part] for part in state)


def cut(batch: Any, lengths: Lengths, mesh: Mesh) -> Any:
    """Takes the fill off a global batch, inside a compiled step: the model sees the examples and nothing else.

    What is left is laid whole on every device. Spread over them unevenly, a ModelParallel mesh of 2 x 2 devices gave
    wrong gradients (JAX 0.10.2). It costs the devices one step an epoch that they do not share.
    """
    longest = max(lengths)
    if all(length == longest for length in lengths):
        return batch
    rows = np.concatenate([np.arange(length) + shard * longest for shard, length in enumerate(lengths)])
    return jax.tree.map(lambda part: jax.lax.with_sharding_constraint(part[rows], replicated(mesh)), batch)


class TrainingSteps:
    """Trains any number of steps in one call.

    A block holds the batches of `capacity` steps, of which the first `num_steps` are trained: the number is an
    argument of the program, not part of it, so that only a new capacity, or a batch of other lengths, is compiled.

    Args:
        model: A model that `layout.adopt` moved.
        mesh: All devices.
    """

    def __init__(self, model: keras.Model, mesh: Mesh) -> None:
        self._model, self._mesh = model, mesh
        self._programs: dict[Lengths, Any] = {}

    def __call__(
        self, state: State, block: Any, num_steps: int, lengths: Lengths, votes: Any
    ) -> tuple[Any, State, jax.Array]:
        """Trains the first steps of a block. Collective.

        Args:
            state: Trainable, non-trainable, optimizer's and metrics' variables; used up by the call.
            block: Batches, shape (capacity, rows, ...).
            num_steps: Steps to train, in [1, capacity].
            lengths: Examples of each shard; the same for all batches of the block.
            votes: int32, shape (any, num_votes): what each device's worker wants.

        Returns:
            The last step's logs, the new state, and the largest of each vote over all workers.
        """
        if lengths not in self._programs:
            self._programs[lengths] = self._compiled(state, lengths)
        return self._programs[lengths](state, block, num_steps, votes)

    def _compiled(self, state: State, lengths: Lengths) -> Any:
        def step(state: State, batch: Any) -> tuple[Any, State]:
            logs, after = self._model.train_step(state, cut(batch, lengths, self._mesh))
            return logs, tuple(map(list, after))

        def steps(state: State, block: Any, num_steps: Any, votes: Any) -> tuple[Any, State, jax.Array]:
            logs, state = _repeated(step, state, block, num_steps)
            return logs, state, jnp.max(votes, axis=0)

        whole = replicated(self._mesh)
        return jax.jit(steps, donate_argnums=0, out_shardings=(whole, _shardings(state), whole))


def _repeated(step: Callable[..., Any], state: State, block: Any, num_steps: Any) -> tuple[Any, State]:
    first = jax.tree.map(lambda part: part[0], block)
    if jax.tree.leaves(block)[0].shape[0] == 1:
        return step(state, first)
    shapes = jax.eval_shape(step, state, first)[0]
    logs = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def body(index: Any, carried: tuple[Any, State]) -> tuple[Any, State]:
        batch = jax.tree.map(lambda part: jax.lax.dynamic_index_in_dim(part, index, keepdims=False), block)
        return step(carried[1], batch)

    return jax.lax.fori_loop(0, num_steps, body, (logs, state))


class TestingSteps:
    """Evaluates one step a call.

    Its state is not given away: after `fit` with moving averages, weights and averages may be the same arrays.

    Args:
        model: A model that `layout.adopt` moved.
        mesh: All devices.
    """

    def __init__(self, model: keras.Model, mesh: Mesh) -> None:
        self._model, self._mesh = model, mesh
        self._programs: dict[Lengths, Any] = {}

    def __call__(self, state: State, block: Any, lengths: Lengths) -> tuple[Any, State]:
        """Evaluates the only batch of a block; returns its logs and the new state. Collective."""
        if lengths not in self._programs:
            self._programs[lengths] = self._compiled(state, lengths)
        return self._programs[lengths](state, block)

    def _compiled(self, state: State, lengths: Lengths) -> Any:
        def step(state: State, block: Any) -> tuple[Any, State]:
            batch = jax.tree.map(lambda part: part[0], block)
            logs, after = self._model.test_step(state, cut(batch, lengths, self._mesh))
            return logs, tuple(map(list, after))

        return jax.jit(step, out_shardings=(replicated(self._mesh), _shardings(state)))


_testing_steps: WeakKeyDictionary[keras.Model, TestingSteps] = WeakKeyDictionary()


def testing_steps(model: keras.Model, mesh: Mesh) -> TestingSteps:
    """Returns the steps that evaluate a model: the same for validation and for tests, so compiled once."""
    if model not in _testing_steps:
        _testing_steps[model] = TestingSteps(model, mesh)
    return _testing_steps[model]


def predicting(model: keras.Model, mesh: Mesh) -> Callable[[Any, Lengths], Any]:
    """Returns a function from a block of one batch to its outputs, all rows of all workers, on every worker."""
    state = (
        [variable.value for variable in model.trainable_variables],
        [variable.value for variable in model.non_trainable_variables],
    )
    programs: dict[Lengths, Any] = {}

    def compiled(lengths: Lengths) -> Any:
        def step(state: State, block: Any) -> Any:
            batch = jax.tree.map(lambda part: part[0], block)
            return model.predict_step(state, cut(batch, lengths, mesh))[0]

        return jax.jit(step, out_shardings=replicated(mesh))

    def predict(block: Any, lengths: Lengths) -> Any:
        if lengths not in programs:
            programs[lengths] = compiled(lengths)
        return jax.tree.map(np.asarray, programs[lengths](state, block))

    return predict


def _shardings(state: State) -> Any:
    return jax.tree.map(lambda array: array.sharding, tuple(map(list, state)))
