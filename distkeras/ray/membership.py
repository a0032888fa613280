"""This process as a worker of a `KerasTrainer`: its place among the workers, and their strategy.

The backend fills it in before the train loop begins. It is the one piece of state that belongs to the process:
TensorFlow's runtime meets the other workers once in a process's life, too.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distkeras.errors import ConfigError
from distkeras.topology import Worker

if TYPE_CHECKING:
    from distkeras.distribution.strategy import WorkerStrategy
    from distkeras.ray.trainer import KerasConfig


@dataclass
class _Membership:
    worker: Worker | None = None
    strategy: WorkerStrategy | None = None
    error: Exception | None = None


_membership = _Membership()


def join(worker: Worker, on_gpu: bool, config: KerasConfig) -> None:
    """Takes this process's place, and meets the other workers where the config says so. Collective.

    An error waits for the train loop's beginning: raised here it would be Ray's controller that failed, which
    says less about where, and knows no failure budget.

    Args:
        worker: The place.
        on_gpu: Whether Ray gave this worker a GPU.
        config: The trainer's.
    """
    _membership.worker = worker
    if not on_gpu:
        # Ray leaves all GPUs of a machine visible to workers that asked for none.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    # Set by Ray's TensorFlow examples; a train loop that says `tf.keras` must get Keras 3 here.
    os.environ.pop("TF_USE_LEGACY_KERAS", None)
    if config.connect:
        try:
            _membership.strategy = _connect(worker, on_gpu, config)
        except Exception as error:
            _membership.error = error


def _connect(worker: Worker, on_gpu: bool, config: KerasConfig) -> WorkerStrategy:
    import tensorflow as tf

    from distkeras.config.sections import TopologySection
    from distkeras.distribution.devices import select_devices
    from distkeras.distribution.strategy import WorkerStrategy

    tf.config.threading.set_intra_op_parallelism_threads(worker.num_threads)
    section = TopologySection(replicas=1, devices="gpu" if on_gpu else "cpu")
    return WorkerStrategy(
        worker,
        select_devices(section)[0],
        timeout_seconds=config.timeout_seconds,
        reduction_dtype=None if config.reduction == "full" else tf.bfloat16,
    )


@contextmanager
def under_strategy() -> Generator[None]:
    """Runs a train loop under the workers' strategy, so that models are built on this worker's device.

    Raises:
        ResourceError: If the workers did not meet.
    """
    if _membership.error is not None:
        raise _membership.error
    with strategy().scope():
        yield


def current_worker() -> Worker:
    """Returns this process's place among the workers.

    Raises:
        ConfigError: If this process is no worker of a `KerasTrainer`.
    """
    if _membership.worker is None:
        raise _not_a_worker()
    return _membership.worker


def strategy() -> WorkerStrategy:
    """Returns the strategy that a train loop's models are built under; the loop is in its scope already.

    For code that was written as `strategy = ...; with strategy.scope(): ...`.

    Raises:
        ConfigError: If this process is no worker of a `KerasTrainer`.
    """
    if _membership.strategy is None:
        raise _not_a_worker()
    return _membership.strategy


def _not_a_worker() -> ConfigError:
    return ConfigError(
        "This process is no worker of a KerasTrainer.",
        place="distkeras.ray",
        remedy="call it inside train_loop_per_worker of a distkeras.ray.KerasTrainer",
    )
