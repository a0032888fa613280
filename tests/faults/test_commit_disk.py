"""A disk that is full, read-only or not ours: said aloud, and nothing that was committed is lost."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from distkeras.checkpoint.arrays import dump_arrays
from distkeras.checkpoint.commit import commit, latest
from distkeras.checkpoint.writer import BackgroundWriter
from distkeras.errors import ResourceError

MEBIBYTE = 2**20
NOBODY = 65534


@contextmanager
def small_disk(folder: Path, options: str = "size=1m") -> Iterator[Path]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no right to mount a small disk: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def assert_intact(directory: Path, step: int) -> None:
    found = latest(directory)
    assert (found.commit.step, found.rejected) == (step, ())
    assert not list(directory.glob(".tmp-*"))


@pytest.mark.parametrize(
    "content",
    [
        bytes(2 * MEBIBYTE),
        partial(dump_arrays, {"kernel": np.zeros(2 * MEBIBYTE, np.uint8)}),
    ],
    ids=["bytes", "stream"],
)
def test_a_full_disk_is_said_with_path_needed_and_free_bytes(tmp_path, content):
    with small_disk(tmp_path) as disk:
        directory = disk / "checkpoints"
        commit(directory, 1, {"weights.npz": bytes(100_000)}, {}, keep=2)
        with pytest.raises(ResourceError, match="No space left on device") as caught:
            commit(directory, 2, {"state.json": b"{}", "weights.npz": content}, {}, keep=2)
        assert_intact(directory, 1)
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        words = caught.value.problem.replace(",", "").split()
        needed = int(words[words.index("needs") + 1])
        assert 2 * MEBIBYTE + 2 <= needed < 2 * MEBIBYTE + 2000
        assert words[-4:] == ["bytes", str(free), "are", "free."]
        assert caught.value.place == str(directory)
        assert "`checkpoint.keep`" in caught.value.remedy
        assert caught.value.exit_code == 4
        # Less fits, and goes through.
        commit(directory, 2, {"weights.npz": bytes(100_000)}, {}, keep=2)
        assert_intact(directory, 2)


def test_a_disk_without_room_for_a_directory(tmp_path):
    with (
        small_disk(tmp_path, "nr_inodes=1") as disk,
        pytest.raises(ResourceError, match="No space left on device: the checkpoint of step 1 needs 3 bytes"),
    ):
        commit(disk / "run" / "checkpoints", 1, {"a": b"abc"}, {}, keep=1)


def test_a_full_disk_surfaces_in_the_loop(tmp_path):
    with small_disk(tmp_path) as disk:
        commit(disk, 1, {"weights.npz": b"1"}, {}, keep=2)
        writer = BackgroundWriter(disk, keep=2)
        writer.submit(2, {"weights.npz": bytes(2 * MEBIBYTE)}, {})
        with pytest.raises(ResourceError, match="No space left on device"):
            writer.close()
        assert_intact(disk, 1)


def test_a_read_only_disk(tmp_path):
    with small_disk(tmp_path) as disk:
        commit(disk, 1, {"weights.npz": b"1"}, {}, keep=1)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(
            ResourceError, match=r"The checkpoint of step 2 could not be written: Read-only file system\."
        ) as caught:
            commit(disk, 2, {"weights.npz": b"2"}, {}, keep=1)
        assert caught.value.place == str(disk / ".tmp-000000000002-0")
        assert_intact(disk, 1)


@pytest.fixture
def foreign() -> Iterator[Path]:
    """A directory with one commit, in a process that may not write there (root is made nobody)."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        commit(directory, 1, {"weights.npz": b"1"}, {}, keep=1)
        directory.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(NOBODY)
        yield directory
        os.seteuid(user)
        directory.chmod(0o755)


def test_a_directory_that_is_not_ours(foreign):
    with pytest.raises(
        ResourceError, match=r"The checkpoint of step 2 could not be written: Permission denied\."
    ) as caught:
        commit(foreign, 2, {"weights.npz": b"2"}, {}, keep=1)
    assert "`output_dir`" in caught.value.remedy
    assert_intact(foreign, 1)


def test_a_file_where_the_directory_should_be(tmp_path):
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(ResourceError, match="could not be written: File exists"):
        commit(tmp_path / "checkpoints", 2, {"weights.npz": b"2"}, {}, keep=1)
    with pytest.raises(ResourceError, match=r"The checkpoints cannot be read: Not a directory\."):
        latest(tmp_path / "checkpoints")


def test_an_older_checkpoint_that_cannot_be_removed(foreign):
    os.seteuid(os.getuid())
    foreign.chmod(0o777)
    (foreign / "step-000000000001").chmod(0o555)
    if os.getuid() == 0:
        os.seteuid(NOBODY)
    with pytest.raises(
        ResourceError,
        match="The checkpoint of step 2 is committed, but an older one could not be removed: Permission",
    ) as caught:
        commit(foreign, 2, {"weights.npz": b"2"}, {}, keep=1)
    assert caught.value.place == str(foreign)
    assert latest(foreign).commit.step == 2
