"""Worker processes are forked from one that has imported the engine: by whom, with what, and what ends with them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from distkeras.config.sections import TopologySection
from distkeras.observability.run_directory import RunDirectory
from distkeras.runners.failures import GroupError
from distkeras.runners.processes import run_processes
from distkeras.runners.workers import WorkerTask

DEEDS = """\
import os
import subprocess
import sys
from pathlib import Path


def tell(task, worker):
    known = "keras" in sys.modules
    Path(f"told-{worker.rank}").write_text(f"{os.getppid()} {os.environ['SAID']} {known}")
    print("this is for the log")


def start_another(task, worker):
    Path("another").write_text(str(subprocess.Popen(["sleep", "60"]).pid))


def stumble(task, worker):
    if worker.rank == 1:
        Path("stumbled").write_text(str(os.getpid()))
        raise SystemExit(9)
    subprocess.run(["sleep", "60"])
"""


def do(deed: str, folder: Path, workers: int = 1) -> RunDirectory:
    (folder / "deeds.py").write_text(DEEDS)
    directory = RunDirectory(folder / "run")
    directory.create()
    task = WorkerTask(f"deeds:{deed}", {}, str(directory.path), "", True, "tensorflow")
    run_processes(task, TopologySection(kind="processes", workers=workers, devices="cpu"), lambda: None)
    return directory


def test_groups_of_one_environment_are_forked_by_one_process_where_each_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    for name, said in ("first", "yes"), ("second", "yes"), ("third", "no"):
        (folder := tmp_path / name).mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setenv("SAID", said)
        directory = do("tell", folder, workers=2)
        told += [(folder / f"told-{rank}").read_text().split() for rank in range(2)]
        assert directory.log_path(1).read_text() == "this is for the log\n"
    servers, heard, known = zip(*told, strict=True)
    assert len({*servers[:4]}) == 1
    assert len({*servers}) == 2
    assert heard == ("yes",) * 4 + ("no",) * 2
    assert known == ("True",) * 6


def test_what_a_worker_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    do("start_another", tmp_path)
    wait_for(lambda: not is_running(int((tmp_path / "another").read_text())))


def test_no_worker_is_left_after_one_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GroupError) as raised:
        do("stumble", tmp_path, workers=2)
    assert [error.rank for error in raised.value.errors] == [1]
    assert not is_running(int((tmp_path / "stumbled").read_text()))
    wait_for(lambda: processes_in(tmp_path) == [os.getpid()])


def is_running(process: int) -> bool:
    """Whether a process lives; one that has ended, and that nobody asked about, does not."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def processes_in(folder: Path) -> list[int]:
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if link.readlink() == folder:
                found.append(int(link.parts[2]))
    return found


def wait_for(is_so: Callable[[], bool]) -> None:
    """Waits: who was killed ends a little later."""
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Whether the engine has looked for devices, which is where a GPU's own runtime would begin.
RUNS = {
    "tensorflow": (
        "from tensorflow.python.eager.context import context; "
        "print(context()._initialized or context()._physical_devices is not None)"
    ),
    "jax": "from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())",
}


@pytest.mark.parametrize("engine", RUNS)
def test_nothing_of_an_engine_runs_before_the_fork(run_python, engine: str) -> None:
    if engine == "jax" and find_spec("jax") is None:
        pytest.skip("JAX is not installed")
    preload = f"from distkeras.runners.worker_process import preload; preload('{engine}')"
    assert run_python("-c", f"{preload}; {RUNS[engine]}").stdout == "False\n"
