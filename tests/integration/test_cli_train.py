"""`distkeras train`, and what is done with its run: real processes, one small run trained once."""

import csv
import json
import os
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

CONFIG = """\
task: {kind: tabular_classification}
data:
  source: {kind: csv, path: flowers.csv, label: kind, features: [a, b]}
  normalize: standard
model: {builder: mlp, arguments: {hidden_units: [16]}}
training:
  epochs: 4
  global_batch_size: 20
  optimizer: {learning_rate: 0.05}
"""
# Everything that a run may say on stderr: a library's line would match none of these.
OUR_LINES = re.compile(
    r"importing TensorFlow [\d.]+|opening the csv data|global batch 20 = .* steps an epoch.*|epoch=\d/4 .*"
    r"|testing on 30 examples"
)


def distkeras(folder, *arguments, **options):
    command = [sys.executable, "-m", "distkeras", *map(str, arguments)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
    return subprocess.run(command, cwd=folder, text=True, check=False, timeout=200, **options)


def write_flowers(folder):
    values = np.random.default_rng(0).normal(size=(200, 2)) + np.arange(200)[:, None] % 2 * 4
    rows = [f"n{row},{a:.4f},{b:.4f},{('red', 'blue')[row % 2]}" for row, (a, b) in enumerate(values)]
    (folder / "flowers.csv").write_text("\n".join(["name,a,b,kind", *rows]) + "\n")
    (folder / "flowers.yaml").write_text(CONFIG)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workplace")
    write_flowers(folder)
    return folder


@pytest.fixture(scope="module")
def trained(workplace):
    return distkeras(workplace, "train", "--config", "flowers.yaml", "--json")


def test_json_is_one_object_and_the_rest_are_our_own_lines(workplace, trained):
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout)
    assert (result["status"], result["run"], result["step"]) == ("completed", "runs/flowers", 28)
    assert result["metrics"]["test_accuracy"] >= 0.9
    assert {"loss", "val_loss", "test_loss", "test_f1"} <= result["metrics"].keys()
    assert result["examples_per_second"] > 0
    assert (workplace / result["report"]).stat().st_size > 10_000
    foreign = [line for line in trained.stderr.splitlines() if not OUR_LINES.fullmatch(line)]
    assert foreign == []


def test_the_first_line_says_what_takes_long(trained):
    assert trained.stderr.startswith("importing TensorFlow")


def test_a_finished_run_shows_its_results_without_training(workplace, trained):
    again = distkeras(workplace, "train", "--config", "flowers.yaml")
    assert again.returncode == 0
    assert again.stderr == "runs/flowers is complete: nothing is left to train\n"
    lines = again.stdout.splitlines()
    assert lines[0] == "flowers: completed, 28 steps"
    assert ["report", "runs/flowers/report.html"] in [line.split() for line in lines]
    assert max(map(len, lines)) <= 80


def test_every_command_that_is_printed_exists(workplace, trained):
    lines = distkeras(workplace, "train", "--config", "flowers.yaml").stdout.splitlines()
    program = "python -m distkeras "
    commands = [line.partition(program)[2].split() for line in lines if program in line]
    assert [command[0] for command in commands] == ["predict", "runs"]
    (workplace / "unseen.csv").write_text("a,b\n0,0\n")
    for command in commands:
        typed = ["unseen.csv" if word == "PATH" else word for word in command]
        assert distkeras(workplace, *typed).returncode == 0, typed


def test_another_config_is_refused_in_the_same_directory(workplace, trained):
    result = distkeras(workplace, "train", "--config", "flowers.yaml", "--set", "seed=9")
    assert result.returncode == 2
    assert result.stderr.startswith("error: This directory holds a run of another config")
    assert "distkeras runs clean runs/flowers" in result.stderr


def test_evaluate_names_its_metrics_and_keeps_the_test_result(workplace, trained):
    before = (workplace / "runs/flowers/evaluation.json").read_bytes()
    result = distkeras(workplace, "evaluate", "flowers", "--split", "validation", "--json", "--quiet")
    assert (result.returncode, result.stderr) == (0, "")
    measured = json.loads(result.stdout)
    metrics = json.loads(trained.stdout)["metrics"]
    assert measured["metrics"]["validation_loss"] == pytest.approx(metrics["val_loss"], rel=1e-5)
    assert (workplace / "runs/flowers/evaluation.json").read_bytes() == before


def test_evaluate_repeats_the_test_of_training(workplace, trained):
    result = distkeras(workplace, "evaluate", "runs/flowers")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "runs/flowers: 30 test examples"
    accuracy = json.loads(trained.stdout)["metrics"]["test_accuracy"]
    assert ["test_accuracy", f"{accuracy:.4f}"] in [line.split() for line in lines]


def test_evaluate_refuses_changed_numbers_and_changed_data(workplace, trained):
    result = distkeras(workplace, "evaluate", "flowers", "--set", "training.global_batch_size=10")
    assert result.returncode == 2
    assert result.stderr.startswith("error: With these changes it is another run")
    text = (workplace / "flowers.csv").read_text()
    (workplace / "other.csv").write_text(text + "n,0,0,red\n")
    result = distkeras(workplace, "evaluate", "flowers", "--set", "data.source.path=other.csv")
    assert result.returncode == 3
    assert "error: The data is no longer what this run was trained on." in result.stderr


