"""Keras's own `fit` and `evaluate` over several workers: each feeds its own part of every global batch.

What makes it safe is that all workers do the same at the same time:

-   Before each call of a `train_function` they vote on how many steps it runs. A worker whose data has ended goes
    on with empty batches until that of all has: an empty batch weighs nothing, and no example is left out. Where
    batches have a fixed size (`drop_remainder`) there are no empty ones, and all end with the shortest.
-   They begin a `fit` with the same weights and the same arguments, or with one sentence about what differs.
-   After each call the state of metrics is that of all workers everywhere, so that callbacks see the same logs and
    come to the same decisions.
"""

from __future__ import annotations

import hashlib
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from distkeras.distribution.reduction import averaging, diverge_seeds
from distkeras.distribution.strategy import WorkerStrategy
from distkeras.errors import ConfigError
from distkeras.training.agreement import DivergenceWatch, begin_equal, require_same
from distkeras.training.execution import step_function
from distkeras.training.keras_fit import next_batches
from distkeras.training.step import trace_variables
from distkeras.training.totals import totals

# Keras's callbacks that write files or send messages; ranks other than zero leave them out.
WRITING = (
    keras.callbacks.BackupAndRestore,
    keras.callbacks.CSVLogger,
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.RemoteMonitor,
    keras.callbacks.TensorBoard,
)

_FIT = inspect.signature(keras.Model.fit)
_EVALUATE = inspect.signature(keras.Model.evaluate)


def give_to_workers(model: keras.Model, strategy: WorkerStrategy) -> None:
    """Makes a compiled model's `fit` and `evaluate` work over all workers. Collective from there on.

    Args:
        model: A compiled model, created under `strategy`; prepared again, it stays as it is.
        strategy: The workers.
    """
    if not isinstance(getattr(model.fit, "__self__", None), WorkerFit):
        worker_fit = WorkerFit(model, strategy)
        model.fit, model.evaluate = worker_fit.fit, worker_fit.evaluate
        # Keras would fetch a batch to build from, and a worker may have none.
        model._maybe_symbolic_build = worker_fit.build


