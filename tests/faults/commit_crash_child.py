"""Commits a checkpoint in child processes that die before their n-th file operation, for each n.

Usage: commit_crash_child.py ROOT kill|power

It leaves the directory `ROOT/<scenario>/<n>/checkpoints` for each crash point n, and prints the number of
crash points of each scenario as JSON. The last directory of a scenario is of a commit that ran to its end.

`kill` ends the process as SIGKILL does. `power` also loses what no fsync has put on the disk: files that were
not synced are cut in half, entries of directories that were not synced disappear, renames are undone.
"""

import itertools
import json
import os
import shutil
import sys
from pathlib import Path

from distkeras.checkpoint.commit import commit

CRASHED = 70
OPERATIONS = ("mkdir", "open", "write", "fsync", "rename", "unlink", "rmdir")


def content(step: int, version: str) -> dict:
    text = f"weights of step {step} {version} ".encode() * 50

    def write(stream):
        stream.write(text[:100])
        stream.write(text[100:])

    return {"weights.npz": write, "state.json": json.dumps({"step": step, "version": version}).encode()}


def save(directory: Path, step: int, version: str = "a", keep: int = 2) -> None:
    commit(directory, step, content(step, version), {"step": step, "version": version}, keep=keep)


def nothing_yet(directory: Path) -> None:
    """The first commit of a run."""


def one_before(directory: Path) -> None:
    save(directory, 6)


def one_to_retire(directory: Path) -> None:
    save(directory, 5)
    save(directory, 6)


def same_step(directory: Path) -> None:
    save(directory, 6)
    save(directory, 7, version="old")


def leftover(directory: Path) -> None:
    save(directory, 6)
    shutil.copytree(directory / "step-000000000006", directory / ".tmp-000000000007-0")


SCENARIOS = (nothing_yet, one_before, one_to_retire, same_step, leftover)


class Disk:
    """Wraps the file operations of `os`, and knows what is not on the disk yet."""

    def __init__(self, crash_at: int | None, power: bool) -> None:
        self.crash_at = crash_at
        self.power = power
        self.num_operations = 0
        self.paths: dict[int, str] = {}
        self.unsynced_files: set[str] = set()
        self.unsynced_entries: set[str] = set()
        self.unsynced_renames: list[tuple[str, str]] = []
        self.real = {name: getattr(os, name) for name in OPERATIONS}
        for name in OPERATIONS:
            setattr(os, name, getattr(self, name))

    def step(self) -> None:
        self.num_operations += 1
        if self.num_operations == self.crash_at:
            self.crash()

    def crash(self) -> None:
        if self.power:
            self.lose()
        os._exit(CRASHED)

    def lose(self) -> None:
        for name, function in self.real.items():
            setattr(os, name, function)
        for path in self.unsynced_files:
            os.truncate(path, os.path.getsize(path) // 2)
        for path in sorted(self.unsynced_entries, reverse=True):
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
        for source, target in reversed(self.unsynced_renames):
            if os.path.exists(target):
                os.rename(target, source)

    def mkdir(self, path, *args, **kwargs):
        self.step()
        self.real["mkdir"](path, *args, **kwargs)
        self.unsynced_entries.add(os.fspath(path))

    def open(self, path, flags, *args, **kwargs):
        self.step()
        descriptor = self.real["open"](path, flags, *args, **kwargs)
        self.paths[descriptor] = os.fspath(path)
        if flags & os.O_CREAT:
            self.unsynced_entries.add(os.fspath(path))
            self.unsynced_files.add(os.fspath(path))
        return descriptor

    def write(self, descriptor, data):
        if self.num_operations + 1 == self.crash_at:
            self.real["write"](descriptor, bytes(data)[: len(data) // 2])
        self.step()
        self.unsynced_files.add(self.paths[descriptor])
        # The system may take less than all: the caller has to go on.
        return self.real["write"](descriptor, bytes(data)[:-10] if len(data) > 10 else data)

    def fsync(self, descriptor):
        self.step()
        self.real["fsync"](descriptor)
        path = self.paths[descriptor]
        if os.path.isdir(path):
            self.unsynced_entries = {one for one in self.unsynced_entries if os.path.dirname(one) != path}
            self.unsynced_renames = [one for one in self.unsynced_renames if os.path.dirname(one[1]) != path]
        else:
            self.unsynced_files.discard(path)

    def rename(self, source, target, **kwargs):
        self.step()
        self.real["rename"](source, target, **kwargs)
        source, target = os.fspath(source), os.fspath(target)
        self.unsynced_renames.append((source, target))
        for known in (self.unsynced_files, self.unsynced_entries):
            moved = {path for path in known if path.startswith(source + "/")}
            known -= moved | {source}
            known |= {target + path.removeprefix(source) for path in moved}

    def unlink(self, path, **kwargs):
        self.step()
        self.real["unlink"](path, **kwargs)

    def rmdir(self, path, **kwargs):
        self.step()
        self.real["rmdir"](path, **kwargs)


def sweep(root: Path, prepare, power: bool) -> int:
    for crash_at in itertools.count(1):
        run = root / prepare.__name__ / f"{crash_at:03d}"
        run.mkdir(parents=True)
        prepare(run / "checkpoints")
        pid = os.fork()
        if pid == 0:
            disk = Disk(crash_at, power)
            save(run / "checkpoints", 7)
            if power:
                disk.lose()
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code == 0:
            return crash_at - 1
        if code != CRASHED:
            sys.exit(f"{prepare.__name__} ended with {code} at operation {crash_at}")
    raise AssertionError


if __name__ == "__main__":
    root, mode = Path(sys.argv[1]), sys.argv[2]
    print(json.dumps({prepare.__name__: sweep(root, prepare, mode == "power") for prepare in SCENARIOS}))
