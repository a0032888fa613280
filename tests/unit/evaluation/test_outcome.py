import json

import pytest

from distkeras.evaluation.outcome import read_outcome
from distkeras.observability.run_directory import RunDirectory

MANIFEST = {
    "format": 1,
    "name": "x",
    "identity": "0",
    "status": "interrupted",
    "epochs": 2,
    "error": "told to",
}
WARM_UP = {"examples_per_second": 5, "input_wait_ratio": 0.5, "step_milliseconds": 100, "warm_up": True}
MEASURED = {"examples_per_second": 100, "input_wait_ratio": 0.25, "step_milliseconds": 10}


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path)
    run.write_manifest(MANIFEST)
    return run


def write_rows(run, *throughputs):
    rows = [
        {"step": 10 * index, "epoch": 0, "kind": "train", "time": 1, "metrics": {}, **numbers}
        for index, numbers in enumerate(throughputs, start=1)
    ]
    run.metrics_path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_run_that_never_measured_has_gaps(run):
    outcome = read_outcome(run)
    assert (outcome.step, outcome.examples_per_second, outcome.input_wait_ratio) == (0, None, None)
    assert (outcome.status, outcome.error, outcome.report, outcome.metrics) == (
        "interrupted",
        "told to",
        None,
        {},
    )


def test_the_warm_up_does_not_count_beside_other_points(run):
    write_rows(run, WARM_UP, MEASURED)
    outcome = read_outcome(run)
    assert (outcome.step, outcome.examples_per_second, outcome.input_wait_ratio) == (20, 100, 0.25)


def test_a_lone_warm_up_is_better_than_nothing(run):
    write_rows(run, WARM_UP)
    assert read_outcome(run).examples_per_second == 5


def test_only_the_test_is_told_apart(run):
    run.write_evaluation({"split": "test", "metrics": {"test_loss": 0.5}})
    outcome = read_outcome(run)
    assert outcome.test_metrics == outcome.metrics == {"test_loss": 0.5}
    assert outcome.as_mapping()["run"] == run.path
