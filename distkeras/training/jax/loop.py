"""The loop on JAX: Keras's `fit` drives epochs, callbacks and validation; every step inside it is ours.

Read `JaxLoop.run` first, then `_train`: what Keras calls once a logging interval. Keras keeps the variables in lists
that it hands to its `train_function` and takes back; the model's own are empty meanwhile. Whoever needs them calls
`jax_state_sync`, and the lists are made anew.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import keras
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.layers.convolutional.base_conv_transpose import BaseConvTranspose
from keras.src.layers.convolutional.base_depthwise_conv import BaseDepthwiseConv
from keras.src.layers.convolutional.base_separable_conv import BaseSeparableConv
from keras.src.trainers.data_adapters.data_adapter import DataAdapter

from distkeras.topology import Topology
from distkeras.training.callbacks import LoggingPointCallbacks
from distkeras.training.jax import feed
from distkeras.training.jax.blocks import Blocks
from distkeras.training.jax.feed import Prefetched, Rows
from distkeras.training.jax.layout import put
from distkeras.training.jax.step import State, TrainingSteps, as_global, laid_out, testing_steps
from distkeras.training.placement import FitPlan
from distkeras.training.schedule import CHUNK_SECONDS, Cursor

# A longer program is compiled once more, which takes seconds, and saves half a millisecond a step (MLP on 2 cores).
STEPS_WORTH_COMPILING = 5000
# The first is compiled; of the others the fastest counts.
STEPS_MEASURED = 5
# Of calls of many steps, too; if theirs take so much longer, they are given up.
CALLS_MEASURED = 3
SLOWER = 1.2
# Input of one call, in the devices' memory.
BLOCK_BYTES = 2**26
_PARTS = ("trainable_variables", "non_trainable_variables", "optimizer_variables", "metrics_variables")


class NoData(DataAdapter):
    """What Keras is given as data: its loop counts steps, and ours reads."""

    @property
    def num_batches(self) -> None:
        """Unknown: `steps_per_epoch` says it."""
        return None

    def get_jax_iterator(self) -> Iterator[Any]:
        """Nothing."""
        return iter(())


@dataclass
class CallSize:
    """Steps of one call into JAX: one, until some were measured, then as many as one choice says, if that is faster.

    It need not be: see `_convolves_on_cpu`.

    Attributes:
        fixed: The user's own choice, or None for the automatic one.
        most: The largest that the automatic choice may be.
        steps: The size that all workers agreed on.
        wish: The size that this worker would choose; 0: it does not know yet.
    """

    fixed: int | None
    most: int
    steps: int = field(init=False)
    wish: int = field(init=False)
    _alone: list[float] = field(init=False, default_factory=list[float])
    _together: list[float] = field(init=False, default_factory=list[float])

    def __post_init__(self) -> None:
        self.steps, self.wish = self.fixed or 1, self.fixed or 0

    @property
    def most_now(self) -> int:
        """Steps that the next call may have: few, until it is known that they are not slower together."""
        is_known = self.fixed is not None or len(self._together) == CALLS_MEASURED
        return self.steps if is_known else min(self.steps, 2)

    def observe(self, num_steps: int, seconds: float) -> None:
        """Learns from a call of `num_steps` that took `seconds`."""
        if self.fixed is not None:
            return
        if not self.wish:
            self._alone.append(seconds)
            if len(self._alone) == STEPS_MEASURED:
                self.wish = max(1, min(self.most, int(CHUNK_SECONDS / min(self._alone[1:]))))
        elif num_steps == 2 and len(self._together) < CALLS_MEASURED:
            self._together.append(seconds / num_steps)
            # The last of these calls tells the others what was learnt from the one before it.
            if len(self._together) == CALLS_MEASURED - 1 and min(self._together[1:]) > SLOWER * min(
                self._alone[1:]
            ):
                self.wish = 1

    def agree(self, smallest_wish: int) -> None:
        """Takes the smallest of all workers' wishes."""
        if self.fixed is None and smallest_wish:
            self.steps = smallest_wish


