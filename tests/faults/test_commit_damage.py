"""A checkpoint that is torn, flipped or incomplete is never loaded; the one before it is."""

from __future__ import annotations

import shutil

import pytest

from distkeras.checkpoint.commit import commit, latest
from distkeras.errors import CheckpointError

FILES = {"weights.npz": bytes(range(256)) * 2, "state.json": b'{"epoch": 3}', "empty": b""}
NOT_EMPTY = ("weights.npz", "state.json", "manifest.json")


@pytest.fixture
def directory(tmp_path):
    for step in (1, 2):
        commit(tmp_path, step, FILES, {"step": step, "note": "caf\u00e9 \x7f"}, keep=2)
    return tmp_path


def newest(directory):
    return directory / "step-000000000002"


def rejected_file(directory):
    found = latest(directory)
    assert found.commit.step == 1
    (rejected,) = found.rejected
    assert str(rejected).startswith(str(newest(directory)))
    return rejected


@pytest.mark.parametrize("name", NOT_EMPTY)
def test_a_flip_of_any_byte_is_found(directory, name):
    path = newest(directory) / name
    whole = path.read_bytes()
    for position in range(len(whole)):
        for bit in (position % 8, 5):  # bit 5 is the case of a letter, which JSON and hexadecimals forgive
            flipped = bytearray(whole)
            flipped[position] ^= 1 << bit
            path.write_bytes(flipped)
            assert rejected_file(directory).path == path, f"byte {position}, bit {bit}"


@pytest.mark.parametrize("name", [*NOT_EMPTY, "empty"])
def test_another_length_is_found(directory, name):
    path = newest(directory) / name
    whole = path.read_bytes()
    for torn in {whole[:0], whole[: len(whole) // 2], whole[:-1], whole + b"\n"} - {whole}:
        path.write_bytes(torn)
        assert rejected_file(directory).path == path


@pytest.mark.parametrize("name", [*NOT_EMPTY, "empty"])
def test_a_missing_file_is_found(directory, name):
    (newest(directory) / name).unlink()
    rejected = rejected_file(directory)
    assert rejected.path == newest(directory) / name
    assert rejected.reason == "cannot be read: No such file or directory"


def test_a_link_is_not_followed(directory, tmp_path):
    path = newest(directory) / "state.json"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert rejected_file(directory).reason == "is not a regular file"


def test_a_checkpoint_under_the_name_of_another_step_is_found(directory):
    shutil.rmtree(newest(directory))
    shutil.copytree(directory / "step-000000000001", newest(directory))
    assert rejected_file(directory).reason == "is the manifest of step 1"


def test_a_commit_that_is_a_file_is_found(directory):
    shutil.rmtree(newest(directory))
    newest(directory).write_text("not a directory")
    assert rejected_file(directory).reason == "cannot be read: Not a directory"


def test_the_reasons_say_what_is_wrong(directory):
    weights = newest(directory) / "weights.npz"
    weights.write_bytes(bytes(512))
    assert rejected_file(directory).reason == "does not match the SHA-256 it was committed with"
    weights.write_bytes(bytes(500))
    assert rejected_file(directory).reason == "has 500 bytes; 512 were committed"


def test_none_whole_is_refused_and_each_one_listed(directory):
    (directory / "step-000000000001" / "weights.npz").write_bytes(b"torn")
    (newest(directory) / "manifest.json").write_bytes(b"")
    with pytest.raises(CheckpointError, match="There are checkpoints, but none is whole:") as caught:
        latest(directory)
    first, second, third = caught.value.problem.splitlines()
    assert first.endswith(":")
    assert second == f"  {newest(directory)}/manifest.json is not JSON"
    assert third == f"  {directory}/step-000000000001/weights.npz has 4 bytes; 512 were committed"
    assert caught.value.place == str(directory)
    assert caught.value.exit_code == 5


def test_a_damaged_step_is_committed_again(directory):
    (newest(directory) / "weights.npz").write_bytes(b"torn")
    commit(directory, 2, FILES, {"again": True}, keep=2)
    found = latest(directory)
    assert (found.commit.step, found.commit.metadata, found.rejected) == (2, {"again": True}, ())
    assert sorted(path.name for path in directory.iterdir()) == ["step-000000000001", "step-000000000002-1"]
