"""`distkeras init`: what it writes is a valid config of the data that is there, whose model can be trained."""

import json
import sys
import wave
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn import datasets
from typer.testing import CliRunner

from distkeras.cli.main import app
from distkeras.config import load_config
from distkeras.config.source_sections import ArraysSource, JsonlSource
from distkeras.data.conversion import convert, plan_conversion
from distkeras.data.sources import open_source
from distkeras.training.experiment import open_experiment

CONFIG_DATA = Path(__file__).parent.parent.parent.parent / "configs" / "data"


def init(*arguments):
    return CliRunner().invoke(app, ["init", *map(str, arguments)])


def written(folder, *arguments):
    result = init(folder, "--json", *arguments)
    assert result.exit_code == 0, result.stderr
    return load_config(folder / json.loads(result.stdout)["config"])


def text_of(folder, config):
    return (folder / f"{config.name}.yaml").read_text()


def wine():
    """178 wines: a column of text, empty cells, a name for each, and the cultivar."""
    frame = pd.read_csv(CONFIG_DATA / "wine_gaps.csv")
    frame.insert(0, "bottle", [f"bottle {row}" for row in range(len(frame))])
    return frame


def write_wine(folder, kind):
    path = folder / f"wine.{kind}"
    match kind:
        case "csv":
            wine().to_csv(path, index=False, sep=";")
        case "xlsx":
            wine().to_excel(path, index=False)
        case _:
            wine().to_parquet(path, index=False)
    return path


def write_digits(folder):
    digits = datasets.load_digits()
    for number, (target, image) in enumerate(zip(digits.target[:200], digits.images[:200], strict=True)):
        (folder / str(target)).mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(folder / str(target) / f"{number}.png")
    return folder


def write_docstrings(folder):
    lines = (CONFIG_DATA / "docstrings.jsonl").read_text().splitlines()
    for number, line in enumerate(lines[::2]):
        document = json.loads(line)
        (folder / document["label"]).mkdir(parents=True, exist_ok=True)
        (folder / document["label"] / f"{number}.txt").write_text(document["text"])
    return folder


def write_converted(folder, target, section):
    convert(plan_conversion(open_source(section), target, folder, part="all", num_shards=2))
    return folder


def write_noise(folder, seconds, rate, num_files):
    folder.mkdir(parents=True)
    for number in range(num_files):
        samples = np.random.default_rng(number).integers(-9999, 9999, int(seconds * rate)).astype("<i2")
        with wave.open(str(folder / f"{number}.wav"), "wb") as sound:
            sound.setparams((1, 2, rate, 0, "NONE", ""))
            sound.writeframes(samples.tobytes())


def write_vectors(folder):
    lines = [json.dumps({"values": [row, -row, row % 3], "class": row % 3}) for row in range(90)]
    path = folder / "vectors.jsonl"
    path.write_text("\n".join(lines))
    return path


DATA = {
    "csv": lambda folder: write_wine(folder, "csv"),
    "excel": lambda folder: write_wine(folder, "xlsx"),
    "parquet": lambda folder: CONFIG_DATA / "diabetes.parquet",
    "parquet with text": lambda folder: write_wine(folder, "parquet"),
    "arrays": lambda folder: CONFIG_DATA / "digits.npz",
    "image_folder": lambda folder: write_digits(folder / "digits"),
    "text_folder": lambda folder: write_docstrings(folder / "docs"),
    "jsonl": lambda folder: CONFIG_DATA / "docstrings.jsonl",
    "jsonl of numbers": lambda folder: write_vectors(folder),
    "audio_folder": lambda folder: CONFIG_DATA / "tones",
    "tfrecord": lambda folder: write_converted(
        folder / "records", "tfrecord", ArraysSource(kind="arrays", path=CONFIG_DATA / "digits.npz")
    ),
    "array_record": lambda folder: write_converted(
        folder / "records", "array_record", JsonlSource(kind="jsonl", path=CONFIG_DATA / "docstrings.jsonl")
    ),
}
EXPECTED = {
    "csv": ("tabular_classification", "mlp", (16,), 3),
    "excel": ("tabular_classification", "mlp", (16,), 3),
    "parquet": ("tabular_regression", "mlp", (10,), 1),
    "parquet with text": ("tabular_classification", "mlp", (16,), 3),
    "arrays": ("image_classification", "cnn", (8, 8, 1), 10),
    "image_folder": ("image_classification", "cnn", (64, 64, 3), 10),
    "text_folder": ("text_classification", "lstm", (128,), 3),
    "jsonl": ("text_classification", "lstm", (128,), 3),
    "jsonl of numbers": ("tabular_classification", "mlp", (3,), 3),
    "audio_folder": ("audio_classification", "cnn", (26, 40, 1), 3),
    "tfrecord": ("image_classification", "cnn", (8, 8, 1), 10),
    "array_record": ("text_classification", "lstm", (128,), 3),
}


