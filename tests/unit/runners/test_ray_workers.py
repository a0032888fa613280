"""Room on a Ray cluster, decided from what its nodes have; and an address where nobody answers."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from distkeras.config.sections import TopologySection
from distkeras.errors import ResourceError
from distkeras.observability.progress import Progress
from distkeras.observability.run_directory import RunDirectory
from distkeras.ray import membership
from distkeras.runners.ray_room import Group, capacity, choose_group, no_room, resources_of
from distkeras.runners.ray_workers import join_cluster, work_in_worker
from distkeras.runners.workers import WorkerTask, as_values, read_errors
from distkeras.topology import Worker

SMALL = {"CPU": 4.0, "memory": 8e9}
WITH_GPUS = {"CPU": 8.0, "memory": 16e9, "GPU": 2.0}


def section(**values: object) -> TopologySection:
    return TopologySection.model_validate({"kind": "ray", **values})


@pytest.mark.parametrize(
    ("placement", "expected"), [("PACK", 3), ("SPREAD", 3), ("STRICT_PACK", 2), ("STRICT_SPREAD", 2)]
)
def test_capacity_is_what_the_placement_allows(placement: str, expected: int) -> None:
    assert capacity([SMALL, WITH_GPUS], {"CPU": 4.0}, placement) == expected


def test_capacity_is_of_whole_nodes_not_of_the_sum() -> None:
    assert capacity([SMALL, SMALL], {"CPU": 6.0}, "PACK") == 0


def test_capacity_of_no_nodes_is_none() -> None:
    assert capacity([], {"CPU": 1.0}, "STRICT_PACK") == 0


@pytest.mark.parametrize(
    ("values", "nodes", "expected"),
    [
        ({"workers": 2}, [SMALL], {"CPU": 1.0}),
        ({"workers": 2}, [SMALL, WITH_GPUS], {"CPU": 1.0, "GPU": 1.0}),
        ({"workers": 3}, [SMALL, WITH_GPUS], {"CPU": 1.0}),
        ({"workers": 2, "devices": "cpu"}, [WITH_GPUS], {"CPU": 1.0}),
        ({"workers": 2, "devices": "gpu"}, [SMALL], {"CPU": 1.0, "GPU": 1.0}),
        ({"workers": 2, "resources_per_worker": {"CPU": 2.0}}, [WITH_GPUS], {"CPU": 2.0, "GPU": 1.0}),
    ],
)
def test_a_worker_holds_a_cpu_and_a_gpu_where_there_are_enough(values, nodes, expected) -> None:
    assert resources_of(section(**values), nodes) == expected


def test_a_fixed_number_of_workers_is_taken_whatever_the_batch() -> None:
    assert choose_group(section(workers=3), [SMALL], 64) == Group(3, {"CPU": 1.0})


@pytest.mark.parametrize(
    ("nodes", "batch", "expected"), [([SMALL], 64, 4), ([{"CPU": 3.0}], 64, 2), ([{"CPU": 3.0}], 66, 3)]
)
def test_of_a_range_the_largest_that_divides_the_batch_is_taken(nodes, batch: int, expected: int) -> None:
    group = choose_group(section(workers=(1, 8)), nodes, batch)
    assert group is not None
    assert group.num_workers == expected


def test_no_group_where_there_is_no_room() -> None:
    assert choose_group(section(workers=5), [SMALL], 64) is None
    assert choose_group(section(workers=(5, 8)), [SMALL], 64) is None


def test_a_range_without_a_divisor_is_refused() -> None:
    with pytest.raises(ResourceError, match=r"No number of workers from 3 to 3|from 5 to 7 divides"):
        choose_group(section(workers=(5, 7)), [SMALL], 64)


@pytest.mark.parametrize(
    ("values", "problem", "remedy"),
    [
        ({"workers": 64}, "room for 4 of 64 workers with 1 CPU each", "use topology.workers: 4"),
        (
            {"workers": 1, "devices": "gpu"},
            "room for 0 of 1 workers with 1 CPU, 1 GPU",
            "topology.devices: cpu",
        ),
        (
            {"workers": 2, "resources_per_worker": {"memory": 32e9}},
            "room for 0 of 2 workers with 1 CPU, 32.0e9 memory each",
            "ask for less memory in topology.resources_per_worker",
        ),
    ],
)
def test_a_request_that_cannot_be_met_says_what_is_asked_and_what_there_is(values, problem, remedy) -> None:
    error = no_room(section(**values), [SMALL])
    assert problem in error.problem
    assert remedy in str(error.remedy)
    assert "4 CPU" in str(error.received)


def test_an_address_where_nobody_answers_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ResourceError, match="There is no Ray cluster at this address"):
        join_cluster(Progress(io.StringIO(), quiet=True))


def stumble(task: WorkerTask, worker: Worker) -> None:
    """What a worker does in the test below."""
    del task, worker
    raise ZeroDivisionError("here")


def test_ray_is_handed_no_error_that_only_an_engine_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership._membership, "worker", Worker(("127.0.0.1:1",), 0))
    monkeypatch.chdir(tmp_path)
    directory = RunDirectory(tmp_path)
    directory.create()
    task = WorkerTask(f"{__name__}:stumble", {}, str(tmp_path), "", True, "tensorflow")
    with pytest.raises(RuntimeError, match="ZeroDivisionError: here") as raised:
        work_in_worker({"values": as_values(task, Worker((), 0)), "folder": str(tmp_path)})
    assert type(raised.value) is RuntimeError
    assert [error.error.problem for error in read_errors(directory)] == [
        "A worker failed: ZeroDivisionError: here"
    ]
