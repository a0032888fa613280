"""Keras preprocessing layers by name: those that learn are adapted to the training part, random ones come last."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from distkeras.config.sections import NamedObject
from distkeras.data.pipeline import evaluation_dataset
from distkeras.data.preprocessing.base import Preprocessing
from distkeras.data.sources.base import Source
from distkeras.errors import ConfigError, DataError, error_text
from distkeras.topology import Topology

EXAMPLES_PER_BATCH = 1024
# What each layer learns, by the argument that it is given back as; where the config gives it, nothing is learnt.
LEARNT = {
    "Discretization": "bin_boundaries",
    "IntegerLookup": "vocabulary",
    "Normalization": "mean",
    "StringLookup": "vocabulary",
    "TextVectorization": "vocabulary",
}
# These change labels, too, or need more than one input, which no batch of features has.
NOT_FOR_FEATURES = ("CutMix", "HashedCrossing", "MaxNumBoundingBoxes", "MixUp", "Pipeline")

State = Mapping[str, Any]
Step = Callable[[Any], tf.Tensor]


class KerasLayers(Preprocessing):
    """Batches through Keras layers, one after the other; the random ones in `random`, the others in `__call__`.

    They run as TensorFlow's operations with any Keras backend.

    Args:
        layers: Names and arguments, random layers last.
        source: Whose features they get; only its shape and type count.
        states: What each layer learnt, in their order; None: adapt those that learn to the source.

    Raises:
        ConfigError: If there is no such layer, it refuses its arguments or these features, or a random one is
            followed by one that is not, or changes the shape.
    """

    def __init__(
        self, layers: Sequence[NamedObject], source: Source, states: Sequence[State] | None = None
    ) -> None:
        spec = _feature_spec(source)
        self._states: list[State] = []
        self._steps: list[Step] = []
        self._random_steps: list[Step] = []
        for position, named in enumerate(layers):
            place = f"data.layers[{position}]"
            if _is_random(_layer_class(named.name, place)):
                self._random_steps.append(_random_step(named, place, spec, position))
                continue
            if self._random_steps:
                raise ConfigError(
                    f"Random layers come last: {named.name} stands after {layers[position - 1].name}.",
                    place=place,
                    remedy="move it before the random layers; they run in training only",
                )
            state = _learn(named, place, source, self._steps) if states is None else states[position]
            self._states.append(state)
            layer = _make(named, place, state)
            if "mean" in state or "mean" in named.arguments:
                # With Keras on JAX it is not built by its first call, where that is TensorFlow's.
                layer.build(tuple(spec.shape))
            step, spec = _traced(layer, named.name, place, spec)
            self._steps.append(step)
        self.feature_shape = tuple(spec.shape[1:])
        self.feature_dtype = spec.dtype.name
        self.is_random = bool(self._random_steps)

    def __call__(self, features: Any) -> Any:
        for step in self._steps:
            features = step(features)
        return features

    def random(self, features: Any) -> Any:
        for step in self._random_steps:
            features = step(features)
        return features

    def state(self) -> dict[str, Any]:
        return {"layers": [dict(state) for state in self._states]}


def learn_layers(layers: Sequence[NamedObject], source: Source) -> KerasLayers:
    """Adapts the layers that learn to the training part, in order, each to what those before it return.

    Raises:
        ConfigError: As `KerasLayers`.
    """
    return KerasLayers(layers, source)


def restore_layers(layers: Sequence[NamedObject], source: Source, state: State) -> KerasLayers:
    """Returns what `KerasLayers.state` was taken of.

    Raises:
        DataError: If it was taken of another number of layers.
        ConfigError: As `KerasLayers`.
    """
    states: Sequence[State] = state["layers"]
    num_layers = sum(not _is_random(_layer_class(named.name, "data.layers")) for named in layers)
    if len(states) != num_layers:
        raise DataError(
            f"What was learnt is of {len(states)} layers; data.layers has {num_layers} that are not random.",
            place="data.layers",
            remedy="set them to what the run was trained with, or train under another name",
        )
    return KerasLayers(layers, source, states)


def _feature_spec(source: Source) -> tf.TensorSpec:
    shape: Any = source.feature_shape
    if isinstance(source.feature_dtype, str):
        return tf.TensorSpec((None, *shape), source.feature_dtype)
    raise ConfigError(
        "Keras layers are for examples with one input.",
        place="data.layers",
        received=shape,
        remedy="leave data.layers out, and put the layers into a model of your own",
    )


def _layer_class(name: str, place: str) -> Any:
    known = {
        key: value
        for key, value in vars(keras.layers).items()
        if inspect.isclass(value)
        and value.__module__.startswith("keras.src.layers.preprocessing.")
        and key not in NOT_FOR_FEATURES
    }
    if name in known:
        return known[name]
    if name in NOT_FOR_FEATURES:
        problem = f"The Keras layer {name} cannot be used here: it needs more than the features."
        remedy = "for mixup and cutmix see data.image.augment"
    else:
        problem = "There is no Keras preprocessing layer of this name."
        close = get_close_matches(name, known, n=1)
        remedy = f"did you mean {close[0]!r}?" if close else f"use one of {', '.join(sorted(known))}"
    raise ConfigError(problem, place=f"{place}.name", received=name, remedy=remedy)


def _is_random(layer_class: Any) -> bool:
    return "seed" in inspect.signature(layer_class).parameters


def _make(named: NamedObject, place: str, more: Mapping[str, Any]) -> Any:
    arguments = {**named.arguments, **more}
    if named.name == "Discretization" and "bin_boundaries" in more:
        arguments.pop("num_bins", None)  # Keras takes one of them.
    try:
        return _layer_class(named.name, place)(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"The Keras layer {named.name} refuses its arguments: {error_text(error)}",
            place=f"{place}.arguments",
            received=dict(named.arguments) or None,
            remedy=f"see the documentation of keras.layers.{named.name}",
        ) from error


def _traced(
    layer: Callable[[Any], Any], name: str, place: str, spec: tf.TensorSpec
) -> tuple[Step, tf.TensorSpec]:
    """Returns a layer as a graph, which is TensorFlow's with every Keras backend, and what comes out of it."""
    step = tf.function(layer, input_signature=[spec], autograph=False)
    try:
        after = step.get_concrete_function().structured_outputs
    except Exception as error:  # a layer fails in its own way for features it is not made for
        raise ConfigError(
            f"The Keras layer {name} cannot be applied: {error_text(error)}",
            place=place,
            received=f"features of shape {tuple(spec.shape[1:])}, {spec.dtype.name}",
            remedy=f"see the documentation of keras.layers.{name}",
        ) from error
    if not isinstance(after, tf.Tensor) or not _is_batch(after.shape):
        raise ConfigError(
            f"The Keras layer {name} does not give one array of a known shape for each example.",
            place=place,
            received=str(after),
            remedy="choose arguments that fix the shape, such as output_sequence_length",
        )
    return step, tf.TensorSpec(after.shape, after.dtype)


