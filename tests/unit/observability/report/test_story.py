"""The sentences of a report, for runs in every state."""

import pytest

from distkeras.observability.report import story
from distkeras.observability.report.facts import Facts

CONFIG = {
    "task": {"kind": "image_classification"},
    "model": {"builder": "cnn"},
    "data": {"source": {"kind": "arrays", "path": "/data/digits.npz"}},
}
MANIFEST = {
    "status": "completed",
    "step": 780,
    "num_steps": 780,
    "epochs": 20,
    "created": "2026-11-20T14:00:00+00:00",
    "finished": "2026-11-20T14:03:05+00:00",
    "num_parameters": 61706,
    "data": {"num_examples": 1797, "train": 1257, "class_names": ["a", "b"], "fingerprint": "f00d"},
}


def _train(ratio, step_milliseconds=1.0, **more):
    numbers = {"input_wait_ratio": ratio, "step_milliseconds": step_milliseconds}
    return {"step": 1, "kind": "train", "metrics": {}, "examples_per_second": 5.0, "memory_bytes": 2**20} | (
        numbers | more
    )


def _epoch(**metrics):
    return {"step": 1, "epoch": 0, "kind": "epoch", "metrics": metrics}


def test_subject():
    facts = Facts(manifest=MANIFEST, config=CONFIG)
    assert story.subject_sentence(facts) == (
        "Image classification with cnn (61,706 parameters), trained on digits.npz (1,797 examples)."
    )
    assert story.subject_sentence(Facts(manifest={})) == "Training with a model, trained on its data."
    synthetic = Facts(manifest={}, config={"data": {"source": {"kind": "synthetic"}}})
    assert story.subject_sentence(synthetic).endswith("trained on synthetic data.")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "Completed after 780 steps in 3m05s: test accuracy 0.9700."),
        ({"status": "failed", "step": 7}, "Failed after 7 of 780 steps in 3m05s: test accuracy 0.9700."),
        (
            {"status": "running", "step": 7, "finished": None},
            "Still running after 7 of 780 steps: test accuracy",
        ),
        ({"status": "interrupted"}, "Interrupted by the user after"),
        ({"status": "preempted"}, "Preempted after"),
    ],
)
def test_result(changes, sentence):
    facts = Facts(manifest=MANIFEST | changes, evaluation={"metrics": {"test_accuracy": 0.97}})
    assert story.result_sentence(facts).startswith(sentence)


@pytest.mark.parametrize(
    ("evaluation", "rows", "expected"),
    [
        ({"metrics": {"test_loss": 1.0, "test_accuracy": 0.5}}, [], ("test accuracy", 0.5)),
        (
            {"metrics": {"test_loss": 1.0, "test_mean_absolute_error": 3.0}},
            [],
            ("test mean absolute error", 3.0),
        ),
        ({"metrics": {"test_loss": 1.0}}, [], ("test loss", 1.0)),
        (None, [_epoch(val_auc=0.1), _epoch(loss=1.0, val_loss=2.0, val_auc=0.2)], ("validation auc", 0.2)),
        (None, [_epoch(val_auc=0.1), _epoch(loss=1.0)], ("validation auc", 0.1)),
        (None, [], None),
    ],
)
def test_the_metric_that_counts(evaluation, rows, expected):
    assert story.main_metric(Facts(manifest={}, rows=rows, evaluation=evaluation)) == expected


@pytest.mark.parametrize(
    ("rows", "bound", "sentence"),
    [
        ([], "not measured", "no interval after the first one"),
        ([_train(0.9, warm_up=True)], "not measured", "no interval after the first one"),
        (
            [_train(0.62)],
            "input-bound",
            "62% of a step waits for input; input without any cost would make it up to 2.6x",
        ),
        (
            [_train(0.2)],
            "balanced",
            "20% of a step waits for input; input without any cost would make it up to 1.2x",
        ),
        (
            [_train(0.03)],
            "compute-bound",
            "3% of a step waits for input; faster input would make it at most 1.03x",
        ),
        ([_train(0.0, 1.0), _train(0.8, 3.0)], "input-bound", "60% of a step"),
        ([_train(1.0)], "input-bound", "100% of a step waits for input; input without any cost"),
        ([_train(None, None)], "compute-bound", "0% of a step"),
    ],
)
def test_verdict(rows, bound, sentence):
    facts = Facts(manifest={}, rows=rows)
    assert story.verdict(facts)[0] == bound
    assert story.verdict(facts)[1].startswith(sentence)


def test_key_numbers():
    rows = [_train(0.5, 99.0, warm_up=True), _train(0.0, 2.0, examples_per_second=1000.0), _train(0.0, 4.0)]
    facts = Facts(manifest=MANIFEST, rows=[*rows, _epoch(val_loss=0.5)])
    assert story.key_numbers(facts) == [
        ("validation loss", "0.5000"),
        ("examples/s, median", "1,000"),
        ("ms a step, mean", "3"),
        ("memory, peak", "1 MiB"),
        ("from start to end", "3m05s"),
    ]
    assert story.key_numbers(Facts(manifest={})) == []


def test_data_numbers():
    numbers = story.data_numbers(Facts(manifest=MANIFEST))
    assert numbers == [
        ("examples", "1,797"),
        ("training", "1,257"),
        ("classes", "2"),
        ("fingerprint", "f00d"),
    ]


def test_reproduce_command_is_quoted_for_a_shell():
    manifest = {"command": ["distkeras", "train", "--set", "name=a b; rm"]}
    assert story.reproduce_command(Facts(manifest=manifest)) == "distkeras train --set 'name=a b; rm'"
    assert story.reproduce_command(Facts(manifest={}, environment={"command": ["x"]})) == "x"
    assert story.reproduce_command(Facts(manifest={})) == ""


def test_environment_numbers():
    environment = {
        "python": "3.11.7",
        "memory_bytes": 2**33,
        "versions": {"keras": "3.15.1"},
        "gpus": [{"name": "H200"}],
    }
    manifest = {"seed": 0, "topology": {"num_replicas": 2}, "versions": {"keras": "old"}}
    pairs = dict(story.environment_numbers(Facts(manifest=manifest, environment=environment)))
    assert pairs == {
        "python": "3.11.7",
        "memory": "8,192 MiB",
        "gpu": "H200",
        "keras": "3.15.1",
        "num replicas": "2",
        "seed": "0",
    }