def test_predict_needs_no_labels_and_keeps_the_order(workplace, trained):
    (workplace / "new.csv").write_text("b;id;a\n4;x;4\n0;y;0\n4;z;4\n")
    arguments = ("predict", "flowers", "--data", "new.csv", "--set", "data.source.delimiter=;")
    result = distkeras(workplace, *arguments, "--out", "out.csv", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == {"run": "runs/flowers", "rows": 3, "out": "out.csv"}
    rows = list(csv.DictReader((workplace / "out.csv").read_text().splitlines()))
    assert [(row["place"], row["prediction"], row["class_name"]) for row in rows] == [
        ("new.csv row 1", "0", "blue"),
        ("new.csv row 2", "1", "red"),
        ("new.csv row 3", "0", "blue"),
    ]
    assert float(rows[0]["probability_red"]) + float(rows[0]["probability_blue"]) == pytest.approx(1)


def test_predict_reads_another_format_and_writes_parquet(workplace, trained):
    pq.write_table(pa.table({"a": [4.0, 0.0], "b": [4.0, 0.0]}), workplace / "new.parquet")
    result = distkeras(workplace, "predict", "flowers", "--data", "new.parquet", "--out", "out.parquet")
    assert (result.returncode, result.stdout) == (0, "out.parquet: 2 predictions\n")
    assert pq.read_table(workplace / "out.parquet").column_names[:3] == ["place", "prediction", "class_name"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--data", "nwe.csv", "--out", "o.csv"], 3, "There is no such file or folder."),
        (["--data", "flowers.csv", "--out", "o.xlsx"], 2, "Predictions are written as .csv or .parquet."),
        (["--data", "flowers.csv", "--out", "no/o.csv"], 2, "The folder for the predictions does not exist."),
        (["--data", "flowers.csv", "--out", "flowers.csv"], 2, "The predictions would replace the data."),
    ],
)
def test_predict_refuses_before_it_begins(workplace, trained, arguments, code, text):
    result = distkeras(workplace, "predict", "flowers", *arguments)
    assert result.returncode == code
    assert result.stderr.startswith(f"error: {text}\n")
    assert "importing" not in result.stderr


def test_predict_names_the_missing_column(workplace, trained):
    (workplace / "short.csv").write_text("a\n1\n")
    result = distkeras(workplace, "predict", "flowers", "--data", "short.csv", "--out", "o.csv")
    assert result.returncode == 3
    assert "error: There is no feature column 'b'." in result.stderr
    assert not (workplace / "o.csv").exists()


def test_report_is_written_again(workplace, trained):
    (workplace / "runs/flowers/report.html").unlink()
    result = distkeras(workplace, "report", "flowers")
    assert (result.returncode, result.stdout, result.stderr) == (0, "runs/flowers/report.html\n", "")
    assert (workplace / "runs/flowers/report.html").is_file()


def test_a_reader_that_leaves_ends_nothing(workplace, trained):
    read, write = os.pipe()
    os.close(read)
    result = distkeras(workplace, "runs", "show", "flowers", stdout=write)
    os.close(write)
    assert (result.returncode, result.stderr) == (141, "")


def test_a_dry_run_says_what_would_run_and_writes_nothing(tmp_path):
    write_flowers(tmp_path)
    result = distkeras(tmp_path, "train", "--config", "flowers.yaml", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("flowers: dry run, nothing was written\n")
    facts = dict(line.split(maxsplit=1) for line in result.stdout.splitlines()[1:])
    assert facts["run"] == "runs/flowers: a new run"
    assert facts["data"] == "140 train, 30 validation, 30 test"
    assert facts["steps"] == "28 in 4 epochs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flowers.csv", "flowers.yaml"]


def test_a_failed_first_attempt_does_not_bar_the_corrected_config(tmp_path):
    write_flowers(tmp_path)
    command = ("train", "--config", "flowers.yaml", "--quiet", "--set", "data.split.test=0")
    result = distkeras(tmp_path, *command, "--set", "model.builder=mpl")
    assert result.returncode == 2
    assert result.stderr.startswith("error: There is no model of this name.")
    result = distkeras(tmp_path, *command, "--set", "training.epochs=1", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    metrics = json.loads(result.stdout)["metrics"]
    assert "val_loss" in metrics
    assert not any(name.startswith("test_") for name in metrics)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["train", "--config", "flower.yaml"], 2, "Did you mean flowers.yaml?"),
        (["train", "--config", "flowers.yaml", "--set", "training.epoch=3"], 2, "training.epochs"),
        (["train", "--config", "flowers.yaml", "--set", "output_dir=flowers.csv"], 4, "A file is in the way"),
        (["evaluate", "nothing"], 2, "There is no run 'nothing'."),
        (["evaluate", "nothing", "--split", "tst"], 2, "'tst' is not one of"),
        (["report", "."], 2, ". has no manifest.json"),
        (["config", "check", "--config", "flowers.csv"], 2, "error: "),
    ],
)
def test_wrong_input_ends_in_a_sentence_and_a_code(workplace, arguments, code, text):
    result = distkeras(workplace, *arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert text in result.stderr
    assert len(result.stderr.splitlines()) <= 12
    assert "Traceback" not in result.stderr
