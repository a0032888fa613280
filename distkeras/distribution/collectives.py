"""Sums and exchanges between worker processes: how they meet, and TensorFlow's collective operations between them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context as tf_context

from distkeras.distribution.buckets import pack, unpack
from distkeras.distribution.patience import Patience
from distkeras.errors import ConfigError, ResourceError
from distkeras.topology import Worker

_JOB = "worker"
# TensorFlow waits for an hour by default. Launchers start all workers before any connects.
CONNECT_SECONDS = 120
# A worker that says nothing for so long is taken for dead by the others; TensorFlow's default is about 10 s.
HEARTBEAT_SECONDS = 30
# Any number; there is one group, that of all workers.
_GROUP_KEY = 1
# What all workers send of a tensor that is summed by gathering it. Two workers, loopback: 0.36 ms against the ring's
# 0.63 for 8 kB, 0.62 against 0.97 for 260 kB, 2.1 against 1.8 for 1 MB.
GATHERED_BYTES = 1024**2


class ForbiddenHereError(Exception):
    """A collective operation was asked for where none can be, such as inside what XLA compiles."""


class Collectives:
    """What the workers of a run compute together.

    Collective: every method must be called by every worker, in the same order, with tensors of the same shapes.
    A worker that died is noticed by its heartbeat; one that lives and never calls, by `patience`, within whose
    `waiting` every call from Python must stand.

    Args:
        group_size: Number of workers.
        device: This worker's device.
        patience: How long the others are waited for.
        bucket_bytes: Size of the pieces that lists of tensors are sent in.
    """

    def __init__(
        self,
        group_size: int,
        device: str,
        *,
        patience: Patience,
        bucket_bytes: int,
    ) -> None:
        self.group_size = group_size
        self._device = device
        self.waiting = patience.waiting
        self._bucket_bytes = bucket_bytes
        self._hint = "nccl" if "GPU" in device else "ring"
        # Workers trace the same functions in the same order, so the same operation gets the same key on all of them.
        self._keys = itertools.count(1)
        self._are_forbidden = False
        with tf.init_scope(), tf.device(device):
            # Operations that share it run in the order of the program, on all workers alike: NCCL deadlocks else.
            self._order = tf.Variable(tf.zeros(()))

    @contextmanager
    def forbidden(self) -> Generator[None]:
        """Raises `ForbiddenHereError` where the block asks for a collective operation."""
        self._are_forbidden = True
        try:
            yield
        finally:
            self._are_forbidden = False

    def sum(self, tensor: tf.Tensor) -> tf.Tensor:
        """Returns the sum of a tensor over workers."""
        if self._is_short(tensor):
            # Half as many messages one after the other as a ring's sum; all workers add in the same order.
            return tf.add_n(tf.unstack(self.gather(tensor[tf.newaxis]), self.group_size))
        return self._reduce(tensor, "Add")

    def max(self, tensor: tf.Tensor) -> tf.Tensor:
        """Returns the elementwise maximum of a tensor over workers."""
        return self._reduce(tensor, "Max")

    def sum_all(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the sums of many tensors over workers, sent in buckets, the last tensors first.

        Gradients of the last layers are ready first: their bucket is on its way while the others are computed.
        """
        buckets = pack(tensors, self._bucket_bytes)
        sums = [self.sum(bucket.tensor) for bucket in buckets]
        return unpack(buckets, sums, len(tensors))

    def gather(self, tensor: tf.Tensor) -> tf.Tensor:
        """Returns the tensors of all workers, by rank, concatenated along their first axis."""
        return self._gather(tensor, next(self._keys))

    def gather_rows(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns the rows of all workers, by rank; workers may have different numbers of them, at every call."""
        lengths = self.gather(tf.shape(rows)[:1])
        # An operation may be called with one length only: there is one for each power of two.
        power = _ceil_log2(tf.reduce_max(lengths))
        longest = tf.bitwise.left_shift(1, power)
        key = tf.constant(self._reserve_keys(32)) + power
        filled = tf.pad(rows, [[0, longest - tf.shape(rows)[0]], *[[0, 0]] * (rows.shape.rank - 1)])
        everyone = self._gather(filled, key)
        return tf.concat(
            [
                everyone[rank * longest : rank * longest + length]
                for rank, length in enumerate(tf.unstack(lengths, self.group_size))
            ],
            axis=0,
        )

    def exchange(self, value: Any) -> list[Any]:
        """Returns the values of all workers, by rank. Eager; any JSON value."""
        content = np.frombuffer(json.dumps(value).encode(), np.uint8)
        with self.waiting():
            lengths = self.gather(tf.constant([len(content)], tf.int32)).numpy().tolist()
            padded = np.zeros(max(lengths), np.uint8)
            padded[: len(content)] = content
            # The gather has no kernel for bytes.
            rows = self.gather(tf.constant(padded[np.newaxis].astype(np.int32))).numpy().astype(np.uint8)
        return [json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)]

    def _is_short(self, tensor: tf.Tensor) -> bool:
        """Whether a sum waits for messages rather than for bytes."""
        size = tensor.shape.num_elements()
        if self._hint != "ring" or tensor.dtype == tf.bfloat16 or size is None:
            return False  # TensorFlow gathers no bfloat16
        return size * tensor.dtype.size * self.group_size <= GATHERED_BYTES

    def _gather(self, tensor: tf.Tensor, key: Any) -> tf.Tensor:
        with tf.device(self._device):
            return tf.raw_ops.CollectiveGatherV2(
                input=tensor, communication_hint=self._hint, **self._arguments(key)
            )

    def _reserve_keys(self, count: int) -> int:
        keys = [next(self._keys) for _ in range(count)]
        return keys[0]

    def _reduce(self, tensor: tf.Tensor, operation: Literal["Add", "Max"]) -> tf.Tensor:
        with tf.device(self._device):
            return tf.raw_ops.CollectiveReduceV2(
                input=tensor,
                merge_op=operation,
                final_op="Id",
                communication_hint=self._hint,
                **self._arguments(next(self._keys)),
            )

    def _arguments(self, key: Any) -> dict[str, Any]:
        if self._are_forbidden:
            raise ForbiddenHereError
        return {
            "group_size": self.group_size,
            "group_key": _GROUP_KEY,
            "instance_key": key,
            "ordering_token": [self._order.handle],
            "timeout_seconds": 0.0,  # see patience.py
        }


def connect(worker: Worker) -> str:
    """Lets TensorFlow's runtime of this process meet those of the other workers; before its first operation.

    Returns:
        The name that this process has as a TensorFlow task, `/job:worker/replica:0/task:<rank>`.

    Raises:
        ResourceError: If a worker does not come in time, or this worker's port was taken.
    """
    cluster = tf.train.ClusterSpec({_JOB: list(worker.addresses)})
    jobs = tf_context.coordination_config_pb2.CoordinatedJob(name=_JOB, num_tasks=len(worker.addresses))
    # The only way to these limits; without it the strategy below makes the same call with the defaults.
    tf_context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{_JOB}/replica:0/task:0",
        cluster_register_timeout_in_ms=CONNECT_SECONDS * 1000,
        heartbeat_timeout_in_ms=HEARTBEAT_SECONDS * 1000,
        coordinated_jobs=[jobs],
    )
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        cluster, task_type=_JOB, task_id=worker.rank, rpc_layer="grpc"
    )
    try:
        # Not used as a strategy: making it is TensorFlow's public way to start the server that collectives need.
        tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except tf.errors.OpError as error:
        raise ResourceError(
            "The workers could not meet.",
            place=f"rank {worker.rank} at {worker.addresses[worker.rank]}",
            received=str(error.message).partition("\n")[0],
            remedy="see that all workers started, and that their hosts and ports reach each other",
        ) from error
    except RuntimeError as error:
        raise ConfigError(
            "TensorFlow was used in this process before its worker could meet the others.",
            received=str(error).partition("\n")[0],
            remedy="move what makes tensors, variables or models out of the module's top level",
        ) from error
    return f"/job:{_JOB}/replica:0/task:{worker.rank}"


def _ceil_log2(number: tf.Tensor) -> tf.Tensor:
    """Returns the least power of two that is at least `number`, as its exponent; int32."""
    powers = tf.bitwise.left_shift(tf.ones(31, tf.int32), tf.range(31))
    return tf.reduce_sum(tf.cast(powers < number, tf.int32))
