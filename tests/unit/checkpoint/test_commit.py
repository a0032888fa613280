from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from distkeras.checkpoint.commit import commit, latest, remove_leftovers
from distkeras.errors import CheckpointError, ConfigError, ResourceError


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def problem_of(call: Callable[[], object]) -> str | None:
    try:
        call()
    except ResourceError as error:
        return error.problem
    return None


def test_nothing_was_ever_committed(tmp_path):
    assert latest(tmp_path) is None
    assert latest(tmp_path / "missing") is None


def test_what_is_committed_comes_back(tmp_path):
    directory = tmp_path / "run" / "checkpoints"

    def write(stream):
        assert stream.write(b"one ") == 4
        stream.flush()
        stream.write(memoryview(b"two"))
        stream.close()

    path = commit(directory, 12, {"a.bin": write, "b.bin": b"bytes"}, {"epoch": 2, "seeds": (1, 2)}, keep=2)
    found = latest(directory)
    assert path == found.commit.path == directory / "step-000000000012"
    assert found.commit.step == 12
    assert found.commit.metadata == {"epoch": 2, "seeds": [1, 2]}
    assert found.commit.read("a.bin") == b"one two"
    assert found.commit.file("b.bin") == path / "b.bin"
    assert found.rejected == ()
    assert names(path) == ["a.bin", "b.bin", "manifest.json"]


def test_a_file_that_the_commit_does_not_have(tmp_path):
    commit(tmp_path, 3, {"a": b""}, {}, keep=1)
    with pytest.raises(CheckpointError, match=r"The checkpoint of step 3 has no file '\.\./b'\.") as caught:
        latest(tmp_path).commit.read("../b")
    assert caught.value.received == ["a"]


def test_each_commit_names_its_parent(tmp_path):
    parents = []
    for step in (3, 5, 5, 9):
        commit(tmp_path, step, {}, {}, keep=3)
        parents.append(latest(tmp_path).commit.manifest.parent)
    assert parents == [None, 3, 3, 5]


def test_the_newest_are_kept(tmp_path):
    for step in (1, 2, 3, 10):
        commit(tmp_path, step, {"a": b"1"}, {}, keep=2)
    assert names(tmp_path) == ["step-000000000003", "step-000000000010"]
    commit(tmp_path, 11, {"a": b"1"}, {}, keep=1)
    assert names(tmp_path) == ["step-000000000011"]


def test_a_torn_checkpoint_does_not_count_as_kept(tmp_path):
    for step in (1, 2):
        commit(tmp_path, step, {"a": b"whole"}, {}, keep=2)
    (tmp_path / "step-000000000002" / "a").write_bytes(b"torn")
    commit(tmp_path, 3, {"a": b"whole"}, {}, keep=2)
    assert names(tmp_path) == ["step-000000000001", "step-000000000003"]


def test_a_damaged_later_step_never_costs_the_last_good_one(tmp_path):
    for step in (1, 9):
        commit(tmp_path, step, {"a": b"whole"}, {}, keep=2)
    (tmp_path / "step-000000000009" / "a").write_bytes(b"torn")
    commit(tmp_path, 5, {"a": b"whole"}, {}, keep=1)
    assert names(tmp_path) == ["step-000000000005", "step-000000000009"]
    assert latest(tmp_path).commit.step == 5


def test_the_same_step_again_replaces_the_first(tmp_path):
    for attempt in range(12):
        path = commit(tmp_path, 4, {"a": b"1"}, {"attempt": attempt}, keep=3)
        assert latest(tmp_path).commit.metadata == {"attempt": attempt}
    assert names(tmp_path) == ["step-000000000004-11"] == [path.name]


def test_leftovers_are_removed(tmp_path):
    commit(tmp_path, 1, {"a": b"1"}, {}, keep=1)
    shutil.copytree(tmp_path / "step-000000000001", tmp_path / ".tmp-000000000002-0")
    assert latest(tmp_path).commit.step == 1
    assert ".tmp-000000000002-0" in names(tmp_path)  # a reader leaves the work of a writer alone
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["step-000000000001"]
    remove_leftovers(tmp_path / "missing")


@pytest.mark.parametrize("error", [RuntimeError("a model's own error"), KeyboardInterrupt()])
def test_an_error_of_the_content_passes_and_leaves_nothing(tmp_path, error):
    def write(stream):
        stream.write(b"half")
        raise error

    commit(tmp_path, 1, {"a": b"1"}, {}, keep=1)
    with pytest.raises(type(error)):
        commit(tmp_path, 2, {"a": b"1", "b": write}, {}, keep=1)
    assert names(tmp_path) == ["step-000000000001"]


def test_an_error_without_a_number_is_said_in_its_own_words(tmp_path):
    def write(stream):
        raise OSError("the array is gone")

    with pytest.raises(ResourceError, match="of step 2 could not be written: the array is gone") as caught:
        commit(tmp_path, 2, {"a": write}, {}, keep=1)
    assert caught.value.place == str(tmp_path)


