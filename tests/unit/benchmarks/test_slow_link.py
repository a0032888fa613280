"""A link holds packets as long as it says, and lets connections take turns."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import slow_link

WHY_NOT = slow_link.why_not()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket, socket.socket, socket.socket]]:
    """Yields what writes to a direction, both its ends, and what reads from it; packets stay packets."""
    with_ends = [*socket.socketpair(type=socket.SOCK_DGRAM), *socket.socketpair(type=socket.SOCK_DGRAM)]
    for one in with_ends:
        one.setblocking(False)
    yield tuple(with_ends)  # type: ignore[misc]
    for one in with_ends:
        one.close()


def packet(port: int, content: bytes) -> bytes:
    """Returns something like a packet: the header's length, and the source's port where it stands."""
    return bytes(20) + port.to_bytes(2, "big") + bytes(18) + content


def test_connections_take_turns_and_keep_their_order(ends) -> None:
    sender, source, target, receiver = ends
    direction = slow_link.Direction(source.fileno(), target.fileno(), math.inf, 0.0)
    sent = [packet(1, b"a"), packet(1, b"b"), packet(1, b"c"), packet(2, b"d")]
    for one in sent:
        sender.send(one)
    direction.read()
    direction.forward()
    assert [receiver.recv(100) for _ in sent] == [sent[0], sent[3], sent[1], sent[2]]


def test_a_packet_comes_once_its_bytes_and_the_latency_have_passed(ends) -> None:
    sender, source, target, receiver = ends
    direction = slow_link.Direction(source.fileno(), target.fileno(), 1e3, 1000.0)
    for content in (b"a" * 60, b"b" * 160):
        sender.send(packet(1, content))
    before = time.monotonic()
    direction.read()
    after = time.monotonic()
    # The first is on its way for 100 bytes' time; the second waits until then.
    assert before + 0.1 <= direction.forward() <= after + 0.1
    with pytest.raises(BlockingIOError):
        receiver.recv(100)
    direction._free_at = before
    assert before + 1000.1 <= direction.forward() <= after + 1000.1


def test_a_closed_end_loses_what_is_sent(ends) -> None:
    sender, source, target, receiver = ends
    direction = slow_link.Direction(source.fileno(), target.fileno(), math.inf, 0.0)
    receiver.close()
    sender.send(packet(1, b"a"))
    direction.read()
    direction.forward()


@pytest.mark.skipif(WHY_NOT is not None, reason=f"no such link here: {WHY_NOT}")
def test_two_commands_meet_over_the_link() -> None:
    listens = (
        "import socket; c = socket.create_server(('10.0.0.1', 5000)).accept()[0]; print(c.recv(9).decode())"
    )
    calls = """
import socket, time
while True:
    try:
        socket.create_connection(("10.0.0.1", 5000), timeout=5).sendall(b"hello")
        break
    except OSError:
        time.sleep(0.05)
"""
    commands = [[sys.executable, "-c", code] for code in (listens, calls)]
    done = subprocess.run(slow_link.linked(1e8, 1e-4, commands), capture_output=True, text=True, timeout=60)
    assert done.stdout == "hello\n", done.stderr
    assert done.returncode == 0


@pytest.mark.skipif(WHY_NOT is not None, reason=f"no such link here: {WHY_NOT}")
def test_it_ends_as_the_first_command_does() -> None:
    commands = [
        [sys.executable, "-c", code] for code in ("raise SystemExit(3)", "import time; time.sleep(600)")
    ]
    assert subprocess.run(slow_link.linked(1e8, 1e-4, commands), timeout=60).returncode == 3


def test_a_machine_without_the_commands_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    assert slow_link.why_not() == "no unshare or no ip command"
