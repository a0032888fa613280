"""The worker processes of a JAX run: how they meet, what they tell each other, and how they leave.

Three habits of `jax.distributed` are avoided here. A worker that never comes ends the others without a Python error:
so the workers meet on sockets of their own first. A worker that fails is held at its exit until the others come, who
wait for it in a collective: so it leaves at once. A worker that asks for another collective than the others hangs or
crashes them: so they compare what they are about to do.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from distkeras.errors import InterruptedRunError, PreemptedError, ResourceError
from distkeras.topology import Worker
from distkeras.training.differences import first_difference

# Launchers start all workers before any connects.
CONNECT_SECONDS = 120.0
RETRY_SECONDS = 0.1
# A worker that says nothing for so long is taken for dead by the others; JAX's default is 100 s.
HEARTBEAT_SECONDS = 30
_GO = b"go"
# How JAX words, on CPU and GPU, that the other end of a collective has gone.
_PEER_WORDS = (
    "Gloo",
    "Connection reset",
    "Connection closed",
    "Socket closed",
    "NCCL",
    "coordination service",
)

_exit_codes: list[int] = []


class PeersGoneError(RuntimeError):
    """Another worker has gone, so that a collective could not end. Who went says why; this is only the consequence."""


class Group:
    """All worker processes of a run.

    Args:
        world_size: Number of workers.
        rank: Index of this one.
    """

    def __init__(self, world_size: int = 1, rank: int = 0) -> None:
        self.world_size, self.rank = world_size, rank

    def exchange(self, value: Any) -> list[Any]:
        """Returns the values of all workers, by rank. Collective; any JSON value."""
        if self.world_size == 1:
            return [value]
        content = np.frombuffer(json.dumps(value).encode(), np.uint8)
        lengths = _gathered(np.array([len(content)], np.int32))[:, 0].tolist()
        padded = np.zeros(max(lengths), np.uint8)
        padded[: len(content)] = content
        return [
            json.loads(row[:length].tobytes()) for row, length in zip(_gathered(padded), lengths, strict=True)
        ]

    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Refuses to go on where the workers differ in a fact. Collective.

        Args:
            facts: By the name that a person knows each by; JSON values.

        Raises:
            ConfigError: On every worker, naming the first fact that differs, and where.
        """
        difference = first_difference(self.exchange(dict(facts)), list(facts))
        if difference is not None:
            raise difference

    def leave(self) -> None:
        """Waits until all workers are done with each other; that one has gone already is no error. Collective."""
        try:
            self.exchange(None)
        except Exception as error:
            if not _is_consequence(error):
                raise

    @contextmanager
    def guarded(self) -> Generator[None]:
        """Lets this process leave at once when a block fails, and tells a failure from its consequence.

        Stops are agreed between the workers, and all come to the end of them.
        """
        try:
            yield
        except (InterruptedRunError, PreemptedError):
            raise
        except Exception as error:
            if self.world_size == 1:
                raise
            _exit_codes.append(getattr(error, "exit_code", 1))
            if not _is_consequence(error):
                raise
            # `runners.workers` knows a consequence by these words, which are TensorFlow's.
            raise PeersGoneError("Collective ops is aborted: another worker has gone") from error


def _gathered(array: np.ndarray) -> np.ndarray:
    return np.asarray(multihost_utils.process_allgather(array)).reshape(-1, *array.shape)


def _is_consequence(error: Exception) -> bool:
    return isinstance(error, RuntimeError | ValueError) and any(word in str(error) for word in _PEER_WORDS)


def start_group(worker: Worker, timeout_seconds: float) -> Group:
    """Meets the other workers; call it before anything asks JAX for a device.

    Args:
        worker: This process's place among them.
        timeout_seconds: Longest wait for the others, now and in one operation.

    Raises:
        ResourceError: If not all workers come.
    """
    group = Group(len(worker.addresses), worker.rank)
    _limit_collectives(timeout_seconds)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    meet(worker, min(timeout_seconds, CONNECT_SECONDS))
    jax.distributed.initialize(
        coordinator_address=worker.addresses[0],
        num_processes=group.world_size,
        process_id=worker.rank,
        # Its own guess from Slurm's or Kubernetes' variables could overrule what the runner said.
        cluster_detection_method="deactivate",
        coordinator_bind_address=worker.addresses[0],
        initialization_timeout=int(CONNECT_SECONDS),
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        # At its regular end a worker waits for those that still write.
        shutdown_timeout_seconds=max(1, int(timeout_seconds)),
    )
    atexit.register(_leave)  # after JAX's own, so it is called before it
    return group


def _limit_collectives(timeout_seconds: float) -> None:
    """Turns an endless wait into an error. The limit holds for honest waits too: a slow commit, a compilation."""
    seconds = max(1, int(timeout_seconds))
    flags = (
        f"--xla_cpu_collective_timeout_seconds={seconds}",
        f"--xla_cpu_collective_call_terminate_timeout_seconds={seconds}",
    )
    os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *flags]).strip()


def _leave() -> None:
    if _exit_codes:
        sys.stdout.flush()
        sys.stderr.flush()
        logging.shutdown()
        os._exit(_exit_codes[0])


def meet(worker: Worker, timeout_seconds: float) -> None:
    """Waits until all workers are there: rank zero calls each of them, and lets them go when all have answered.

    Raises:
        ResourceError: If not all of them come in time.
    """
    deadline = time.monotonic() + timeout_seconds
    if worker.rank == 0:
        absent = _call_all(worker.addresses[1:], deadline)
    else:
        absent = (
            []
            if _is_called(worker.addresses[worker.rank], deadline)
            else ["rank 0, or one that it waits for"]
        )
    if absent:
        raise ResourceError(
            f"Not all of the {len(worker.addresses)} workers came within {timeout_seconds:g} s.",
            place=f"rank {worker.rank}",
            received=f"nothing from {', '.join(absent)}",
            remedy="look into the logs of the others; they must reach each other at these addresses: "
            + ", ".join(worker.addresses),
        )


def _call_all(addresses: Sequence[str], deadline: float) -> list[str]:
    """Returns the ranks that did not answer."""
    reached: dict[int, socket.socket] = {}
    try:
        while len(reached) < len(addresses) and time.monotonic() < deadline:
            for rank, address in enumerate(addresses, start=1):
                if rank not in reached and (connection := _connected(address)) is not None:
                    reached[rank] = connection
            time.sleep(RETRY_SECONDS if len(reached) < len(addresses) else 0)
        absent = [f"rank {rank}" for rank in range(1, len(addresses) + 1) if rank not in reached]
        for connection in () if absent else reached.values():
            connection.sendall(_GO)
        return absent
    finally:
        for connection in reached.values():
            connection.close()


def _connected(address: str) -> socket.socket | None:
    try:
        return socket.create_connection(_host_and_port(address), timeout=1.0)
    except OSError:
        return None


def _is_called(address: str, deadline: float) -> bool:
    """Whether rank zero said in time that all are there."""
    with closing(socket.create_server(_host_and_port(address), family=_family(address))) as server:
        while (left := deadline - time.monotonic()) > 0:
            server.settimeout(left)
            try:
                connection, _ = server.accept()
                with closing(connection):
                    connection.settimeout(max(deadline - time.monotonic(), 0.01))
                    if connection.recv(len(_GO)) == _GO:
                        return True
            except OSError:
                continue
    return False


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in _host_and_port(address)[0] else socket.AF_INET
