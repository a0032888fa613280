"""Ports that worker processes will listen on, chosen before they start."""

from __future__ import annotations

import random
import socket

# Below the ports that Linux gives to outgoing connections, so that none of those takes one in between.
_PORTS = range(20_000, 32_000)


def free_ports(count: int, host: str) -> list[int]:
    """Returns ports that nobody listens on. Held together until all are found, so that they differ."""
    with_ports: list[socket.socket] = []
    try:
        for port in random.sample(_PORTS, len(_PORTS)):
            if len(with_ports) == count:
                break
            candidate = socket.socket()
            try:
                candidate.bind((host, port))
            except OSError:
                candidate.close()
                continue
            with_ports.append(candidate)
        return [one.getsockname()[1] for one in with_ports]
    finally:
        for one in with_ports:
            one.close()
