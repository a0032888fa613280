"""Level 1 of the Python interface: a Keras script keeps its `fit`, and its model its numbers, on several devices."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

import keras
import tensorflow as tf

from distkeras.config.settings import settings_from_mapping
from distkeras.distribution.devices import select_devices
from distkeras.distribution.reduction import diverge_seeds
from distkeras.distribution.strategy import make_strategy
from distkeras.errors import ConfigError
from distkeras.topology import Topology
from distkeras.training.keras_fit import give_to_keras

Prepared = TypeVar("Prepared", keras.Model, tf.data.Dataset)


@dataclass(frozen=True)
class Scale:
    """What `scale` yields.

    Attributes:
        topology: How many replicas there are.
        strategy: What models are created under.
    """

    topology: Topology
    strategy: tf.distribute.Strategy


@contextmanager
def scale(
    replicas: int | Literal["auto"] = "auto", *, devices: Literal["auto", "cpu", "gpu"] = "auto"
) -> Generator[Scale]:
    """Puts the models that are built inside the block on several devices of this machine.

    Enter it before TensorFlow's first operation where replicas share the CPU.

    Args:
        replicas: Copies of the model, one a device; `auto`: every GPU, or one on the CPU.
        devices: `auto`: GPUs where there are any, else the CPU.

    Raises:
        ConfigError: If an argument is wrong.
        ResourceError: If the machine lacks the devices.
    """
    settings, _ = settings_from_mapping(
        {"name": "scale", "topology.replicas": replicas, "topology.devices": devices}
    )
    chosen = select_devices(settings.topology)
    strategy = make_strategy(chosen)
    with strategy.scope():
        yield Scale(Topology(num_local_replicas=len(chosen)), strategy)


def prepare(thing: Prepared, *, global_batch_size: int | None = None) -> Prepared:
    """Makes a compiled model, or a data set, ready for Keras's own `fit` on several replicas.

    Args:
        thing: A compiled model: its steps become those of the global batch, so that losses, clipping,
            accumulation and custom train steps give the numbers of one device; BatchNormalization's moving
            statistics, which each replica keeps for itself, are averaged whenever it is evaluated. Or a
            `tf.data.Dataset` of single examples, which becomes one of global batches. Call it inside `scale`.
        global_batch_size: Examples of one step over all replicas; for data sets.

    Raises:
        ConfigError: If the model is not compiled, or the batch does not divide by the replicas.
    """
    if isinstance(thing, tf.data.Dataset):
        return _prepare_dataset(thing, tf.distribute.get_strategy(), global_batch_size)
    if not getattr(thing, "compiled", False):
        raise ConfigError(
            "Only a compiled model can be prepared.",
            received=type(thing).__name__,
            remedy="call model.compile(...) first, inside distkeras.scale()",
        )
    strategy = thing.distribute_strategy or tf.distribute.get_strategy()
    if thing.optimizer is not None and thing.built:
        with strategy.scope():
            thing.optimizer.build(thing.trainable_variables)
    diverge_seeds(thing, strategy)
    give_to_keras(thing, strategy)
    return thing


def _prepare_dataset(
    dataset: tf.data.Dataset, strategy: tf.distribute.Strategy, global_batch_size: int | None
) -> tf.data.Dataset:
    if global_batch_size is None:
        raise ConfigError(
            "A data set is prepared for a global batch size.",
            place="prepare(dataset, global_batch_size=...)",
            remedy="name the examples of one step over all replicas",
        )
    topology = Topology(num_local_replicas=strategy.num_replicas_in_sync)
    topology.per_replica_batch_size(global_batch_size)
    options = tf.data.Options()
    # Keras hands each replica its part of every global batch; sharding the data set as well would lose examples.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.batch(global_batch_size).prefetch(tf.data.AUTOTUNE).with_options(options)
