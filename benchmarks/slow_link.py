"""A link between two commands whose bandwidth and latency are known, because this program is the link.

    unshare --net --map-root-user python benchmarks/slow_link.py BANDWIDTH LATENCY COMMAND COMMAND

Each command, as a JSON list, has a network of its own that holds nothing but one end of the link: the first is
10.0.0.1, the second 10.0.0.2, and no one else on the machine notices. Packets go from end to end through this process,
which holds each as long as a link of so many bytes a second and so many seconds would. Both directions have the
bandwidth for themselves, and connections take turns, as they do behind a network card under Linux (fq_codel): else a
short request would wait behind all that another connection sends.

Why not `tc`: not every kernel has netem, tbf knows no latency, and on `lo` the two directions share one queue.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import itertools
import json
import os
import select
import shutil
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

HOSTS = ("10.0.0.1", "10.0.0.2")
_MTU = 65000
# Linux's default lets a connection begin with less than two such packets on their way.
_BUFFERS = "4096 4194304 33554432"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x1, 0x1000
_PR_SET_TIMERSLACK = 29


def why_not() -> str | None:
    """Returns why there can be no such link on this machine; None if there can."""
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return "no unshare or no ip command"
    make = ["ip", "tuntap", "add", "dev", "link0", "mode", "tun"]
    done = subprocess.run(["unshare", "--net", "--map-root-user", *make], capture_output=True, text=True)
    return done.stderr.strip() or f"unshare ended with {done.returncode}" if done.returncode else None


def linked(bandwidth: float, latency: float, commands: Sequence[Sequence[str]]) -> list[str]:
    """Returns the command that runs two commands with a link between them and ends when the first of them does.

    Args:
        bandwidth: Bytes a second, in each direction.
        latency: Seconds from one end to the other.
        commands: The two.
    """
    arguments = [repr(bandwidth), repr(latency), *map(json.dumps, commands)]
    return ["unshare", "--net", "--map-root-user", sys.executable, __file__, *arguments]


class Direction:
    """Packets that go from one end to the other.

    Args:
        source: The end that they are read from.
        target: The end that they are written to.
        bandwidth: Bytes a second.
        latency: Seconds.
    """

    def __init__(self, source: int, target: int, bandwidth: float, latency: float) -> None:
        self.source, self._target = source, target
        self._bandwidth, self._latency = bandwidth, latency
        self._waiting: dict[bytes, deque[tuple[float, bytes]]] = {}
        self._free_at = 0.0
        self._on_their_way: list[tuple[float, int, bytes]] = []
        self._count = itertools.count()

    def read(self) -> None:
        """Takes what has come since."""
        while True:
            try:
                packet = os.read(self.source, _MTU + 100)
            except OSError:  # nothing more, or the command at this end has gone, and its network with it
                return
            connection = packet[9:10] + packet[12:24]  # protocol, addresses and ports
            self._waiting.setdefault(connection, deque()).append((time.monotonic(), packet))

    def forward(self) -> float:
        """Sends and delivers what is due, and returns when something is due again."""
        now = time.monotonic()
        while self._waiting and self._free_at <= now:
            connection = next(iter(self._waiting))
            queue = self._waiting.pop(connection)
            arrived, packet = queue.popleft()
            if queue:
                self._waiting[connection] = queue  # behind the others
            self._free_at = max(self._free_at, arrived) + len(packet) / self._bandwidth
            heapq.heappush(self._on_their_way, (self._free_at + self._latency, next(self._count), packet))
        while self._on_their_way and self._on_their_way[0][0] <= now:
            with suppress(OSError):  # an end that is not up yet, or has gone
                os.write(self._target, heapq.heappop(self._on_their_way)[2])
        due = [self._free_at] if self._waiting else []
        return min([*due, *(entry[0] for entry in self._on_their_way[:1])], default=now + 1)


def _relay(ends: tuple[int, int], bandwidth: float, latency: float, is_over: Callable[[], bool]) -> None:
    directions = [Direction(*pair, bandwidth, latency) for pair in (ends, ends[::-1])]
    check_at = 0.0
    while True:
        if time.monotonic() >= check_at:
            if is_over():
                return
            check_at = time.monotonic() + 0.2
        due = min(check_at, *(direction.forward() for direction in directions))
        ready = select.select(ends, [], [], max(0.0, due - time.monotonic()))[0]
        for direction in directions:
            if direction.source in ready:
                direction.read()


def _end_of_link(name: str) -> int:
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
    return end


def _started(command: Sequence[str], name: str, address: str) -> subprocess.Popen[bytes]:
    """Starts a command in a network of its own, which gets one end of the link."""
    script = f"""
        read has_come; ip link set lo up && ip address add {address}/24 dev {name} &&
        ip link set {name} mtu {_MTU} txqueuelen 1000 up && echo {_BUFFERS} > /proc/sys/net/ipv4/tcp_rmem &&
        exec nice -n 5 "$@"
    """
    process = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", script, "sh", *command], stdin=subprocess.PIPE
    )
    mine, its = Path("/proc/self/ns/net"), Path(f"/proc/{process.pid}/ns/net")
    while its.readlink() == mine.readlink():
        time.sleep(0.01)
    subprocess.run(["ip", "link", "set", name, "netns", str(process.pid)], check=True)
    if process.stdin:
        process.stdin.close()  # which ends the script's waiting
    return process


def main() -> None:
    """Runs the two commands.

    Raises:
        SystemExit: With what the first command ended with.
    """
    bandwidth, latency, *commands = map(json.loads, sys.argv[1:])
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1000, 0, 0, 0)  # nanoseconds; 50 us by default
    names = ("link0", "link1")
    ends = (_end_of_link(names[0]), _end_of_link(names[1]))
    processes = [_started(*each) for each in zip(commands, names, HOSTS, strict=True)]
    try:
        _relay(ends, bandwidth, latency, lambda: processes[0].poll() is not None)
    finally:
        for process in processes:
            process.terminate()
            process.wait()
    raise SystemExit(processes[0].returncode)


if __name__ == "__main__":
    main()