def _is_batch(shape: tf.TensorShape) -> bool:
    return bool(shape.rank) and shape[0] is None and shape[1:].is_fully_defined()


def _random_step(named: NamedObject, place: str, spec: tf.TensorSpec, seed: int) -> Step:
    layer = _make(named, place, {} if "seed" in named.arguments else {"seed": seed})

    def change(features: tf.Tensor) -> tf.Tensor:
        changed = layer(features, training=True)
        # Pixels stay whole numbers: without random layers, in evaluation, they are.
        is_rounded = spec.dtype.is_integer and changed.dtype.is_floating
        return tf.saturate_cast(tf.round(changed) if is_rounded else changed, spec.dtype)

    step, after = _traced(change, named.name, place, spec)
    if after.shape != spec.shape:
        raise ConfigError(
            f"The random Keras layer {named.name} changes the shape, which evaluation would not do.",
            place=place,
            received=f"{tuple(spec.shape[1:])} becomes {tuple(after.shape[1:])}",
            remedy="see data.image.random_crop and data.image.random_resized_crop",
        )
    return step


def _learn(named: NamedObject, place: str, source: Source, steps: Sequence[Step]) -> State:
    argument = LEARNT.get(named.name)
    if argument is None or argument in named.arguments:
        return {}
    layer = _make(named, place, {})
    batches = evaluation_dataset(source, Topology(), global_batch_size=EXAMPLES_PER_BATCH)
    batches = batches.map(lambda features, *_: features)
    for step in steps:
        batches = batches.map(step)
    try:
        layer.adapt(batches)
    except (TypeError, ValueError, tf.errors.OpError) as error:
        raise ConfigError(
            f"The Keras layer {named.name} cannot learn from these features: {error_text(error)}",
            place=place,
            received=str(batches.element_spec),
            remedy=f"see the documentation of keras.layers.{named.name}",
        ) from error
    return _learnt(layer)


def _learnt(layer: Any) -> State:
    """Returns what an adapted layer learnt, as the arguments that make it again, in JSON values."""
    if isinstance(layer, keras.layers.Normalization):
        return {"mean": _numbers(layer.adapt_mean), "variance": _numbers(layer.adapt_variance)}
    if isinstance(layer, keras.layers.Discretization):
        return {"bin_boundaries": _numbers(layer.bin_boundaries)}
    state: dict[str, Any] = {"vocabulary": [_plain(token) for token in layer.get_vocabulary()]}
    lookup = getattr(layer, "_lookup_layer", layer)  # TextVectorization keeps its weights there.
    if lookup.output_mode == "tf_idf":
        state["idf_weights"] = lookup.idf_weights.numpy().tolist()
    return state


def _numbers(values: Any) -> Any:
    return np.asarray(keras.ops.convert_to_numpy(values)).tolist()


def _plain(token: Any) -> str | int:
    return str(token) if isinstance(token, str) else int(token)
