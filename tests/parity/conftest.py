"""The ladder: processes that train the chosen cases on every rung, and their results as they come in."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))  # pytest's importlib mode leaves test folders out; the workers see it anyway

from parity_cases import SEED, Case  # noqa: E402

WORKERS = "workers-2"
PROCESSES = ("2", "keras", "1", "4")  # two at a time; the first takes as long as the others together


def write_ids(case: Case, folder: Path) -> None:
    """Writes the ids of every step of a run, as the order contract gives them to one replica."""
    from parity_worker import source

    from distkeras.data.batches import BatchPlan, step_ids
    from distkeras.data.order import Shuffled

    examples = source(case, "train")
    plan = BatchPlan(case.num_examples, case.global_batch_size, case.remainder)
    order = Shuffled(case.num_examples, examples.fingerprint, SEED)
    steps = range(plan.steps_per_epoch * case.epochs)
    ids = {f"{step:05d}": step_ids(plan, order, step, 0, 1) for step in steps}
    np.savez(folder / f"{case.name}.npz", **ids)


class Ladder:
    """Results of the workers, by rung and case."""

    def __init__(self, folder: Path, pool: ThreadPoolExecutor, names: list[str]) -> None:
        self._folder = folder
        self._workers = {rungs: pool.submit(self._work, names, rungs) for rungs in PROCESSES}
        # Alone, after the others: they are two processes by themselves.
        self._workers["2@workers"] = pool.submit(self._meet, names)

    def _work(self, names: list[str], *group: str) -> str:
        """Runs processes side by side; returns what the first says."""
        script = [sys.executable, str(FOLDER / "parity_worker.py")]
        processes = [
            subprocess.Popen(
                [*script, rungs, str(self._folder), *names],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                cwd=FOLDER.parents[1],
            )
            for rungs in group
        ]
        with ThreadPoolExecutor() as readers:
            return next(readers.map(lambda process: process.communicate()[1], processes))

    def _meet(self, names: list[str]) -> str:
        from distkeras.distribution.ports import free_ports

        addresses = ",".join(f"127.0.0.1:{port}" for port in free_ports(2, "127.0.0.1"))
        return self._work(names, *(f"{WORKERS}:{rank}@{addresses}" for rank in range(2)))

    def result(self, rung: str, case: str) -> dict[str, np.ndarray]:
        """Waits for one case on one rung. Its error, or its worker's, fails the test."""
        path = self._folder / rung / f"{case}.npz"
        worker = self._workers["2@workers" if rung.startswith(WORKERS) else rung.rpartition("-")[2]]
        while not path.exists():
            self._raise_error(path.with_suffix(".error"), worker)
            time.sleep(0.05)
        with np.load(path) as arrays:
            return dict(arrays)

    def _raise_error(self, error: Path, worker: Future[str]) -> None:
        if error.exists():
            pytest.fail(f"{error.parent.name} did not train:\n{error.read_text()}", pytrace=False)
        if worker.done() and not error.with_suffix(".npz").exists():
            pytest.fail(
                f"the worker of {error.parent.name} ended early:\n{worker.result()[-4000:]}", pytrace=False
            )


@pytest.fixture(scope="session")
def ladder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ladder]:
    """Trains only the cases and probes that the chosen tests ask for."""
    folder = tmp_path_factory.mktemp("ladder")
    chosen = [item.callspec.params for item in request.session.items if "ladder" in fixtures_of(item)]
    cases = {params["case"].name: params["case"] for params in chosen if "case" in params}
    probes = {params["probe"] for params in chosen if "probe" in params}
    (folder / "ids").mkdir()
    for case in cases.values():
        write_ids(case, folder / "ids")
    with ThreadPoolExecutor(max_workers=2) as pool:
        # The probe of the deterministic mode comes last: TensorFlow does not leave that mode again.
        yield Ladder(
            folder, pool, [*cases, *sorted(probes, key=lambda name: (name == "deterministic", name))]
        )


def fixtures_of(item: pytest.Item) -> list[str]:
    return getattr(item, "fixturenames", [])