class WorkerFit:
    """Keras's `fit` and `evaluate` of one model, with what they lack for several workers.

    Args:
        model: A compiled model, created under `strategy`.
        strategy: The workers.
    """

    def __init__(self, model: keras.Model, strategy: WorkerStrategy) -> None:
        self._model = model
        self._strategy = strategy
        self._writes = strategy.topology.is_rank_zero
        self._watch = DivergenceWatch(model, strategy)
        self._average: Callable[[], None] | None = None
        self._largest = tf.function(strategy.collectives.max)
        self._began = False

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Does what `keras.Model.fit` does, on all workers. Collective.

        Raises:
            ConfigError: If the workers were given different arguments, or data that cannot be counted on.
            TrainingError: If the workers' weights are not the same.
        """
        given = _FIT.bind(self._model, *args, **kwargs)
        given.apply_defaults()
        arguments = given.arguments
        require_same(self._strategy, _facts(arguments))
        if arguments["validation_split"]:
            raise ConfigError(
                "Over several workers validation data cannot be split off.",
                place="fit(validation_split=...)",
                received=arguments["validation_split"],
                remedy="give each worker its part of the validation data as validation_data",
            )
        _open_training_data(arguments)
        _open_validation_data(arguments)
        self.build(data_batch=arguments["x"].element_spec)
        arguments["callbacks"] = self._around(arguments["callbacks"])
        return self._call(keras.Model.fit, given, arguments["steps_per_epoch"])

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Does what `keras.Model.evaluate` does, on the data of all workers. Collective."""
        given = _EVALUATE.bind(self._model, *args, **kwargs)
        given.apply_defaults()
        arguments = given.arguments
        if not arguments["kwargs"].get(
            "_use_cached_eval_dataset"
        ):  # within a fit, which has seen to all this
            require_same(self._strategy, {"the argument `steps` of evaluate": arguments["steps"]})
            arguments["x"] = _dataset(
                arguments["x"], arguments["y"], arguments["sample_weight"], arguments["batch_size"]
            )
            arguments.update(y=None, sample_weight=None, batch_size=None)
            self.build(data_batch=arguments["x"].element_spec)
            arguments["callbacks"] = self._own(arguments["callbacks"])
        self.average()
        return self._call(keras.Model.evaluate, given, arguments["steps"])

    def build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Makes all variables, and gives every worker those of rank zero; once. Collective."""
        if not self._began:
            self._began = True
            with self._strategy.scope():
                _make_variables(self._model, data_batch)
            self.begin_equal()

    def begin_equal(self) -> None:
        """Gives every worker the weights and the optimizer's state of rank zero, and seeds of its own. Collective."""
        begin_equal(self._model, self._strategy)
        optimizer: Any = self._model.optimizer
        if optimizer is not None and optimizer.built:
            begin_equal(optimizer, self._strategy)
        diverge_seeds(self._model, self._strategy)

    def check(self) -> None:
        """Refuses weights that differ between workers. Collective."""
        self._watch.check(int(self._model.optimizer.iterations) if self._model.optimizer else 0)

    def average(self) -> None:
        """Gives every worker the mean of BatchNormalization's moving statistics. Collective."""
        self._average = self._average or averaging(self._model, self._strategy)
        self._average()

    def agree(self, value: int) -> int:
        """Returns the largest value that any worker has. Collective."""
        return self._largest_of([value])[0]

    def _largest_of(self, values: list[int]) -> list[int]:
        with self._strategy.collectives.waiting("vote"):
            return self._largest(tf.constant(values, tf.int32)).numpy().tolist()

    def of_rank_zero(self, value: Any) -> Any:
        """Returns rank zero's value; any JSON value. Collective."""
        return self._strategy.collectives.exchange(value)[0]

    def _around(self, callbacks: Any) -> list[keras.callbacks.Callback]:
        given = _as_list(callbacks)
        restores = any(isinstance(one, keras.callbacks.BackupAndRestore) for one in given)
        return [_Averaging(self), *self._own(given), _InStep(self, restores)]

    def _own(self, callbacks: Any) -> list[keras.callbacks.Callback]:
        return [one for one in _as_list(callbacks) if self._writes or not isinstance(one, WRITING)]

    def _call(self, function: Callable[..., Any], given: inspect.BoundArguments, steps: int | None) -> Any:
        if not self._writes:
            given.arguments["verbose"] = 0
        if self._model.train_function is None:  # also after the model was compiled again
            self._model.train_function = self._function("train_step")
            self._model.test_function = self._function("test_step")
        with warnings.catch_warnings():
            if steps is None:
                # How Keras words the end of data whose length it was not told.
                warnings.filterwarnings("ignore", "Your input ran out of data")
            return function(*given.args, **given.kwargs)

    def _function(self, method: str) -> Callable[[Any], Any]:
        """Returns a Keras `train_function` that every worker calls equally often."""
        model = self._model
        step: Any = step_function(model, self._strategy, method, jit_compile=False)
        add_up = totals(model, self._strategy)
        forget = tf.function(_forget(model))

        def function(iterator: Any) -> Any:
            batches = list(next_batches(iterator, model.steps_per_execution))
            spec = _spec(iterator, batches)
            count = self._vote(len(batches), spec)
            if count == 0:
                raise StopIteration
            if not self._writes:
                forget()  # what all workers have seen is in rank zero's metrics now, and would be counted again
            run = step if model.run_eagerly else step.get_concrete_function(spec)
            logs: Any = None
            for index in range(count):
                with self._strategy.collectives.waiting(method):
                    logs = run(batches[index] if index < len(batches) else _empty(spec, batches))
            return add_up(logs, True)

        return function

    def _vote(self, count: int, spec: Any) -> int:
        """Returns how many steps all workers run now. Collective."""
        shape = _digest(spec)
        votes = self._largest_of([count, -count, shape, -shape])
        most, least, largest, smallest = votes[0], -votes[1], votes[2], -votes[3]
        if largest != smallest:
            require_same(self._strategy, {"the types and shapes of their batches": _described(spec)})
        return most if _may_be_empty(spec) else least


class _Averaging(keras.callbacks.Callback):
    """Before all others: those that save a model at the end of an epoch save the workers' mean statistics."""

    def __init__(self, worker_fit: WorkerFit) -> None:
        super().__init__()
        self._worker_fit = worker_fit

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._worker_fit.average()


class _InStep(keras.callbacks.Callback):
    """After all others: what they did on one rank becomes so on all, or is refused."""

    def __init__(self, worker_fit: WorkerFit, restores: bool) -> None:
        super().__init__()
        self._worker_fit = worker_fit
        self._restores = restores

    def on_train_begin(self, logs: Any = None) -> None:
        if self._restores:  # rank zero alone has the callback, and maybe the file
            self.model._initial_epoch = self._worker_fit.of_rank_zero(self.model._initial_epoch)
            self._worker_fit.begin_equal()
        self._worker_fit.check()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.stop_training = bool(self._worker_fit.agree(int(self.model.stop_training)))
        self._worker_fit.check()


