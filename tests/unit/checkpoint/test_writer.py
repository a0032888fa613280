from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distkeras.checkpoint.commit import latest
from distkeras.checkpoint.writer import BackgroundWriter
from distkeras.errors import CheckpointError

ROOT = Path(__file__).parents[3]
BAD = {"loss": float("nan")}


class Gate:
    """Content that is not written before it is opened."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.opened = threading.Event()

    def __call__(self, stream) -> None:
        self.started.set()
        assert self.opened.wait(60)
        stream.write(b"late")


def wait_for_the_thread() -> None:
    for thread in threading.enumerate():
        if thread.name == "checkpoint-writer":
            thread.join(60)


def test_a_commit_runs_beside_the_loop(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="distkeras.checkpoint")
    gate = Gate()
    writer = BackgroundWriter(tmp_path, keep=2)
    writer.submit(1, {"a": gate}, {"epoch": 1})
    assert gate.started.wait(60)
    writer.raise_pending()
    assert latest(tmp_path) is None
    gate.opened.set()
    writer.close()
    assert latest(tmp_path).commit.read("a") == b"late"
    assert f"Committed the checkpoint of step 1 in {tmp_path}/step-000000000001." in caplog.messages


def test_submit_waits_for_the_commit_before(tmp_path):
    gate = Gate()
    writer = BackgroundWriter(tmp_path, keep=3)
    writer.submit(1, {"a": gate}, {})
    assert gate.started.wait(60)
    threading.Timer(0.05, gate.opened.set).start()
    writer.submit(2, {"a": b"2"}, {})
    assert latest(tmp_path).commit.step in {1, 2}
    assert (tmp_path / "step-000000000001").is_dir()
    writer.close()
    assert latest(tmp_path).commit.step == 2


@pytest.mark.parametrize("surface", ["raise_pending", "close", "submit"])
def test_an_error_surfaces_once(tmp_path, surface):
    writer = BackgroundWriter(tmp_path, keep=1)
    writer.submit(1, {}, BAD)
    wait_for_the_thread()
    arguments = (2, {}, {}) if surface == "submit" else ()
    with pytest.raises(CheckpointError, match="The metadata of the checkpoint of step 1 cannot be written"):
        getattr(writer, surface)(*arguments)
    assert latest(tmp_path) is None
    writer.raise_pending()
    writer.submit(3, {}, {})
    writer.close()
    writer.close()
    assert latest(tmp_path).commit.step == 3


def test_an_interrupt_inside_the_thread_is_not_lost(tmp_path):
    def write(stream):
        raise SystemExit(3)

    writer = BackgroundWriter(tmp_path, keep=1)
    writer.submit(1, {"a": write}, {})
    with pytest.raises(SystemExit):
        writer.close()


def test_the_context_waits_at_its_end(tmp_path):
    with BackgroundWriter(tmp_path, keep=1) as writer:
        writer.submit(1, {"a": b"1"}, {})
    assert latest(tmp_path).commit.step == 1


def loop(directory: Path, metadata: dict, error: Exception | None = None) -> None:
    with BackgroundWriter(directory, keep=1) as writer:
        writer.submit(1, {"a": b"1"}, metadata)
        if error is not None:
            raise error


def test_the_context_raises_the_error_of_the_last_commit(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be written as JSON"):
        loop(tmp_path, BAD)


def test_the_error_of_the_loop_comes_first_and_takes_the_other_along(tmp_path, caplog):
    with pytest.raises(RuntimeError, match="the loop") as caught:
        loop(tmp_path, BAD, RuntimeError("the loop"))
    (note,) = caught.value.__notes__
    assert note.startswith("Besides, the last checkpoint was not committed: The metadata of the checkpoint")
    assert any("The last checkpoint was not committed: " in message for message in caplog.messages)


def test_the_error_of_the_loop_waits_for_the_commit(tmp_path):
    with pytest.raises(RuntimeError, match="the loop"):
        loop(tmp_path, {}, RuntimeError("the loop"))
    assert latest(tmp_path).commit.step == 1


@contextmanager
def started(script: str, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    head = (
        "import os, sys, threading; from pathlib import Path\n"
        "from distkeras.checkpoint.writer import BackgroundWriter\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", head + script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_an_interrupt_in_submit_still_waits_for_the_commit(tmp_path):
    script = (
        "def slow(stream):\n"
        "    os.write(1, b'writes\\n')\n"
        "    sys.stdin.readline()\n"
        "class Loud(BackgroundWriter):\n"
        "    def close(self):\n"
        "        os.write(1, b'waits\\n')\n"
        "        super().close()\n"
        "with Loud(Path(sys.argv[1]), keep=1) as writer:\n"
        "    writer.submit(1, {'a': slow}, {})\n"
        "    writer.submit(2, {}, {})\n"
    )
    with started(script, tmp_path) as process:
        lines = [process.stdout.readline() for _ in range(3)]
        assert sorted(lines) == [b"waits\n", b"waits\n", b"writes\n"]
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"waits\n"
        _, errors = process.communicate(b"go on\n", timeout=60)
    assert b"KeyboardInterrupt" in errors
    assert latest(tmp_path).commit.step == 1


def test_a_second_interrupt_ends_the_process_while_a_commit_hangs(tmp_path):
    script = (
        "def hang(stream):\n"
        "    print('hangs', flush=True)\n"
        "    threading.Event().wait()\n"
        "with BackgroundWriter(Path(sys.argv[1]), keep=1) as writer:\n"
        "    writer.submit(1, {'a': hang}, {})\n"
        "    threading.Event().wait()\n"
    )
    with started(script, tmp_path) as process:
        assert process.stdout.readline() == b"hangs\n"
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in errors
    assert latest(tmp_path) is None