@pytest.mark.parametrize("name", DATA)
def test_every_kind_of_data_gives_a_config_that_trains(tmp_path, name):
    config = written(tmp_path, "--data", DATA[name](tmp_path))
    task, builder, shape, num_outputs = EXPECTED[name]
    assert config.data.source.kind == name.partition(" ")[0]
    assert (config.task.kind, config.model.builder) == (task, builder)
    experiment = open_experiment(config)
    assert experiment.splits.train.feature_shape == shape
    # However few there are, they are trained on.
    assert config.data.remainder == "partial"
    assert experiment.build_model().output_shape == (None, num_outputs)


@pytest.mark.parametrize("task", ["image_classification", "tabular_classification", "tabular_regression"])
def test_without_data_it_is_synthetic_and_valid(tmp_path, task):
    config = written(tmp_path, "--task", task)
    assert (config.name, config.task.kind, config.data.source.kind) == (task, task, "synthetic")


def test_it_prints_the_command_that_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/distkeras/__main__.py"])
    result = init(tmp_path / "my configs")
    path = tmp_path / "my configs" / "image_classification.yaml"
    assert result.stdout == f"{path} was written\nnext: python -m distkeras train --config '{path}'\n"


def test_data_that_takes_a_while_is_announced_beside_the_result(tmp_path):
    (tmp_path / "t.csv").write_text("a,kind\n1.5,x\n2.5,y\n")
    result = init(tmp_path, "--data", tmp_path / "t.csv", "--json")
    assert result.stderr == f"reading {tmp_path / 't.csv'}\n"
    assert json.loads(result.stdout)["config"] == str(tmp_path / "t.yaml")


def test_a_csv_gives_its_columns(tmp_path):
    (tmp_path / "my flowers.csv").write_text("name;a;b;kind\nx;1;2.5;red\ny;2;3.5;blue\n")
    config = written(tmp_path, "--data", tmp_path / "my flowers.csv")
    source = config.data.source
    assert (config.name, config.task.kind) == ("my_flowers", "tabular_classification")
    assert (source.label, source.features, source.delimiter) == ("kind", ["a", "b"], ";")
    assert source.path == tmp_path / "my flowers.csv"
    assert (config.data.normalize, config.data.tabular) == ("standard", None)
    assert '# Left out: "name" (another text in every row)\n' in text_of(tmp_path, config)


def test_text_and_gaps_are_made_features_and_the_file_says_how(tmp_path):
    config = written(tmp_path, "--data", write_wine(tmp_path, "csv"))
    tabular = config.data.tabular
    assert (tabular.impute, tabular.normalize, tabular.encode) == ("median", "standard", "one_hot")
    assert config.data.normalize == "none"
    assert config.data.source.features == list(wine().columns[1:-1])
    text = text_of(tmp_path, config)
    assert '# Left out: "bottle" (another text in every row)\n' in text
    assert '# Text, one column of 0 and 1 for each value: "color"\n' in text
    assert '# Empty cells get the median of their column: "alcohol", "malic_acid", ' in text


def test_only_what_is_needed_is_written_for_a_table(tmp_path):
    frame = wine()[["color", "alcohol", "cultivar"]]
    frame[["alcohol", "cultivar"]].dropna().to_csv(tmp_path / "a.csv", index=False)
    frame[["alcohol", "cultivar"]].to_csv(tmp_path / "b.csv", index=False)
    frame[["color", "cultivar"]].to_csv(tmp_path / "c.csv", index=False)
    plain, gaps, text = (written(tmp_path, "--data", tmp_path / f"{name}.csv") for name in "abc")
    assert (plain.data.normalize, plain.data.tabular, plain.data.source.features) == ("standard", None, None)
    assert gaps.data.tabular.impute == "median"
    assert text.data.tabular.impute == "none"
    assert "median" not in text_of(tmp_path, text)