def _facts(arguments: Mapping[str, Any]) -> dict[str, Any]:
    names = ("epochs", "initial_epoch", "steps_per_epoch", "validation_steps", "validation_freq")
    facts = {f"the argument `{name}` of fit": arguments[name] for name in names}
    return facts | {"whether fit gets validation data": arguments["validation_data"] is not None}


def _open_training_data(arguments: dict[str, Any]) -> None:
    x, y, weights, size = (arguments[name] for name in ("x", "y", "sample_weight", "batch_size"))
    shuffle = arguments["shuffle"] and not isinstance(x, tf.data.Dataset)
    arguments["x"] = _dataset(x, y, weights, size, shuffle=shuffle)
    arguments["validation_batch_size"] = arguments["validation_batch_size"] or size
    arguments.update(y=None, sample_weight=None, batch_size=None, shuffle=False)


def _open_validation_data(arguments: dict[str, Any]) -> None:
    data = arguments["validation_data"]
    if data is not None:
        x, y, weights = (data, None, None) if isinstance(data, tf.data.Dataset) else (*data, None, None)[:3]
        arguments["validation_data"] = _dataset(x, y, weights, arguments["validation_batch_size"])
    arguments["validation_batch_size"] = None


def _dataset(
    x: Any, y: Any, weights: Any, batch_size: int | None, *, shuffle: bool = False
) -> tf.data.Dataset:
    """Returns this worker's batches, of a number that Keras does not know: workers vote on when they end."""
    if isinstance(x, tf.data.Dataset):
        return x.filter(lambda *_: True)
    arrays = tuple(_without_lists(part) for part in (x, y, weights) if part is not None)
    leaves = keras.tree.flatten(arrays)
    if not leaves or not all(hasattr(leaf, "shape") for leaf in leaves):
        raise ConfigError(
            "Over several workers a model is fed by a tf.data.Dataset, or by arrays.",
            place="x",
            received=type(x).__name__,
            remedy="make a tf.data.Dataset of this worker's part of the data",
        )
    dataset = tf.data.Dataset.from_tensor_slices(arrays)
    if shuffle:
        dataset = dataset.shuffle(leaves[0].shape[0] or 1)
    return dataset.batch(batch_size or 32).filter(lambda *_: True)


def _without_lists(part: Any) -> Any:
    """A list of arrays would become one array of one more dimension."""
    return tuple(part) if isinstance(part, list) else part


def _as_list(callbacks: Any) -> list[keras.callbacks.Callback]:
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return list(callbacks.callbacks)
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks] if callbacks else []


def _make_variables(model: keras.Model, batch: Any) -> None:
    has_own_step = type(model).train_step is not keras.Model.train_step
    if not has_own_step or all(layer.built for layer in model._flatten_layers()):
        model._symbolic_build(data_batch=batch)
    else:
        trace_variables(model, batch)


def _forget(model: keras.Model) -> Callable[[], None]:
    def forget() -> None:
        for variable in model.metrics_variables:
            variable.assign(tf.zeros_like(variable.value))

    return forget


def _spec(iterator: Any, batches: Sequence[Any]) -> Any:
    """Returns what this worker's batches are like, of any length where an iterator cannot say."""
    spec = getattr(iterator, "element_spec", None)
    if spec is not None:
        return spec
    return tf.nest.map_structure(
        lambda leaf: None if leaf is None else tf.TensorSpec([None, *leaf.shape[1:]], leaf.dtype), batches[0]
    )


def _leaves(spec: Any) -> list[Any]:
    return [leaf for leaf in tf.nest.flatten(spec) if leaf is not None]


def _may_be_empty(spec: Any) -> bool:
    return all(
        isinstance(leaf, tf.TensorSpec) and leaf.shape.rank and leaf.shape[0] is None
        for leaf in _leaves(spec)
    )


def _empty(spec: Any, batches: Sequence[Any]) -> Any:
    """Returns a batch without examples, shaped as this worker's last one where it has one."""
    if batches:
        return tf.nest.map_structure(lambda leaf: None if leaf is None else leaf[:0], batches[-1])
    return tf.nest.map_structure(
        lambda leaf: tf.zeros([0, *(size or 1 for size in leaf.shape[1:])], leaf.dtype), spec
    )


def _described(spec: Any) -> list[str]:
    return [str(leaf) for leaf in _leaves(spec)]


def _digest(spec: Any) -> int:
    return int.from_bytes(hashlib.sha256(repr(_described(spec)).encode()).digest()[:4], "big") >> 1
