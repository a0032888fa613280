"""Replicas on the devices of one process: TensorFlow's MirroredStrategy, with Keras's arithmetic left local."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import tensorflow as tf


class ReplicaStrategy(tf.distribute.MirroredStrategy):
    """MirroredStrategy whose replicas can each compute as if they were alone.

    Under a tf.distribute strategy Keras divides some losses by the number of replicas (those of `keras.losses`)
    and leaves others as they are (what a custom `train_step` computes itself), so that a sum over replicas is
    right for the first and too large for the second. Inside `counting_as_one` every loss stays the local mean,
    and one weighted sum is right for all of them.
    """

    def __init__(self, devices: Sequence[str]) -> None:
        # The default (collective gathers) fails on sparse gradients of unequal length: the last batch of an epoch.
        on_gpu = all("GPU" in device for device in devices)
        operations = tf.distribute.NcclAllReduce() if on_gpu else tf.distribute.ReductionToOneDevice()
        self._counting_as_one = False
        super().__init__(list(devices), cross_device_ops=operations)

    @property
    def num_replicas_in_sync(self) -> int:
        """The number of replicas, or one inside `counting_as_one`."""
        return 1 if self._counting_as_one else super().num_replicas_in_sync

    @contextmanager
    def counting_as_one(self) -> Generator[None]:
        """While a step is traced, lets every replica compute its loss as if it were alone."""
        self._counting_as_one = True
        try:
            yield
        finally:
            self._counting_as_one = False


def make_strategy(devices: Sequence[str]) -> tf.distribute.Strategy:
    """Returns a `ReplicaStrategy` over several devices, or a strategy without replicas on one.

    One device needs no MirroredStrategy: the default strategy, or OneDeviceStrategy for a device that is not
    TensorFlow's own first choice, is Keras's best-tested path.
    """
    if len(devices) > 1:
        return ReplicaStrategy(devices)
    if "CPU" in devices[0] and tf.config.list_physical_devices("GPU"):
        return tf.distribute.OneDeviceStrategy(devices[0])
    return tf.distribute.get_strategy()