def test_names_of_columns_cannot_break_the_file(tmp_path):
    names = ["a\u2028b", 'say "x": #1', "emoji \U0001f600", "é\x85", "kind"]
    rows = [[f"name {row}", row, row / 2, -row, row % 2] for row in range(4)]
    pd.DataFrame(rows, columns=names).to_csv(tmp_path / "t.csv", index=False)
    config = written(tmp_path, "--data", tmp_path / "t.csv")
    assert config.data.source.features == names[1:4]


def test_many_columns_are_not_all_listed(tmp_path):
    table = {f"text {column}": [f"{column} {row}" for row in range(4)] for column in range(30)}
    pd.DataFrame({**table, "a": range(4), "y": [0, 1, 0, 1]}).to_csv(tmp_path / "t.csv", index=False)
    config = written(tmp_path, "--data", tmp_path / "t.csv")
    assert ' and 18 more\n    features: ["a"]\n' in text_of(tmp_path, config)


def test_a_named_label_decides_the_task(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,kind\n1.5,2,0\n2.5,3,1\n")
    assert written(tmp_path, "--data", tmp_path / "t.csv").task.kind == "tabular_classification"
    config = written(tmp_path, "--data", tmp_path / "t.csv", "--label", "a", "--force")
    assert (config.task.kind, config.data.source.label) == ("tabular_regression", "a")
    assert config.data.split.method == "random"


def test_a_forecast_is_asked_for(tmp_path):
    weather = CONFIG_DATA / "made_up_weather.csv"
    config = written(
        tmp_path, "--data", weather, "--task", "time_series_forecasting", "--label", "temperature"
    )
    source = config.data.source
    assert (source.kind, source.target, source.time, source.window) == (
        "time_series",
        "temperature",
        "date",
        24,
    )
    assert config.data.split.method == "time"
    experiment = open_experiment(config)
    assert experiment.splits.train.feature_shape == (24, 2)
    assert experiment.build_model().output_shape == (None, 1)


def test_sounds_are_taken_as_their_headers_say(tmp_path):
    for name, seconds, rate in (("yes", 0.5, 44_100), ("no", 12.5, 44_100), ("maybe", 0.1, 8000)):
        write_noise(tmp_path / "words" / name, seconds, rate, 2)
    config = written(tmp_path, "--data", tmp_path / "words")
    # The rate of most files, and not all of the longest.
    assert (config.data.source.sample_rate, config.data.source.seconds) == (44_100, 10.0)
    assert (config.data.spectrogram.frame_length, config.data.spectrogram.frame_step) == (1102, 441)


@pytest.mark.parametrize(("seconds", "rate"), [(1.0, 1000), (0.03, 8000)])
def test_slow_and_short_sounds_make_pictures_too(tmp_path, seconds, rate):
    for name in ("yes", "no"):
        write_noise(tmp_path / "words" / name, seconds, rate, 8)
    experiment = open_experiment(written(tmp_path, "--data", tmp_path / "words"))
    assert experiment.splits.train.feature_shape[1:] == (40, 1)
    assert experiment.build_model().output_shape == (None, 2)


def test_sounds_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "words" / "yes").mkdir(parents=True)
    (tmp_path / "words" / "yes" / "1.wav").write_bytes(b"RIFF")
    result = init(tmp_path, "--data", tmp_path / "words")
    assert result.exit_code == 3
    assert f"where: {tmp_path / 'words'}: yes/1.wav" in result.stderr
    assert "received: 'A sound file is not a WAV file.'" in result.stderr


def test_records_say_what_they_hold(tmp_path):
    digits = ArraysSource(kind="arrays", path=CONFIG_DATA / "digits.npz")
    images = written(tmp_path, "--data", write_converted(tmp_path / "images", "tfrecord", digits))
    # As small as they are, they are not resized; and they are grey, which the conversion noted.
    assert (images.data.image.size, images.data.source.channels) == (None, 1)
    assert (images.data.source.features, images.data.source.label) == ("image", "label")
    breast = tmp_path / "table.npz"
    data = datasets.load_breast_cancer()
    np.savez(breast, x=data.data, y=data.target)
    folder = write_converted(tmp_path / "rows", "array_record", ArraysSource(kind="arrays", path=breast))
    rows = written(tmp_path, "--data", folder)
    assert (rows.data.source.features, rows.task.kind) == ("features", "tabular_classification")
    wrong = init(tmp_path, "--data", folder, "--label", "lable")
    assert wrong.exit_code == 3
    assert "There is no 'lable' in the examples." in wrong.stderr
    assert "did you mean 'label'?" in wrong.stderr


