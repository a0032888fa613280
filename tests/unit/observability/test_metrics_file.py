"""metrics.jsonl survives crashes, resumes and numbers that are not finite."""

import json
import os

import pytest

from distkeras.errors import DataError, ResourceError
from distkeras.observability.metrics_file import (
    append_row,
    metric_row,
    open_for_append,
    read_metrics,
    truncate_metrics,
)


def _row(step):
    return metric_row(step, 0, "train", {"loss": 1 / step}, time=5.0)


def _write(path, steps):
    descriptor = open_for_append(path)
    for step in steps:
        append_row(descriptor, _row(step))
    os.close(descriptor)


def test_rows_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    _write(path, [1, 2])
    assert read_metrics(path) == [
        {"step": 1, "epoch": 0, "kind": "train", "time": 5.0, "metrics": {"loss": 1.0}},
        {"step": 2, "epoch": 0, "kind": "train", "time": 5.0, "metrics": {"loss": 0.5}},
    ]


def test_a_missing_file_has_no_rows(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []
    truncate_metrics(tmp_path / "metrics.jsonl", 3)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_numbers_that_are_not_finite_stay_valid_json_and_are_named():
    metrics = {"loss": float("nan"), "up": float("inf"), "accuracy": 0.5}
    row = metric_row(1, 0, "train", metrics, time=0.0, throughput={"examples_per_second": float("inf")})
    assert row["metrics"] == {"loss": None, "up": None, "accuracy": 0.5}
    assert row["nonfinite"] == {"loss": "nan", "up": "inf"}
    assert row["examples_per_second"] is None
    json.dumps(row, allow_nan=False)


@pytest.mark.parametrize("num_bytes_lost", range(1, 80, 7))
def test_a_torn_last_line_is_left_out_and_cut_before_the_next_row(tmp_path, num_bytes_lost):
    path = tmp_path / "metrics.jsonl"
    _write(path, [1, 2])
    path.write_bytes(path.read_bytes()[:-num_bytes_lost])
    assert [row["step"] for row in read_metrics(path)] == [1]
    _write(path, [3])
    assert [row["step"] for row in read_metrics(path)] == [1, 3]


def test_a_file_torn_in_its_first_line_starts_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1')
    assert read_metrics(path) == []
    _write(path, [4])
    assert [row["step"] for row in read_metrics(path)] == [4]


def test_a_resumed_run_has_no_rows_after_its_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    _write(path, [10, 20, 30])
    path.write_bytes(path.read_bytes() + b'{"step": 40')
    truncate_metrics(path, 20)
    assert [row["step"] for row in read_metrics(path)] == [10, 20]
    assert path.read_bytes().endswith(b"\n")


@pytest.mark.parametrize("line", ["not json", "[1]", "{}"])
def test_a_damaged_line_is_named_by_its_number(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    _write(path, [1])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=r"metrics\.jsonl has a line that is not a row of metrics") as caught:
        read_metrics(path)
    assert caught.value.place == f"{path} line 2"
    assert caught.value.received == line


def test_a_directory_in_its_place_is_said(tmp_path):
    with pytest.raises(ResourceError, match="A file is in the way: could not open "):
        open_for_append(tmp_path)
