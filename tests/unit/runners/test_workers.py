"""What a worker leaves behind when it fails, and what the process that started it makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from distkeras.errors import ConfigError, TrainingError
from distkeras.observability.run_directory import RunDirectory
from distkeras.runners.workers import WorkerTask, forget_errors, read_errors, work
from distkeras.topology import Worker

WORKER = Worker(("127.0.0.1:1", "127.0.0.1:2"), 1)


def diverges(task: WorkerTask, worker: Worker) -> None:
    raise TrainingError(
        "The loss is no longer a finite number.", place="step 9", received={"loss": float("nan")}
    )


def breaks(task: WorkerTask, worker: Worker) -> None:
    raise ZeroDivisionError("only here")


def loses_its_peer(task: WorkerTask, worker: Worker) -> None:
    raise RuntimeError("Collective ops is aborted by: Socket closed")


@pytest.fixture
def task(tmp_path: Path):
    RunDirectory(tmp_path).create()

    def task(name: str) -> WorkerTask:
        return WorkerTask(f"{__name__}:{name}", {}, str(tmp_path), "distkeras train", True, "tensorflow")

    return task


def test_an_error_of_ours_arrives_as_it_was_also_where_its_value_is_no_json(task, tmp_path) -> None:
    with pytest.raises(TrainingError):
        work(task("diverges"), WORKER)
    (found,) = read_errors(RunDirectory(tmp_path))
    assert (found.rank, found.is_expected, found.is_consequence) == (1, True, False)
    assert type(found.error) is TrainingError
    assert found.error.lines() == [
        "The loss is no longer a finite number.",
        "  where: step 9",
        "  received: {'loss': nan}",
    ]


def test_any_other_error_is_told_with_its_rank_and_traceback(task, tmp_path) -> None:
    with pytest.raises(ZeroDivisionError):
        work(task("breaks"), WORKER)
    (found,) = read_errors(RunDirectory(tmp_path))
    assert not found.is_expected
    assert found.error.problem == "A worker failed: ZeroDivisionError: only here"
    assert found.error.place == "rank 1"
    assert "in breaks" in found.error.__notes__[0]


def test_the_loss_of_a_peer_is_a_consequence(task, tmp_path) -> None:
    with pytest.raises(RuntimeError):
        work(task("loses_its_peer"), WORKER)
    (found,) = read_errors(RunDirectory(tmp_path))
    assert found.is_consequence


def test_a_new_attempt_forgets_errors_of_the_last(task, tmp_path) -> None:
    run = RunDirectory(tmp_path)
    with pytest.raises(ZeroDivisionError):
        work(task("breaks"), WORKER)
    forget_errors(run)
    assert read_errors(run) == []


def test_what_is_told_of_an_error_is_of_its_kind(task, tmp_path, monkeypatch) -> None:
    def refuses(task: WorkerTask, worker: Worker) -> None:
        raise ConfigError("wrong", remedy="right")

    monkeypatch.setitem(globals(), "refuses", refuses)
    with pytest.raises(ConfigError):
        work(task("refuses"), WORKER)
    (found,) = read_errors(RunDirectory(tmp_path))
    assert (type(found.error), found.error.exit_code, found.error.remedy) == (ConfigError, 2, "right")