def test_every_operation_that_fails_is_said_and_loses_nothing(tmp_path, monkeypatch):
    """An input/output error cannot be had from a real disk: each operation in turn raises it."""
    calls = 0

    def failing(real, fail_at):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == fail_at:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return real(*args, **kwargs)

        return call

    outcomes = []
    for fail_at in range(1, 100):
        directory = tmp_path / str(fail_at)
        commit(directory, 1, {"a": b"1"}, {}, keep=1)
        calls = 0
        with monkeypatch.context() as patch:
            for name in ("mkdir", "open", "write", "fsync", "rename"):
                patch.setattr(os, name, failing(getattr(os, name), fail_at))
            problem = problem_of(partial(commit, directory, 2, {"a": b"2"}, {}, keep=1))
        if problem is None:
            break
        assert problem.endswith(": Input/output error.")
        outcomes.append("is committed, but" in problem)
        assert outcomes[-1] or not list(directory.glob(".tmp-*"))
        found = latest(directory)
        assert found.rejected == ()
        assert found.commit.step in ({2} if outcomes[-1] else {1, 2})
        commit(directory, 3, {"a": b"3"}, {}, keep=1)
        assert names(directory) == ["step-000000000003"]
    assert set(outcomes) == {False, True}
    assert len(outcomes) == calls


@pytest.mark.parametrize("keep", [0, -1])
def test_keep_must_be_positive(tmp_path, keep):
    with pytest.raises(ConfigError, match="At least one checkpoint must be kept") as caught:
        commit(tmp_path, 1, {}, {}, keep=keep)
    assert (caught.value.place, caught.value.received) == ("checkpoint.keep", keep)


@pytest.mark.parametrize("step", [-1, 10**12])
def test_a_step_out_of_range(tmp_path, step):
    with pytest.raises(CheckpointError, match="The step of a checkpoint must have at most 12 digits"):
        commit(tmp_path, step, {}, {}, keep=1)


@pytest.mark.parametrize("name", ["../a", "/a", "a/b", "manifest.json", "", ".hidden"])
def test_a_file_name_that_is_not_plain(tmp_path, name):
    with pytest.raises(CheckpointError, match="A file of a checkpoint must have a plain name") as caught:
        commit(tmp_path / "checkpoints", 1, {name: b""}, {}, keep=1)
    assert caught.value.received == name
    assert names(tmp_path) == []


def test_metadata_that_is_not_json_leaves_nothing(tmp_path):
    with pytest.raises(CheckpointError, match="The metadata of the checkpoint of step 1 cannot be written"):
        commit(tmp_path, 1, {"a": b"1"}, {"loss": float("nan")}, keep=1)
    assert names(tmp_path) == []


def test_other_files_are_left_alone(tmp_path):
    for name in ("notes.txt", "step-1", "step-000000000001.bak", "step-٠٠٠٠٠٠٠٠٠٠٠١"):
        (tmp_path / name).write_text("mine")
    commit(tmp_path, 2, {}, {}, keep=1)
    assert latest(tmp_path).rejected == ()
    assert len(names(tmp_path)) == 5


def test_the_protocol_needs_no_numerical_library():
    script = (
        "import sys, distkeras.checkpoint.commit, distkeras.checkpoint.writer\n"
        "print({'tensorflow', 'keras', 'ray', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout == "set()\n"


class Commits(RuleBasedStateMachine):
    """Any sequence of commits, damage and resumes: a reader finds the newest that is whole, or refuses."""

    @initialize(keep=st.integers(1, 3))
    def start(self, keep):
        self.keep = keep
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)  # noqa: S108
        self.directory = Path(self.folder.name)
        self.step = 0
        self.serial = 0
        self.whole: dict[int, int] = {}
        self.damaged: set[int] = set()

    @rule(advance=st.integers(0, 3))
    def commit(self, advance):
        self.step += advance
        self.serial += 1
        commit(self.directory, self.step, {"a": b"12345678"}, {"serial": self.serial}, keep=self.keep)
        self.whole[self.step] = self.serial
        self.damaged.discard(self.step)
        fallbacks = sorted((step for step in self.whole if step < self.step), reverse=True)[: self.keep - 1]
        for step in [step for step in self.whole if step < self.step and step not in fallbacks]:
            del self.whole[step]
        self.damaged = {step for step in self.damaged if step > self.step}

    @precondition(lambda self: self.whole)
    @rule(data=st.data())
    def damage(self, data):
        step = data.draw(st.sampled_from(sorted(self.whole)))
        (path,) = self.directory.glob(f"step-{step:012d}*")
        name = data.draw(st.sampled_from(["a", "manifest.json"]))
        (path / name).write_bytes((path / name).read_bytes()[:-1])
        del self.whole[step]
        self.damaged.add(step)

    @precondition(lambda self: self.whole)
    @rule()
    def resume(self):
        self.step = latest(self.directory).commit.step

    @invariant()
    def the_newest_whole_one_is_found(self):
        if self.whole:
            newest = max(self.whole)
            found = latest(self.directory)
            assert (found.commit.step, found.commit.metadata["serial"]) == (newest, self.whole[newest])
            assert len(found.rejected) == sum(step > newest for step in self.damaged)
        elif self.damaged:
            with pytest.raises(CheckpointError, match="none is whole"):
                latest(self.directory)
        else:
            assert latest(self.directory) is None

    @invariant()
    def nothing_else_is_kept(self):
        assert len(names(self.directory)) == len(self.whole) + len(self.damaged)

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestCommits = Commits.TestCase
TestCommits.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