class JaxLoop:
    """Trains one model from where the cursor stands to the last epoch.

    Args:
        model: A compiled model that `layout.adopt` moved.
        plan: What it is trained on, and how far.
        mesh: All devices.
        topology: How the batch is dealt out.
    """

    def __init__(self, model: keras.Model, plan: FitPlan, mesh: Mesh, topology: Topology) -> None:
        self._model, self._plan, self._mesh, self._topology = model, plan, mesh, topology
        self._cursor = plan.cursor
        self._steps = TrainingSteps(model, mesh)
        self._epoch_metrics = plan.epoch_metrics
        self._failure: BaseException | None = None
        example_bytes = feed.bytes_of(feed.example_of(plan.data.train))
        size = example_bytes * plan.batches.longest_batch(topology.num_replicas) * topology.num_local_replicas
        most = 1 if _convolves_on_cpu(model, mesh) else _most_steps(plan, size)
        self._size = CallSize(_fixed(plan), most)
        rows = feed.training_rows(plan.settings, plan.data, plan.batches, topology, self._cursor.step)
        if plan.num_repeated is not None:
            rows = itertools.cycle(itertools.islice(rows, plan.num_repeated))
        self._blocks = Blocks(Prefetched(rows, feed.depth_for(size)), mesh, topology)

    def run(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Trains until the last epoch, or until a callback sets `model.stop_training`. Collective."""
        cursor, model = self._cursor, self._model
        model.train_function = self._train
        model.steps_per_execution = cursor.interval
        num_validation_steps = self._prepare_validation()
        try:
            model.fit(
                NoData(),
                epochs=self._plan.epochs,
                initial_epoch=cursor.epoch,
                steps_per_epoch=cursor.steps_per_epoch,
                callbacks=LoggingPointCallbacks(
                    callbacks, cursor=cursor, model=model, epochs=self._plan.epochs
                ),
                validation_data=NoData() if num_validation_steps else None,
                validation_steps=num_validation_steps,
                shuffle=False,
                verbose=0,
            )
        except BaseException as error:
            if self._failure is not None and error is not self._failure:
                raise self._failure from None  # not what Keras ran into while it tidied up after it
            raise
        finally:
            self._blocks.close()

    def _prepare_validation(self) -> int | None:
        source = self._plan.data.validation
        if source is None:
            return None
        size = self._plan.settings.training.global_batch_size
        num_steps = feed.num_steps(source, size)
        self._model.test_function = testing(
            self._model,
            lambda: feed.evaluation_rows(source, size, self._topology),
            num_steps,
            self._cursor.interval,
            self._mesh,
            self._topology,
        )
        return num_steps

    def _train(self, state: State, iterator: Any) -> tuple[Any, State]:
        """Runs one logging interval and returns the logs at its end, and the variables."""
        try:
            return self._run_interval(state)
        except BaseException as error:
            self._failure = error
            if not self._model._jax_state_synced:
                self._model._jax_state = None  # it was given away to the step that failed
            raise

    def _run_interval(self, state: State) -> tuple[Any, State]:
        cursor, logs = self._cursor, {}
        end, state = cursor.next_interval(), laid_out(state, self._mesh)
        if cursor.ran and self._epoch_metrics is not None:
            state = (*state[:3], self._restored_metrics())
            self._epoch_metrics = None
        while cursor.step < end:
            logs, state, stop = self._run_call(state, end)
            self._hand_back(state)
            self._plan.after_chunk(stop)
            state = laid_out(self._taken(state), self._mesh)
        if cursor.ran:
            # Callbacks find the weights where they look for them, and may change them.
            self._hand_back(state)
            self._model.jax_state_sync()
        return logs, state

    def _restored_metrics(self) -> list[jax.Array]:
        values: list[jax.Array] = []
        for number, variable in enumerate(self._model.metrics_variables):
            saved = (self._epoch_metrics or {}).get(f"metrics/{number:05d}")
            if saved is not None:
                put(variable, saved)
            values.append(variable._value)
            variable._value = None
        return values

    def _hand_back(self, state: State) -> None:
        """As Keras does around its callbacks."""
        self._model._jax_state = dict(zip(_PARTS, state, strict=True))
        self._model._jax_state_synced = False

    def _taken(self, state: State) -> State:
        """Returns the variables after something that may have looked at them, or changed them."""
        if not self._model._jax_state_synced:
            return state
        self._model._jax_state_synced = False
        return self._model._get_jax_state(**dict.fromkeys(_PARTS, True), purge_model_variables=True)

    def _run_call(self, state: State, end: int) -> tuple[Any, State, int]:
        plan, cursor = self._plan, self._cursor
        begin = time.perf_counter()
        first = cursor.step % cursor.steps_per_epoch
        num_steps = self._same_examples(first, cursor.chunk(end, self._size.most_now))
        waited = self._blocks.waited
        block = self._blocks.take(num_steps, self._capacity(num_steps))
        # The largest vote counts: any signal stops all workers, and the slowest of them sizes the next call.
        votes = self._as_votes(plan.asked_to_stop(), -self._size.wish)
        logs, state, voted = self._steps(state, block.arrays, num_steps, block.lengths, votes)
        self._prepare_after(num_steps)
        stop, wish = np.asarray(voted).tolist()  # waits for the devices
        self._size.agree(-wish)
        self._size.observe(num_steps, time.perf_counter() - begin)
        cursor.step += num_steps
        plan.timer.waited(self._blocks.waited - waited)
        plan.timer.step(num_steps, sum(map(plan.batches.examples_in_step, range(first, first + num_steps))))
        return logs, state, stop

    def _same_examples(self, first: int, num_steps: int) -> int:
        """Returns how many of the next steps have as many examples as the first of them."""
        count = self._plan.batches.examples_in_step
        if count(first) == count(first + num_steps - 1):
            return num_steps
        return num_steps - 1  # an epoch's last step is the only one that may be smaller

    def _prepare_after(self, num_steps: int) -> None:
        """Has the batches of the next call copied, while the devices compute this one of `num_steps`."""
        steps_per_epoch = self._cursor.steps_per_epoch
        first = (self._cursor.step + num_steps) % steps_per_epoch
        following = self._same_examples(first, min(num_steps, steps_per_epoch - first))
        self._blocks.prepare(following, self._capacity(following))

    def _capacity(self, num_steps: int) -> int:
        """Returns how many steps the program has room for that runs so many."""
        return 1 if num_steps == 1 else self._size.steps

    def _as_votes(self, *votes: int) -> Any:
        own = np.array([votes], np.int32)
        if jax.process_count() == 1:
            return own
        mesh = self._mesh
        sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        of_devices = np.repeat(own, len(mesh.local_devices), axis=0)
        return jax.make_array_from_process_local_data(sharding, of_devices, (mesh.size, len(votes)))


def testing(
    model: keras.Model,
    rows: Callable[[], Iterator[Rows]],
    num_steps: int,
    interval: int,
    mesh: Mesh,
    topology: Topology,
) -> Callable[[State, Any], tuple[Any, State]]:
    """Returns a Keras `test_function` that runs `num_steps` in intervals, as often as Keras asks for them."""
    cursor = Cursor(steps_per_epoch=num_steps, interval=interval)
    step = testing_steps(model, mesh)
    current: Iterator[Rows] = iter(())

    def test(state: State, iterator: Any) -> tuple[Any, State]:
        nonlocal current
        if cursor.asked % num_steps == 0:
            current = rows()
        logs: Any = {}
        state, begin = laid_out(state, mesh), cursor.asked
        for _ in range(cursor.next_interval() - begin):
            one = next(current)
            block = as_global(jax.tree.map(lambda part: part[np.newaxis], one.arrays), mesh, topology)
            logs, state = step(state, block, one.lengths)
        return logs, state

    return test


def _convolves_on_cpu(model: keras.Model, mesh: Mesh) -> bool:
    """Whether XLA would compute convolutions on a CPU, which takes it forty times as long in a loop as outside of one.

    jaxlib 0.10.2, two 3x3 convolutions of 64 images of 8x8x32: 324 against 9 CPU-milliseconds a step (2026-11-21).
    """
    kinds = (BaseConv, BaseConvTranspose, BaseDepthwiseConv, BaseSeparableConv)
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    return on_cpu and any(isinstance(layer, kinds) for layer in model._flatten_layers())


def _fixed(plan: FitPlan) -> int | None:
    steps = plan.settings.training.steps_per_execution
    return None if steps == "auto" else min(steps, plan.cursor.interval)


def _most_steps(plan: FitPlan, step_bytes: int) -> int:
    """Returns the largest size of a call that can pay, and fits."""
    cursor = plan.cursor
    left = plan.epochs * cursor.steps_per_epoch - cursor.step
    if left < STEPS_WORTH_COMPILING:
        return 1
    return max(
        1, min(cursor.interval, cursor.commit_every or cursor.interval, BLOCK_BYTES // max(1, step_bytes))
    )