def test_json_lines_say_which_member_is_the_text(tmp_path):
    lines = [
        json.dumps({"stars": row % 5, "review": "a good film " * (row + 1), "by": f"p{row}"})
        for row in range(9)
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    config = written(tmp_path, "--data", tmp_path / "t.jsonl")
    assert (config.data.source.features, config.data.source.label) == ("review", "by")
    config = written(tmp_path, "--data", tmp_path / "t.jsonl", "--label", "stars", "--force")
    assert (config.data.source.features, config.data.source.label) == ("review", "stars")
    assert config.model.arguments["vocabulary_size"] == config.data.text.max_tokens


def test_a_large_folder_of_parquet_is_judged_by_its_first_file(tmp_path, monkeypatch):
    (tmp_path / "parts").mkdir()
    pq.write_table(pa.table({"a": [1.0, 2.0], "y": [0, 1]}), tmp_path / "parts" / "0.parquet")
    pq.write_table(pa.table({"a": [1.0, None], "y": [0, 700]}), tmp_path / "parts" / "1.parquet")
    whole = written(tmp_path, "--data", tmp_path / "parts")
    assert (whole.task.kind, whole.data.tabular.impute) == ("tabular_regression", "median")
    monkeypatch.setattr("distkeras.cli.starter.MAX_LOOKED_AT_BYTES", 10)
    first = written(tmp_path, "--data", tmp_path / "parts", "--force")
    assert (first.task.kind, first.data.tabular) == ("tabular_classification", None)
    assert first.data.source.path == str(tmp_path / "parts")


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
        (["--data", "notes.doc"], 3, "No source reads files of this kind"),
        (["--data", "t.csv", "--label", "knd"], 3, "did you mean 'kind'?"),
        (["--data", "twice.csv"], 3, "Two columns are called 'a'"),
        (["--data", "none.csv"], 3, "The file is empty"),
        (["--data", "ragged.csv"], 3, "where: ragged.csv row 2"),
        (["--data", "empty"], 3, "The folder is empty"),
        (["--data", "mixed"], 3, "files of several kinds, and a source reads one"),
        (["--data", "flat"], 3, "A folder of images has no class sub-folders"),
        (["--data", "one.jsonl"], 3, "do not say which of their members is the label"),
        (["--data", "table.jsonl"], 3, "no image, no text and no numbers of one length"),
        (["--data", "notes.txt"], 3, "There is a file here, and no folder of texts"),
        (["--data", "t.csv", "--task", "image_classification"], 2, "This data is for tabular_classification"),
        (["--data", "t.csv", "--task", "time_series_forecasting", "--label", "kind"], 3, "is not numbers"),
        (["--task", "text_classification"], 2, "There are no synthetic examples for text_classification"),
        (["--label", "a", "--data", "n.npz"], 2, "--label names a column of a table; this is arrays"),
        (["notes.txt"], 2, "file"),
    ],
)
def test_wrong_input_is_said_in_a_sentence(tmp_path, monkeypatch, arguments, code, text):
    monkeypatch.chdir(tmp_path)
    for name, content in {
        "t.csv": "a,kind\n1,x\n",
        "twice.csv": "a,a,kind\n1,2,x\n",
        "none.csv": "",
        "ragged.csv": "a,kind\n1,x\n2\n",
        "notes.txt": "x",
        "notes.doc": "x",
        "one.jsonl": '{"text": "x"}\n',
        "table.jsonl": '{"size": 1, "label": "x"}\n',
        "mixed/a/1.txt": "x",
        "mixed/b/1.wav": "x",
        "flat/1.png": "x",
    }.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content)
    (tmp_path / "empty").mkdir()
    np.savez("n.npz", x=np.zeros((3, 2)), y=np.arange(3))
    result = init(*arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    assert text in result.stderr
