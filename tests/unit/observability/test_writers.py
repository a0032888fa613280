"""Metrics reach metrics.jsonl and TensorBoard, and no TensorFlow is needed for either."""

import json
import subprocess
import sys

import pytest

from distkeras.errors import MissingDependencyError, ResourceError
from distkeras.observability.metrics_file import read_metrics
from distkeras.observability.writers import JsonLinesWriter, TensorBoardWriter, Writers

THROUGHPUT = {"examples_per_second": 10.0, "input_wait_ratio": 0.5}


def _scalars(directory):
    """Reads event files with TensorBoard's own reader, in a process of its own: it imports TensorFlow."""
    code = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], purge_orphaned_data=True)
events.Reload()
print(json.dumps({tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}))
"""
    command = [sys.executable, "-c", code, str(directory)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_json_lines_have_time_metrics_and_throughput(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = JsonLinesWriter(path, clock=lambda: 12.5)
    writer.write(3, 1, "train", {"loss": 0.25}, **THROUGHPUT)
    row = {"step": 3, "epoch": 1, "kind": "train", "time": 12.5, "metrics": {"loss": 0.25}, **THROUGHPUT}
    assert read_metrics(path) == [row], "a row must be readable while the writer is open"
    writer.close()
    writer.close()


def test_tensorboard_reads_its_events_and_hides_what_a_resume_repeats(tmp_path):
    first = TensorBoardWriter(tmp_path / "events")
    for step in (10, 20, 30):
        first.write(step, 0, "train", {"loss": step / 10}, **THROUGHPUT)
    first.close()
    second = TensorBoardWriter(tmp_path / "events", start_step=20)
    second.write(30, 0, "train", {"loss": 7.0})
    second.close()
    second.close()
    scalars = _scalars(tmp_path / "events")
    assert scalars["train/loss"] == [[10, 1.0], [30, 7.0]]
    assert scalars["throughput/examples_per_second"] == [[10, 10.0]]


def test_tensorboard_writing_imports_neither_tensorflow_nor_keras(tmp_path):
    code = """
import sys
from pathlib import Path
from distkeras.observability.writers import TensorBoardWriter
writer = TensorBoardWriter(Path(sys.argv[1]))
writer.write(1, 0, "epoch", {"loss": float("nan")})
writer.close()
print({name.split(".")[0] for name in sys.modules} & {"tensorflow", "keras", "ray"})
"""
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"


def test_tensorboard_that_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingDependencyError, match="Missing optional dependency 'tensorboard'") as caught:
        TensorBoardWriter(tmp_path)
    assert caught.value.remedy == 'Install it with: pip install "distkeras[track]"'


def test_writers_pass_on_to_each_and_close_each(tmp_path):
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    writers = Writers([JsonLinesWriter(path) for path in paths])
    writers.write(1, 0, "evaluation", {"test_accuracy": 0.5})
    writers.close()
    assert [read_metrics(path)[0]["metrics"] for path in paths] == [{"test_accuracy": 0.5}] * 2
    Writers().write(1, 0, "train", {})


def test_one_place_that_fails_to_close_does_not_keep_the_others_open(tmp_path):
    class Broken(JsonLinesWriter):
        def close(self):
            super().close()
            raise OSError("broken")

    good = JsonLinesWriter(tmp_path / "good.jsonl")
    with pytest.raises(OSError, match="broken"):
        Writers([good, Broken(tmp_path / "broken.jsonl")]).close()
    with pytest.raises(ResourceError, match=r"Could not append to good\.jsonl: Bad file descriptor"):
        good.write(1, 0, "train", {})


def test_a_full_disk_is_said_when_a_row_does_not_fit(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.symlink_to("/dev/full")
    writer = JsonLinesWriter(path)
    with pytest.raises(ResourceError, match=r"The disk is full: could not append to metrics\.jsonl"):
        writer.write(1, 0, "train", {"loss": 1.0})
    writer.close()


def test_event_files_that_cannot_be_made_are_said(tmp_path):
    (tmp_path / "events").write_text("")
    with pytest.raises(
        ResourceError, match="A file is in the way: could not open the TensorBoard event file"
    ):
        TensorBoardWriter(tmp_path / "events")
