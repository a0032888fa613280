"""What a config with a stream must say, and must not."""

import copy

import pytest

from distkeras.config import InvalidConfigError, config_from_mapping
from distkeras.config.overrides import apply_overrides, parse_override

BASE = {
    "name": "a",
    "task": {"kind": "tabular_classification"},
    "data": {
        "source": {"kind": "generator", "function": "a.b:c", "shape": [4], "num_classes": 3},
        "split": {"validation": 0, "test": 0},
    },
    "model": {"builder": "mlp"},
    "training": {"num_steps": 100, "epochs": 5},
}
CSV = "{kind: csv, path: b.csv, label: y}"
STREAM = "{kind: generator, function: 'a.b:c', shape: [4], num_classes: 3}"
KEPT = "needs all examples before the first step, and a stream has none then; remove it"


def problems(tmp_path, *overrides):
    document = apply_overrides(copy.deepcopy(BASE), [parse_override(argument) for argument in overrides])
    try:
        config_from_mapping(document, origin="f", base_folder=tmp_path)
    except InvalidConfigError as error:
        return [problem.line for problem in error.problems]
    return []


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["data.split.validation=0.2", f"data.validation={CSV}"],
        ["task.kind=tabular_regression", "data.source.num_classes=null"],
        ["task.num_classes=4"],
        [f"data.source={CSV}", "training.num_steps=null"],
    ],
)
def test_what_fits(tmp_path, overrides):
    assert problems(tmp_path, *overrides) == []


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["training.num_steps=null"],
            "training.num_steps: required for a stream, which has no length: the steps of all epochs together",
        ),
        (
            ["training.num_steps=102"],
            "training.num_steps: 102 does not divide by 5 epochs of equal length; use 100 or 105",
        ),
        (
            ["training.num_steps=3"],
            "training.num_steps: 3 does not divide by 5 epochs of equal length; use 5",
        ),
        (
            [f"data.source={CSV}"],
            "training.num_steps: only for data.source.kind generator, and it is csv, of which an epoch is a pass; "
            "remove it, and set training.epochs",
        ),
        (
            ["data.split.validation=0.15"],
            "data.split.validation: a stream cannot be split, and 0.15 of it would be kept; set "
            "data.split.validation: 0, or name other data as data.validation",
        ),
        (
            ["data.split.test=0.1"],
            "data.split.test: a stream cannot be split, and 0.1 of it would be kept; set data.split.test: 0, or name "
            "other data as data.test",
        ),
        (
            [f"data.test={STREAM}"],
            "data.test.kind: a stream has no end, and evaluation sees every example once; name stored data",
        ),
        (
            [
                f"data.source={{kind: mixture, sources: [{{source: {CSV}}}, {{source: {STREAM}}}]}}",
                "training.num_steps=null",
            ],
            "data.source.sources.1.source.kind: a stream cannot be part of a mixture; let the function mix, or store "
            "the examples",
        ),
        (["data.balance=classes"], f"data.balance: {KEPT}"),
        (["data.normalize=standard"], f"data.normalize: {KEPT}"),
        (["data.cache={}"], f"data.cache: {KEPT}"),
        (["data.max_bad_records=1"], f"data.max_bad_records: {KEPT}"),
        (
            ["data.layers=[{name: RandomFlip}, {name: Normalization}]"],
            "data.layers.1: Normalization would learn from all examples, and a stream has none before the first step; "
            "give its mean",
        ),
        (
            ["data.source.num_classes=null"],
            "data.source.num_classes: required for task.kind tabular_classification: a stream's labels are not known "
            "before",
        ),
        (
            ["task.kind=tabular_regression"],
            "data.source.num_classes: only for classes, and task.kind is tabular_regression; remove it",
        ),
        (
            ["task.num_classes=2"],
            "data.source.num_classes: 3 is more than task.num_classes, 2; make them the same",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, overrides, line):
    assert problems(tmp_path, *overrides) == [line]
