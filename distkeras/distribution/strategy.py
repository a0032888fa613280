"""How the replicas of a run are arranged: on the devices of one process, or one in each of several processes.

Both are TensorFlow strategies under which Keras creates its variables, with Keras's arithmetic left local.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import tensorflow as tf

from distkeras.distribution.collectives import Collectives, connect
from distkeras.distribution.patience import Patience
from distkeras.topology import Topology, Worker

# Small enough that the first bucket leaves early, large enough that sending it is not all start-up: between two
# processes of one machine 4 MB take 14 ms, and the smallest sum 1.1 ms (2026-11-21, 2 cores, gRPC ring).
BUCKET_BYTES = 4 * 1024**2


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
        self.num_replicas = len(devices)
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


class WorkerStrategy(tf.distribute.OneDeviceStrategy):
    """One replica in this process, and the others in processes of their own.

    To Keras it is one device; what crosses processes is `collectives`, called by this package alone.

    Args:
        worker: This process's place among the workers.
        device: This worker's device, such as `GPU:0`.
        timeout_seconds: Longest wait for the other workers in one operation.
        reduces_steps: Whether every step's gradients are added up over the workers; else each trains apart.
        reduction_dtype: What gradients are sent as; None: as they are.

    Raises:
        ResourceError: If the workers do not meet.
    """

    def __init__(
        self,
        worker: Worker,
        device: str,
        *,
        timeout_seconds: float,
        reduces_steps: bool = True,
        reduction_dtype: tf.DType | None = None,
    ) -> None:
        task = connect(worker)
        super().__init__(f"{task}/device:{device}")
        self.reduces_steps = reduces_steps
        self.reduction_dtype = reduction_dtype
        self.topology = Topology(world_size=len(worker.addresses), rank=worker.rank)
        self.collectives = Collectives(
            self.topology.world_size,
            f"{task}/device:{device}",
            patience=Patience(worker.rank, timeout_seconds),
            bucket_bytes=BUCKET_BYTES,
        )


def waiting(
    strategy: tf.distribute.Strategy, kind: str = "", num_steps: int = 1
) -> AbstractContextManager[None]:
    """Limits how long the block waits for other workers, where there are any; see `Patience.waiting`."""
    if isinstance(strategy, WorkerStrategy):
        return strategy.collectives.waiting(kind, num_steps)
    return nullcontext()


def replicas_of(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of replicas over all workers."""
    if isinstance(strategy, WorkerStrategy):
        return strategy.topology.num_replicas
    if isinstance(strategy, ReplicaStrategy):
        return strategy.num_replicas
    return strategy.num_replicas_in_sync


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
