"""What must hold between the keys of a split."""

import copy

import pytest

from distkeras.config import InvalidConfigError, config_from_mapping
from distkeras.config.overrides import apply_overrides, parse_override

BASE = {
    "name": "a",
    "task": {"kind": "tabular_classification"},
    "data": {"source": {"kind": "csv", "path": "a.csv", "label": "y"}},
    "model": {"builder": "mlp"},
}
SERIES = "data.source={kind: time_series, path: a.csv, target: y, window: 3}"


def problems(tmp_path, *overrides):
    document = apply_overrides(copy.deepcopy(BASE), [parse_override(argument) for argument in overrides])
    try:
        config_from_mapping(document, origin="f", base_folder=tmp_path)
    except InvalidConfigError as error:
        return [problem.line for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["data.split.method=group"],
            "data.split.column: required for data.split.method group: name a column of the table",
        ),
        (
            ["data.split.method=time"],
            "data.split.column: required for data.split.method time: name a column of the table",
        ),
        (
            ["data.split.column=day"],
            "data.split.column: only for data.split.method group or time, and it is stratified; remove it",
        ),
        (
            ["data.split={method: time, column: day}", "data.source.features=[a, day]"],
            'data.source.features: holds the split\'s column "day", which is no feature; remove it',
        ),
        (
            ["data.split={method: time, column: text}", "data.source={kind: jsonl, path: a.jsonl}"],
            'data.source.features: holds the split\'s column "text", which is no feature; remove it',
        ),
        (
            [SERIES, "data.split={method: time, column: day}"],
            "data.split.column: a time series is in order already; remove it",
        ),
        (
            [SERIES, "data.split.method=random"],
            "data.split.method: random would train on windows whose rows are tested: neighbouring windows share rows; "
            "write data.split.method: time",
        ),
        (
            [SERIES],
            "data.split.method: stratified would train on windows whose rows are tested: neighbouring windows share "
            "rows; write data.split.method: time",
        ),
    ],
)
def test_a_broken_rule_is_one_sentence(tmp_path, overrides, line):
    assert line in problems(tmp_path, *overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.split={method: group, column: who}"],
        ["data.split={method: time, column: tex}", "data.source={kind: jsonl, path: a.jsonl}"],
        ["data.split={method: time, column: day}", "data.source.features=[a, b]"],
        [SERIES, "data.split.method=time"],
        [SERIES, "data.split={validation: 0.0, test: 0.0}"],
    ],
)
def test_what_the_rules_allow(tmp_path, overrides):
    assert [line for line in problems(tmp_path, *overrides) if "split" in line] == []
