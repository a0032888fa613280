"""A Ray for Ray Data: the one that this process belongs to, or one of its own."""

from __future__ import annotations

import importlib
import logging
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from distkeras.errors import ConfigError, ResourceError, error_text

# For a CPU of the cluster that nobody holds: without one Ray Data waits for ever.
CPU_SECONDS = 60.0
POLL_SECONDS = 0.5
# For an answer from an address that the user gave.
REACH_SECONDS = 5.0


def ray_data() -> tuple[ModuleType, ModuleType]:
    """Returns the modules `ray` and `ray.data`.

    Raises:
        ConfigError: If they cannot be imported.
    """
    try:
        return importlib.import_module("ray"), importlib.import_module("ray.data")
    except ImportError as error:
        raise ConfigError(
            f"Ray Data cannot be imported: {error_text(error)}",
            place="data.source.kind: ray_data",
            remedy='install it with: pip install "ray[data]"',
        ) from error


def start(ray: Any) -> None:
    """Connects to the cluster of RAY_ADDRESS, or starts a Ray of this machine, which ends with the process.

    A process that is connected already, as a worker of a cluster is, stays with what it has.

    Raises:
        ResourceError: If Ray does not start, or nobody answers at the address.
    """
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS", "local")
    is_own = address == "local"
    try:
        _require_answer(address)
        with _own_signals():
            ray.init(
                address=address,
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                logging_level=logging.ERROR,
            )
    except Exception as error:  # Ray raises what it ran into: connections, values, its processes' ends
        raise ResourceError(
            "Ray does not start." if is_own else "There is no Ray cluster at this address.",
            place="data.source.kind: ray_data" if is_own else f"RAY_ADDRESS: {address}",
            received=error_text(error),
            remedy="see /tmp/ray/session_latest/logs" if is_own else "start it there, or unset RAY_ADDRESS",
        ) from error


def _require_answer(address: str) -> None:
    """Ray itself tries for half a minute, and ends the process then."""
    host, _, port = address.rpartition(":")
    if host and "://" not in host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=REACH_SECONDS).close()


@contextmanager
def _own_signals() -> Generator[None]:
    """Gives the signals back that Ray takes over."""
    is_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if is_main else ()
    previous = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def wait_for_a_cpu(ray: Any) -> None:
    """Waits until some CPU of the cluster is held by nobody.

    Raises:
        ResourceError: If none is for a minute.
    """
    deadline = time.monotonic() + CPU_SECONDS
    while ray.available_resources().get("CPU", 0) < 1:
        if time.monotonic() > deadline:
            raise ResourceError(
                "No CPU of the Ray cluster is free, and Ray Data needs one to make the data.",
                place="data.source.kind: ray_data",
                received=f"{ray.cluster_resources().get('CPU', 0):g} CPUs, all of them held",
                remedy="use fewer topology.workers, or a larger cluster",
            )
        time.sleep(POLL_SECONDS)


@contextmanager
def kept_random_state() -> Generator[None]:
    """Gives Python's and NumPy's random state back as it was.

    Initial weights are drawn from it after the data is opened, and Ray draws too: not the same in a worker of a
    cluster as in a process that starts its own.
    """
    before, of_numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(of_numpy)


@contextmanager
def in_order(data: Any) -> Generator[None]:
    """Lets Ray Data keep the order of blocks, which else is the order in which tasks end."""
    context = data.DataContext.get_current()
    options, bars = context.execution_options, context.enable_progress_bars
    before = options.preserve_order
    options.preserve_order, context.enable_progress_bars = True, False
    try:
        yield
    finally:
        options.preserve_order, context.enable_progress_bars = before, bars
