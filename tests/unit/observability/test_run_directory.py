"""One run, one directory, one driver."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from distkeras.errors import ConfigError, ResourceError
from distkeras.observability.run_directory import RunDirectory, list_runs

HOLD = """
import sys, time
from pathlib import Path
from distkeras.observability.run_directory import RunDirectory
with RunDirectory(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    run = RunDirectory(tmp_path / "runs" / "digits")
    run.create()
    return run


@pytest.fixture
def holder(run):
    command = [sys.executable, "-c", HOLD, str(run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_layout(run):
    names = {
        "config_path": "config.resolved.yaml",
        "environment_path": "env.json",
        "metrics_path": "metrics.jsonl",
        "manifest_path": "manifest.json",
        "evaluation_path": "evaluation.json",
        "events": "events",
        "checkpoints": "checkpoints",
        "weights": "weights",
        "logs": "logs",
        "report_path": "report.html",
        "report_markdown_path": "report.md",
    }
    assert {key: getattr(run, key) for key in names} == {key: run.path / name for key, name in names.items()}
    assert run.log_path(3) == run.path / "logs" / "rank-3.log"
    assert run.events.is_dir()
    assert run.checkpoints.is_dir()
    assert run.logs.is_dir()
    run.create()


def test_manifest_is_updated_in_part(run):
    assert not run.exists()
    run.write_manifest({"status": "running", "step": 0})
    assert run.update_manifest(step=5) == {"status": "running", "step": 5}
    assert run.read_manifest() == {"status": "running", "step": 5}
    assert run.exists()


def test_environment_and_evaluation_may_be_missing(run):
    assert run.read_environment() is None
    assert run.read_evaluation() is None
    run.write_environment({"python": "3.11"})
    run.write_evaluation({"split": "test"})
    assert run.read_environment() == {"python": "3.11"}
    assert run.read_evaluation() == {"split": "test"}


def test_metrics_are_read_and_truncated(run):
    run.metrics_path.write_text('{"step": 1}\n{"step": 2}\n')
    run.truncate_metrics(1)
    assert run.read_metrics() == [{"step": 1}]


def test_a_directory_without_a_run(tmp_path):
    with pytest.raises(ConfigError, match="There is no run in this directory") as caught:
        RunDirectory(tmp_path).read_manifest()
    assert caught.value.place == str(tmp_path)
    assert "distkeras runs list" in caught.value.remedy


def test_a_file_where_the_run_should_be(tmp_path):
    (tmp_path / "digits").write_text("")
    with pytest.raises(
        ResourceError, match="A file is in the way: could not create the run directory"
    ) as caught:
        RunDirectory(tmp_path / "digits").create()
    assert caught.value.place == str(tmp_path / "digits")


def test_a_second_live_driver_is_refused_by_the_pid_of_the_first(run, holder):
    with pytest.raises(ResourceError, match=f"in use by process {holder.pid}") as caught, run.locked():
        pass
    assert caught.value.place == str(run.path)
    assert "give this run another `name`" in caught.value.remedy


def test_a_killed_driver_leaves_no_lock(run, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with run.locked():
        assert (run.path / ".lock").read_text() == f"{os.getpid()}\n"


def test_the_lock_is_given_back_after_an_error_and_holds_within_one_process(run):
    def fail():
        with run.locked():
            with pytest.raises(ResourceError, match=f"in use by process {os.getpid()}"), run.locked():
                pass
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    with run.locked():
        pass


def test_a_holder_that_has_not_said_its_pid_yet(run):
    with run.locked():
        (run.path / ".lock").write_text("")
        with pytest.raises(ResourceError, match="in use by another process"), run.locked():
            pass


def test_the_lock_of_a_directory_that_is_not_there(tmp_path):
    with (
        pytest.raises(ResourceError, match="Could not lock the run directory: No such file"),
        RunDirectory(tmp_path / "gone").locked(),
    ):
        pass


def test_list_runs(tmp_path):
    assert list_runs(tmp_path / "none") == []
    for name in ("b", "a", "empty"):
        RunDirectory(tmp_path / name).create()
    for name in ("a", "b"):
        RunDirectory(tmp_path / name).write_manifest({"name": name})
    (tmp_path / "note.txt").write_text("")
    assert list_runs(tmp_path) == [RunDirectory(tmp_path / "a"), RunDirectory(tmp_path / "b")]


def test_list_runs_of_a_file(tmp_path):
    path = tmp_path / "runs"
    path.write_text("")
    with pytest.raises(ResourceError, match="A file is in the way: could not list the runs"):
        list_runs(Path(path))
