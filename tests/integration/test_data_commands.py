"""`distkeras data`: real processes, on small real data."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf  # noqa: F401 (it sets environment variables when it is imported)
import yaml
from typer.testing import CliRunner

from distkeras.cli.main import app

VERBS = ("audit", "inspect", "convert", "split")
CONFIG = """\
task: {kind: tabular_classification}
data:
  source: {kind: csv, path: flowers.csv, label: kind, features: [a, b]}
model: {builder: mlp}
training: {global_batch_size: 20}
"""
IMAGES = """\
task: {kind: image_classification}
data:
  source: {kind: image_folder, path: images}
  image: {size: [8, 8]}
model: {builder: cnn}
training: {global_batch_size: 4}
"""


def distkeras(folder, *arguments, **options):
    command = [sys.executable, "-m", "distkeras", "data", *map(str, arguments)]
    options = {"capture_output": True, "stdin": subprocess.DEVNULL, **options}
    return subprocess.run(command, cwd=folder, text=True, check=False, timeout=200, **options)


@pytest.fixture
def here(workplace, monkeypatch):
    """Runs a verb in this process: what is refused needs no process of its own."""
    monkeypatch.chdir(workplace)

    def run(*arguments):
        result = CliRunner().invoke(app, ["data", *arguments], prog_name="distkeras")
        assert not isinstance(result.exception, AssertionError)
        return result

    return run


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("workplace")
    numbers = np.random.default_rng(0)
    rows = [
        f"n{row},{a:.4f},{b:.4f},{('red', 'blue')[row % 2]}"
        for row, (a, b) in enumerate(numbers.normal(size=(200, 2)))
    ]
    (folder / "flowers.csv").write_text("\n".join(["name,a,b,kind", *rows]) + "\n")
    (folder / "flowers.yaml").write_text(CONFIG)
    (folder / "images.yaml").write_text(IMAGES)
    for name in ("cats", "dogs"):
        (folder / "images" / name).mkdir(parents=True)
        for index in range(15):
            pixels = numbers.integers(0, 255, (10 + index, 12, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{index:02d}.png")
    (folder / "images/cats/03.png").write_bytes(b"no image")
    return folder


class TestAudit:
    def test_it_proves_and_tells(self, workplace):
        result = distkeras(workplace, "audit", "--config", "flowers.yaml", "--workers", 3, "--epochs", 2)
        assert result.returncode == 0, result.stderr
        lines = result.stdout.splitlines()
        assert lines[0] == (
            "train: global batch 20 = 3 workers x 1 replica x 6 or 7; 140 examples -> 7 steps an epoch"
        )
        assert "train, 2 epochs: each example exactly once" in lines
        assert "parts: no example is in two of them" in lines
        assert "imbalance: the busiest worker reads 5.0% more than the mean" in lines
        assert re.search(r"^  2 +42 +336 bytes$", result.stdout, re.MULTILINE)
        # Nothing but our own lines, whatever libraries print.
        assert result.stderr.splitlines() == [
            "opening the csv data",
            "counting: 340 examples",
            "comparing the parts",
        ]

    def test_json_is_one_object(self, workplace):
        result = distkeras(
            workplace,
            "audit",
            "--config",
            "flowers.yaml",
            "--json",
            "--set",
            "data.remainder=wrap",
            "--set",
            "training.global_batch_size=64",
        )
        found = json.loads(result.stdout)
        assert (found["passed"], found["missing"], found["duplicated"]) == (True, 0, 0)
        assert (found["repeated"], found["steps_per_epoch"], found["imbalance"]) == (52, 3, 0.0)

    def test_parts_that_overlap_end_with_the_remedy(self, workplace):
        own = "data.test={kind: csv, path: flowers.csv, label: kind, features: [a, b]}"
        result = distkeras(workplace, "audit", "--config", "flowers.yaml", "--quiet", "--set", own)
        assert result.returncode == 3
        assert "parts: examples shared: 170 in train and test, 30 in validation and test" in result.stdout
        assert result.stderr.startswith("error: 170 examples of the train data are test data, too.\n")
        assert "fix: give data.test other data, or leave it out" in result.stderr

    def test_deep_lists_bad_records(self, workplace):
        result = distkeras(workplace, "audit", "--config", "images.yaml", "--deep", "--json")
        assert result.returncode == 3
        [record] = json.loads(result.stdout)["bad_records"]
        assert record["place"] == "cats/03.png"
        assert "Bad records: 1; data.max_bad_records allows 0." in result.stderr
        allowed = distkeras(
            workplace, "audit", "--config", "images.yaml", "--deep", "--set", "data.max_bad_records=1"
        )
        assert allowed.returncode == 0, allowed.stderr
        assert "read: 1 bad record" in allowed.stdout
        assert re.search(r"cats/03\.png +\w+ +An image file is not a JPEG", allowed.stdout)

    def test_without_deep_opening_finds_it(self, here):
        result = here("audit", "--config", "images.yaml")
        assert (result.exit_code, result.stdout) == (3, "")
        assert "An image file is not a JPEG, PNG, BMP or GIF image." in result.stderr


class TestInspect:
    def test_a_table_fits_eighty_columns(self, workplace):
        result = distkeras(workplace, "inspect", "flowers.csv", "--quiet")
        assert result.returncode == 0, result.stderr
        assert max(map(len, result.stdout.splitlines())) <= 80
        assert "flowers.csv\ncsv, 200 examples, " in result.stdout
        assert re.search(r"^  blue +100 +50% +#+$", result.stdout, re.MULTILINE)
        assert result.stderr == ""

    def test_a_config_and_its_contact_sheet(self, workplace):
        result = distkeras(workplace, "inspect", "images.yaml", "--json", "--html", "sheet.html")
        assert result.returncode == 0, result.stderr
        found = json.loads(result.stdout)
        assert (found["kind"], found["examples"], found["num_bad_records"]) == ("image_folder", 29, 1)
        assert found["html"] == "sheet.html"
        page = (workplace / "sheet.html").read_text()
        assert page.count("data:image/jpeg;base64,") == 12
        assert "cats/03.png" in page

    @pytest.mark.parametrize(
        ("arguments", "sentence", "code"),
        [
            (["flower.csv"], "There is no such file or folder.", 3),
            (["flowers.csv", "--label", "knd"], "There is no column 'knd'.", 3),
            (["flowers.csv", "--set", "data.source.label=a"], "--set changes a config; this is data.", 2),
            (["flowers.yaml", "--label", "a"], "A config names its label itself.", 2),
            (["images", "--label", "a"], "--label names a column; this is image_folder.", 2),
            (["nothing.yaml"], "nothing.yaml", 2),
        ],
    )
    def test_wrong_input(self, here, arguments, sentence, code):
        result = here("inspect", *arguments, "--quiet")
        assert (result.exit_code, result.stdout) == (code, "")
        assert sentence in result.stderr
        assert "Traceback" not in result.stderr


class TestConvert:
    def test_the_printed_section_trains(self, workplace):
        result = distkeras(
            workplace,
            "convert",
            "--config",
            "flowers.yaml",
            "--to",
            "parquet",
            "--out",
            "parquet",
            "--part",
            "train",
        )
        assert result.returncode == 0, result.stderr
        head, intro, *snippet = result.stdout.splitlines()
        assert re.fullmatch(r"parquet: 140 examples, .* in 1 shard, checked", head)
        assert intro == "read them with:"
        config = yaml.safe_load(CONFIG) | yaml.safe_load("\n".join(snippet))
        (workplace / "again.yaml").write_text(yaml.safe_dump(config))
        again = distkeras(workplace, "audit", "--config", "again.yaml", "--json", "--quiet")
        assert json.loads(again.stdout)["passed"] is True
        assert re.search(r"^about [\d.]+ KiB, shards: 1$", result.stderr, re.MULTILINE)

    def test_the_same_command_again_writes_nothing_and_another_is_refused(self, workplace):
        command = ("convert", "--config", "flowers.yaml", "--to", "tfrecord", "--out", "records", "--json")
        first = distkeras(workplace, *command, "--shards", 2)
        files = {path.name: path.read_bytes() for path in (workplace / "records").iterdir()}
        second = distkeras(workplace, *command, "--shards", 2)
        assert json.loads(first.stdout) == json.loads(second.stdout)
        assert {path.name: path.read_bytes() for path in (workplace / "records").iterdir()} == files
        third = distkeras(workplace, *command, "--shards", 3)
        assert (third.returncode, third.stdout) == (2, "")
        assert "error: In this folder is another conversion.\n" in third.stderr

    def test_wrong_input(self, here, workplace):
        result = here("convert", "--config", "flowers.yaml", "--to", "hdf5", "--out", "x")
        assert result.exit_code == 2
        assert "'hdf5' is not one of 'tfrecord', 'parquet', 'array_record', 'memmap'" in result.stderr
        bad = ("--set", "data.max_bad_records=9")
        result = here("convert", "--config", "images.yaml", "--to", "tfrecord", "--out", "x", *bad)
        assert result.exit_code == 3
        assert "An image file is not a JPEG, PNG, BMP or GIF image." in result.stderr
        assert not (workplace / "x").exists()


class TestSplit:
    def test_a_table(self, workplace):
        result = distkeras(workplace, "split", "--config", "flowers.yaml", "--out", "parts", "--json")
        assert result.returncode == 0, result.stderr
        parts = json.loads(result.stdout)["parts"]
        assert {name: part["examples"] for name, part in parts.items()} == {
            "train": 140,
            "validation": 30,
            "test": 30,
        }
        lines = [
            line
            for part in parts.values()
            for line in (workplace / part["path"]).read_text().splitlines()[1:]
        ]
        assert sorted(lines) == sorted((workplace / "flowers.csv").read_text().splitlines()[1:])
        again = distkeras(workplace, "split", "--config", "flowers.yaml", "--out", "parts")
        assert (again.returncode, again.stdout) == (2, "")
        assert "There are files in the folder already." in again.stderr

    def test_a_misspelt_column(self, here):
        split = "data.split={method: group, column: nam}"
        result = here("split", "--config", "flowers.yaml", "--out", "grouped", "--set", split)
        assert (result.exit_code, result.stdout) == (3, "")
        assert "There is no column 'nam' to split by." in result.stderr
        assert "did you mean 'name'?" in result.stderr

    def test_what_has_no_rows(self, here):
        source = "data.source={kind: synthetic, shape: [2]}"
        result = here("split", "--config", "flowers.yaml", "--out", "none", "--set", source)
        assert result.exit_code == 2
        assert "Parts of a source of kind synthetic are not written as files." in result.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_fits_sixty_columns(verb):
    command = [sys.executable, "-m", "distkeras", "data", verb, "--help"]
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "60"}
    )
    assert max(map(len, result.stdout.splitlines())) <= 60
    assert "--json" in result.stdout


def test_the_help_of_data_names_every_verb():
    command = [sys.executable, "-m", "distkeras", "data", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    for verb in VERBS:
        assert re.search(rf"^  {verb} +[A-Z].*\.$", result.stdout, re.MULTILINE), verb


def test_gpus_are_left_to_those_who_train(workplace):
    code = (
        "import os, pathlib\n"
        "from distkeras.cli.data_commands import _place\n"
        "with _place(True):\n"
        "    import tensorflow as tf\n"
        "    assert tf.config.list_physical_devices('GPU') == []\n"
        "    assert os.environ['CUDA_VISIBLE_DEVICES'] == '-1'\n"
        "assert 'CUDA_VISIBLE_DEVICES' not in os.environ\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
