"""`distkeras init`: what it writes is a valid config of the data that is there."""

import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from distkeras.cli.main import app
from distkeras.config import load_config


def init(*arguments):
    return CliRunner().invoke(app, ["init", *map(str, arguments)])


def written(folder, *arguments):
    result = init(folder, "--json", *arguments)
    assert result.exit_code == 0, result.stderr
    return load_config(folder / json.loads(result.stdout)["config"])


@pytest.mark.parametrize("task", ["image_classification", "tabular_classification", "tabular_regression"])
def test_without_data_it_is_synthetic_and_valid(tmp_path, task):
    config = written(tmp_path, "--task", task)
    assert (config.name, config.task.kind, config.data.source.kind) == (task, task, "synthetic")


def test_it_prints_the_command_that_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/distkeras/__main__.py"])
    result = init(tmp_path / "my configs")
    path = tmp_path / "my configs" / "image_classification.yaml"
    assert result.stdout == f"{path} was written\nnext: python -m distkeras train --config '{path}'\n"


def test_a_csv_gives_its_columns(tmp_path):
    (tmp_path / "my flowers.csv").write_text("name;a;b;kind\nx;1;2.5;red\ny;2;3.5;blue\n")
    config = written(tmp_path, "--data", tmp_path / "my flowers.csv")
    source = config.data.source
    assert (config.name, config.task.kind) == ("my_flowers", "tabular_classification")
    assert (source.label, source.features, source.delimiter) == ("kind", ["a", "b"], ";")
    assert source.path == tmp_path / "my flowers.csv"


def test_a_named_label_decides_the_task(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,kind\n1.5,2,0\n2.5,3,1\n")
    assert written(tmp_path, "--data", tmp_path / "t.csv").task.kind == "tabular_classification"
    config = written(tmp_path, "--data", tmp_path / "t.csv", "--label", "a", "--force")
    assert (config.task.kind, config.data.source.label) == ("tabular_regression", "a")
    assert config.data.split.method == "random"


def test_other_sources_are_recognised(tmp_path):
    pq.write_table(pa.table({"a": [1.0, 2.0], "y": [0.5, 0.7]}), tmp_path / "p.parquet")
    np.savez(tmp_path / "n.npz", x=np.zeros((3, 8, 8, 1), np.uint8), y=np.arange(3))
    (tmp_path / "pictures" / "cat").mkdir(parents=True)
    parquet, arrays, images = (
        written(tmp_path, "--data", tmp_path / name) for name in ("p.parquet", "n.npz", "pictures")
    )
    assert (parquet.task.kind, parquet.data.source.kind) == ("tabular_regression", "parquet")
    assert (arrays.task.kind, arrays.data.source.features) == ("image_classification", "x")
    assert (images.model.builder, images.data.source.kind) == ("cnn", "image_folder")


def test_nothing_is_overwritten_without_force(tmp_path):
    path = tmp_path / "image_classification.yaml"
    path.write_text("mine")
    result = init(tmp_path)
    assert result.exit_code == 2
    assert "error: There is a file already." in result.stderr
    assert path.read_text() == "mine"
    assert init(tmp_path, "--force").exit_code == 0
    assert load_config(path).name == "image_classification"


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--data", "missing.csv"], 3, "There is no such file or folder"),
        (["--data", "notes.txt"], 3, "No source reads files of this kind"),
        (["--data", "t.csv", "--label", "knd"], 3, "did you mean 'kind'?"),
        (["--data", "empty"], 3, "The folder holds nothing that a source reads"),
        (["--label", "a", "--data", "n.npz"], 2, "--label names a column of a table; this is arrays"),
        (["notes.txt"], 2, "file"),
    ],
)
def test_wrong_input_is_said_in_a_sentence(tmp_path, monkeypatch, arguments, code, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("a,kind\n1,x\n")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    np.savez("n.npz", x=np.zeros((3, 2)), y=np.arange(3))
    result = init(*arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    assert text in result.stderr
