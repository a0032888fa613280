"""What a person sees on a terminal, narrow and wide."""

import fcntl
import os
import pty
import re
import struct
import sys
import termios

import pytest

CONFIG = """\
task: {kind: tabular_regression}
data:
  source: {kind: synthetic, num_examples: 400, shape: [8], num_classes: null}
  split: {method: random}
model: {builder: mlp}
training: {epochs: 3, global_batch_size: 20}
"""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_terminal(folder, width, *arguments):
    """Runs the command on a pseudo terminal; returns its code and everything that reached the screen."""
    pid, descriptor = pty.fork()
    if pid == 0:
        os.chdir(folder)
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        os.execv(sys.executable, [sys.executable, "-m", "distkeras", *arguments])  # noqa: S606 (a pseudo terminal needs fork and exec)
    screen = b""
    try:
        while chunk := os.read(descriptor, 65536):
            screen += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(descriptor)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), screen.decode()


@pytest.mark.parametrize("width", [60, 120])
def test_progress_is_one_line_that_never_wraps(tmp_path, width):
    (tmp_path / "numbers.yaml").write_text(CONFIG)
    code, screen = on_terminal(tmp_path, width, "train", "--config", "numbers.yaml")
    assert code == 0, screen
    frames = [frame for frame in re.split(r"[\r\n]+", ESCAPES.sub("", screen)) if frame]
    drawn = [frame for frame in frames if frame.startswith("epoch ")]
    assert [frame.split("  ")[0] for frame in drawn][:3] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert max(map(len, drawn)) < width
    results = frames[frames.index("numbers: completed, 42 steps") :]
    assert max(map(len, results)) <= 80
    # The last frame stays where it is: what follows stands below it.
    assert frames.index(drawn[-1]) < frames.index("testing on 60 examples")
    assert screen.count("\x1b[?25l") == screen.count("\x1b[?25h")  # the cursor is given back
