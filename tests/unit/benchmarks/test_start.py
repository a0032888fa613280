"""C10: a cold start is one after the files of Python and its packages were dropped."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

import pytest

import distkeras

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import c10_start

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system has no posix_fadvise")


def test_the_files_of_python_its_packages_and_distkeras_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {
        tmp_path / name for name in ("lib/os.py", "packages/keras/src/layer.py", "packages/tensorflow.so")
    }
    for path in made:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    folders = {"stdlib": "lib", "platstdlib": "lib", "purelib": "packages", "platlib": "packages"}
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / folders[name]))
    files = set(c10_start.installed_files())
    assert files - made == {path for path in Path(distkeras.__file__).parent.rglob("*") if path.is_file()}
    assert made <= files


def test_files_are_dropped_before_the_clock_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    file = tmp_path / "module.py"
    file.touch()

    def advise(descriptor: int, offset: int, length: int, advice: int) -> None:
        assert (offset, length, advice) == (0, 0, os.POSIX_FADV_DONTNEED)
        happened.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    def measure() -> dict[str, float]:
        happened.append("measured")
        return {"seconds": 1.0}

    monkeypatch.setattr(c10_start, "installed_files", lambda: [file])
    monkeypatch.setattr(os, "posix_fadvise", advise)
    assert c10_start.cold(measure) == {"seconds": 1.0}
    assert happened == [str(file), "measured"]
