"""A config is valid, or everything wrong with it is said at once, by dotted key."""

import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from distkeras.config import Config, InvalidConfigError, config_from_mapping, load_config, to_mapping
from distkeras.config.documents import parse_document
from distkeras.config.keys import all_keys
from distkeras.config.overrides import Override, apply_overrides
from distkeras.config.sections import TrainingSection
from distkeras.config.source_sections import CsvSource, SyntheticSource
from distkeras.errors import ConfigError

DIGITS = """\
task: {kind: image_classification, num_classes: 10}
data:
  source: {kind: csv, path: ../data/digits.csv, label: digit}
model: {builder: cnn}
training: {epochs: 3}
"""
KINDS = (
    "one of arrays, image_folder, csv, excel, parquet, tfrecord, array_record, tfds, text_folder, jsonl, "
    "audio_folder, time_series, ray_data, generator, synthetic, mixture"
)
NAME = "text of at most 100 characters and matching ^[A-Za-z0-9][A-Za-z0-9._-]*$"


@pytest.fixture
def digits(tmp_path):
    path = tmp_path / "configs" / "digits.yaml"
    path.parent.mkdir()
    path.write_text(DIGITS)
    return path


def lines_of(path, *overrides):
    with pytest.raises(InvalidConfigError) as caught:
        load_config(path, overrides)
    assert caught.value.exit_code == 2
    return [line.removeprefix("  ") for line in caught.value.lines()]


def test_defaults_then_file_then_overrides(digits):
    config = load_config(digits, ["training.epochs=5"])
    assert (config.name, config.training.epochs, config.training.global_batch_size) == ("digits", 5, 64)


def test_the_environment_plays_no_part(digits, monkeypatch):
    before = load_config(digits)
    for name in ("TRAINING__EPOCHS", "DISTKERAS_TRAINING_EPOCHS", "EPOCHS", "NAME", "SEED"):
        monkeypatch.setenv(name, "99")
    assert load_config(digits) == before


def test_the_name_is_the_file_s_stem_unless_it_is_given(digits):
    assert load_config(digits).name == "digits"
    assert load_config(digits, ["name=other"]).name == "other"
    digits.write_text(DIGITS + "name: third\n")
    assert load_config(digits).name == "third"


def test_a_stem_that_is_no_name_says_where_it_came_from(digits):
    path = digits.rename(digits.with_name("my run.yaml"))
    assert lines_of(path)[1:] == [
        f'name: expected {NAME}, received "my run" (from the file\'s name; give the config a name)'
    ]


def test_input_paths_start_at_the_config_and_outputs_at_the_working_directory(digits):
    config = load_config(digits, ["model.weights=w.weights.h5", "data.test={kind: arrays, path: t.npz}"])
    folder = digits.parent.resolve()
    assert isinstance(config.data.source, CsvSource)
    assert config.data.source.path == folder.parent / "data" / "digits.csv"
    assert config.model.weights == folder / "w.weights.h5"
    assert config.data.test.path == folder / "t.npz"
    assert config.output_dir == Path("runs")


def test_absolute_paths_stay_and_need_not_exist(digits):
    config = load_config(digits, ["data.source.path=/nowhere/x.csv"])
    assert config.data.source.path == Path("/nowhere/x.csv")


PARQUET = "data.source={kind: parquet, label: y, path: %s}"


@pytest.mark.parametrize(
    "uri", ["s3://bucket/folder", "memory://a/../b.parquet", "zip://x.parquet::file:///a.zip"]
)
def test_a_uri_stays_as_it_is(digits, uri):
    assert load_config(digits, [PARQUET % uri]).data.source.path == uri


def test_a_location_without_a_scheme_is_a_path(digits):
    folder = digits.parent.resolve()
    assert load_config(digits, [PARQUET % "d/x.parquet"]).data.source.path == str(folder / "d" / "x.parquet")
    assert load_config(digits, [PARQUET % "/d/x.parquet"]).data.source.path == "/d/x.parquet"


@pytest.mark.parametrize("key", ["data.source.path", "model.weights"])
def test_a_uri_is_refused_where_only_a_path_can_be_opened(digits, key):
    assert lines_of(digits, f"{key}=s3://bucket/x")[1:] == [
        f'{key}: expected a path, received "s3://bucket/x"; only kind parquet opens URIs (from --set {key}=s3://bucket/x)'
    ]


def test_a_location_is_text(digits):
    assert lines_of(digits, PARQUET % 3)[1].startswith(
        "data.source.path: expected text that is not empty, received 3"
    )
    assert lines_of(digits, PARQUET % "''")[1].startswith('data.source.path: expected a path, received ""')


def test_strict_mode_still_takes_what_yaml_has_for_paths_tuples_and_floats(digits):
    config = load_config(
        digits,
        [
            "data.image.size=[28, 32]",
            "training.optimizer.learning_rate=1",
            "training.class_weight={0: 1, 9: 2.5}",
            "model.arguments={units: [64, 32], dropout: 1e-1, bias: true, name: null}",
        ],
    )
    assert config.data.image.size == (28, 32)
    assert config.training.optimizer.learning_rate == 1.0
    assert isinstance(config.training.optimizer.learning_rate, float)
    assert config.training.class_weight == {0: 1.0, 9: 2.5}
    assert config.model.arguments == {"units": [64, 32], "dropout": 0.1, "bias": True, "name": None}
    assert config.model.arguments["bias"] is True


def test_lax_pydantic_would_turn_true_into_one():
    # The reason for strict validation through JSON. In strict mode, Python values cannot be paths and tuples.
    assert TrainingSection.model_validate({"epochs": True}, strict=False).epochs == 1
    with pytest.raises(ValidationError):
        CsvSource.model_validate({"kind": "csv", "path": "a.csv", "label": "y"})


def test_model_copy_would_skip_validation():
    # The reason for overrides in the mapping, before validation.
    assert TrainingSection().model_copy(update={"epochs": "many"}).epochs == "many"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("training.epochs=true", "training.epochs: expected a whole number > 0, received true"),
        ("training.epochs=1e3", "training.epochs: expected a whole number > 0, received 1000.0"),
        ("training.epochs='3'", 'training.epochs: expected a whole number > 0, received "3"'),
        ("training.epochs=0", "training.epochs: expected a whole number > 0, received 0"),
        ("training.epochs=null", "training.epochs: expected a whole number > 0, received null"),
        ("data.split.test=1", "data.split.test: expected a number >= 0 and < 1, received 1"),
        ("data.split.test=true", "data.split.test: expected a number >= 0 and < 1, received true"),
        ("task.num_classes=1", "task.num_classes: expected a whole number > 1 or null, received 1"),
        (
            "deterministic=no",
            'deterministic: expected true or false, received "no"; did you mean false?',
        ),
        ("deterministic=1", "deterministic: expected true or false, received 1"),
        (
            "name=2024",
            f'name: expected {NAME}, received 2024; write it in quotes, "2024", if text is meant',
        ),
        ("name=", f"name: expected {NAME}, received null"),
        ("name=../other", f'name: expected {NAME}, received "../other"'),
        (
            "task.kind=image_clasification",
            "task.kind: expected one of image_classification, text_classification, audio_classification, "
            "tabular_classification, tabular_regression, time_series_forecasting, "
            'received "image_clasification"; did you mean image_classification?',
        ),
        ("data.remainder=3", "data.remainder: expected one of drop, partial, wrap, received 3"),
        ("topology.kind=mpi", 'topology.kind: expected one of local, processes, ray, received "mpi"'),
        ("topology.replicas=0", "topology.replicas: expected a whole number > 0 or auto, received 0"),
        (
            "training.steps_per_execution=aut",
            "training.steps_per_execution: expected a whole number or auto, "
            'received "aut"; did you mean auto?',
        ),
        ("training.jit_compile=1", "training.jit_compile: expected true or false or auto, received 1"),
        (
            "training.optimizer.learning_rate=fast",
            'training.optimizer.learning_rate: expected a number or a mapping with name, received "fast"',
        ),
        (
            "training.optimizer.learning_rate={name: 3}",
            "training.optimizer.learning_rate.name: expected text, received 3; "
            'write it in quotes, "3", if text is meant',
        ),
        (
            "training.loss=3",
            "training.loss: expected text, a mapping with name or null, received 3; "
            'write it in quotes, "3", if text is meant',
        ),
        (
            "training.metrics=accuracy",
            'training.metrics: expected a list or null, received "accuracy"',
        ),
        (
            "training.metrics=[accuracy, {nam: auc}]",
            "training.metrics.1.nam: unknown key; did you mean training.metrics.1.name?",
        ),
        ("training.metrics.0=auc", 'training.metrics: expected a list or null, received {"0": "auc"}'),
        (
            "training.class_weight={a: 1}",
            "training.class_weight.a: expected a whole number as the key",
        ),
        ("training.class_weight.0=x", 'training.class_weight.0: expected a number, received "x"'),
        ("training=", "training: expected a mapping of keys, received null; remove the key, or write {}"),
        ("model=", "model: expected a mapping with builder, received null"),
        ("model=cnn", 'model: expected a mapping with builder, received "cnn"'),
        ("model={}", "model.builder: required, expected text"),
        ("model.arguments=3", "model.arguments: expected a mapping, received 3"),
        (
            "model.arguments={x: [1, {a: 2}]}",
            'model.arguments.x.1: expected true or false, a number, text or null, received {"a": 2}',
        ),
        (
            "data.image.size=[28]",
            "data.image.size: expected a list of 2 whole numbers > 0 or null, received [28]",
        ),
        (
            "data.image.size=[1, 2, 3]",
            "data.image.size: expected a list of 2 whole numbers > 0 or null, received [1, 2, 3]",
        ),
        ("data.image.size=[0, 2]", "data.image.size.0: expected a whole number > 0, received 0"),
        ("data.source.path=3", "data.source.path: expected a path, received 3"),
        ('data.source.path=""', 'data.source.path: expected a path, received ""'),
        ('output_dir=""', 'output_dir: expected a path, received ""'),
        (
            "data.source.delimiter=ab",
            'data.source.delimiter: expected text of one character, received "ab"',
        ),
        ("data.source=3", "data.source: expected a mapping with kind, received 3"),
        ("data.source={path: x}", f"data.source.kind: required, expected {KINDS}"),
        (
            "data.source.kind=arays",
            f'data.source.kind: expected {KINDS}, received "arays"; did you mean arrays?',
        ),
        ("data.source.kind=3", f"data.source.kind: expected {KINDS}, received 3"),
        ("data.validation.kind=image_folder", "data.validation.path: required, expected a path"),
        (
            "data.source={kind: image_folder, path: x, channels: true}",
            "data.source.channels: expected one of 1, 3, received true",
        ),
        (
            "data.source={kind: image_folder, path: x, channels: 1.0}",
            "data.source.channels: expected one of 1, 3, received 1.0",
        ),
        (
            "data.source={kind: synthetic, shape: 3}",
            "data.source.shape: expected a list, received 3",
        ),
        ("data.split.test=.nan", "data.split.test: expected a finite number, received NaN"),
        (
            "training.optimizer.learning_rate=1e999",
            "training.optimizer.learning_rate: expected a finite number, received Infinity",
        ),
        ("seed=99999999999999999999", "seed: expected a whole number of at most 64 bits, received 9"),
        (
            'model.builder="a\\0b"',
            'model.builder: expected text without NUL and lone surrogates, received "a\\u0000b"',
        ),
        (
            'model.builder="\\ud800"',
            "model.builder: expected text without NUL and lone surrogates, received",
        ),
    ],
)
def test_a_wrong_value_is_one_line(digits, override, line):
    header, *lines = lines_of(digits, override)
    assert header == f"1 problem in {digits}"
    assert len(lines) == 1
    assert lines[0].startswith(line)
    assert lines[0].endswith(f" (from --set {override})")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("training.epoch=3", "training.epoch: unknown key; did you mean training.epochs?"),
        ("trainig.epochs=3", "trainig: unknown key; did you mean training?"),
        ("training.Epochs=3", "training.Epochs: unknown key; did you mean training.epochs?"),
        (
            "training.global-batch-size=3",
            "training.global-batch-size: unknown key; did you mean training.global_batch_size?",
        ),
        ("epochs=3", "epochs: unknown key; did you mean training.epochs?"),
        ("batch_size=3", "batch_size: unknown key; did you mean training.global_batch_size?"),
        (
            "training.learning_rate=1e-3",
            "training.learning_rate: unknown key; did you mean training.optimizer.learning_rate?",
        ),
        (
            "data.source.delimitr=x",
            "data.source.delimitr: unknown key; did you mean data.source.delimiter?",
        ),
        ("data.source.csv=x", "data.source.csv: unknown key; data.source has kind, path, label, features"),
        ("task.zzz=1", "task.zzz: unknown key; task has kind, num_classes"),
        ("zzz=1", "zzz: unknown key; the top level has "),
    ],
)
def test_an_unknown_key_is_told_what_was_meant(digits, override, line):
    _, *lines = lines_of(digits, override)
    assert len(lines) == 1
    assert lines[0].startswith(line)


def test_dotted_keys_are_not_for_files(digits):
    digits.write_text(DIGITS + "training.seed: 3\ntraining.epochs: 3\n")
    assert (
        lines_of(digits)[2] == "training.epochs: dots join keys only in --set; in a file, write nested keys"
    )


def test_the_key_of_another_kind_is_told_what_this_kind_has(digits):
    lines = lines_of(digits, "data.source.stride=2")
    assert lines[1].startswith("data.source.stride: unknown key; data.source has kind, path, label, features")


def test_a_misspelt_required_key_is_one_problem(digits):
    lines = lines_of(digits, "model={bilder: cnn}")
    assert lines[1:] == [
        "model.bilder: unknown key; did you mean model.builder? (from --set model={bilder: cnn})"
    ]


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ('"\\ud800"', r"'\ud800': expected text without NUL and lone surrogates as the key"),
        ('"a\\0"', r"'a\x00': expected text without NUL and lone surrogates as the key"),
        ('"a\\nb"', r"'a\nb': unknown key; "),
    ],
)
def test_a_key_that_cannot_be_printed_is_escaped(digits, key, line):
    digits.write_text(f"{DIGITS}{key}: 3\n")
    assert lines_of(digits)[1].startswith(line)


def test_an_almost_empty_config_lists_what_is_required(digits):
    digits.write_text("seed: 3\n")
    assert lines_of(digits) == [
        f"3 problems in {digits}",
        "task: required, expected a mapping with kind",
        "data: required, expected a mapping with source",
        "model: required, expected a mapping with builder",
    ]


def test_all_problems_are_said_at_once_with_rules_between_keys(digits):
    text = DIGITS.replace("epochs: 3", "epochs: 0, class_weight: {10: 1.0}").replace("builder", "bulder")
    digits.write_text(text.replace("bulder", "builder") + "sed: 3\n")
    assert lines_of(digits, "checkpoint.keep=no") == [
        f"4 problems in {digits}",
        "training.epochs: expected a whole number > 0, received 0",
        'checkpoint.keep: expected a whole number > 0, received "no" (from --set checkpoint.keep=no)',
        "sed: unknown key; did you mean seed?",
        "training.class_weight.10: no such class; class indices run from 0 to 9",
    ]


def test_a_message_has_at_most_twelve_lines(digits):
    lines = lines_of(digits, *[f"x{i:02}z=1" for i in range(17)])
    assert lines[0].startswith("17 problems")
    assert len(lines) == 12
    assert lines[-1] == "... and 7 more"


def test_eleven_problems_still_fit(digits):
    lines = lines_of(digits, *[f"x{i:02}z=1" for i in range(11)])
    assert len(lines) == 12
    assert lines[-1].startswith("x10z")


def test_a_long_value_is_shortened(digits):
    line = lines_of(digits, f"training.epochs={'x' * 500}")[1]
    assert f'received "{"x" * 76}...' in line


def test_only_the_problem_of_an_override_names_it(digits):
    digits.write_text(DIGITS.replace("epochs: 3", "epochs: many"))
    assert lines_of(digits, "training.global_batch_size=0")[1:] == [
        'training.epochs: expected a whole number > 0, received "many"',
        "training.global_batch_size: expected a whole number > 0, received 0 "
        "(from --set training.global_batch_size=0)",
    ]


def test_what_a_new_kind_requires_names_the_override(digits):
    assert lines_of(digits, "data.source.kind=synthetic")[1:] == [
        "data.source.shape: required, expected a list (from --set data.source.kind=synthetic)"
    ]


def test_a_kind_can_be_changed_from_the_command_line(digits):
    config = load_config(digits, ["data.source.kind=synthetic", "data.source.shape=[8, 8, 1]"])
    assert config.data.source == SyntheticSource(kind="synthetic", shape=[8, 8, 1])


def test_null_sections_open_for_overrides(digits):
    digits.write_text(DIGITS.replace("{epochs: 3}", "{early_stopping: null}") + "checkpoint:\n")
    config = load_config(digits, ["training.early_stopping.patience=3", "checkpoint.keep=7"])
    assert config.training.early_stopping.patience == 3
    assert config.checkpoint.keep == 7


def test_an_error_survives_a_trip_between_processes(digits):
    with pytest.raises(InvalidConfigError) as caught:
        load_config(digits, ["training.epochs=0"])
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert str(again) == str(caught.value)
    assert again.problems == caught.value.problems


def test_a_mapping_from_python_may_hold_paths_and_tuples(tmp_path):
    config = config_from_mapping(
        {
            "name": "a",
            "task": {"kind": "image_classification"},
            "data": {"source": {"kind": "arrays", "path": Path("d.npz")}, "image": {"size": (8, 8)}},
            "model": {"builder": "cnn"},
            "training": {"class_weight": {0: 1.0}},
        },
        origin="the mapping",
        base_folder=tmp_path,
    )
    assert isinstance(config, Config)
    assert config.data.source.path == tmp_path.resolve() / "d.npz"
    assert config.training.class_weight == {0: 1.0}


def test_a_mapping_from_python_holds_plain_values_and_a_name(tmp_path):
    mapping = {
        "task": {"kind": "image_classification"},
        "data": {"source": {"kind": "arrays", "path": b"x"}},
        "model": {"builder": len},
    }
    with pytest.raises(ConfigError) as caught:
        config_from_mapping(mapping, origin="the mapping", base_folder=tmp_path)
    plain = "expected a plain value (text, number, true, false, null, list or mapping)"
    assert caught.value.lines() == [
        "3 problems in the mapping",
        f"  data.source.path: {plain}, received b'x'",
        f"  model.builder: {plain}, received <built-in function len>",
        f"  name: required, expected {NAME}",
    ]


KEYS = st.sampled_from(sorted({".".join(key) for key in all_keys()} | {"training.metrics.0", "x.y", "kind"}))
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["csv", "synthetic", "kind", "auto"]),
    lambda inside: (
        st.lists(inside) | st.dictionaries(st.text() | st.sampled_from(["kind", "name", "path"]), inside)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, ANYTHING, min_size=1, max_size=4))
def test_whatever_is_written_gives_a_config_or_a_readable_error(changes):
    overrides = [Override(key, tuple(key.split(".")), value) for key, value in changes.items()]
    document = apply_overrides(parse_document(DIGITS, "f"), overrides)
    try:
        config = config_from_mapping({"name": "a", **document}, origin="f", base_folder=Path("/"))
    except InvalidConfigError as error:
        check_readable(error)
    else:
        assert config_from_mapping(to_mapping(config), origin="f", base_folder=Path("/")) == config


def check_readable(error):
    lines = [problem.line for problem in error.problems]
    assert 2 <= len(error.lines()) <= 12
    assert all(problem.key and problem.text for problem in error.problems)
    assert len(set(lines)) == len(lines)


def test_the_paths_of_a_mixture_start_at_the_config(tmp_path):
    (tmp_path / "mixed.yaml").write_text(
        "task: {kind: tabular_regression}\n"
        "data:\n  source:\n    kind: mixture\n    sources:\n"
        "      - source: {kind: csv, path: a.csv, label: y}\n"
        '      - source: {kind: parquet, path: "s3://b/c", label: y}\n'
        "  cache: {where: disk, folder: kept}\n"
        "model: {builder: mlp}\n"
    )
    data = load_config(tmp_path / "mixed.yaml").data
    assert [str(one.source.path) for one in data.source.sources] == [str(tmp_path / "a.csv"), "s3://b/c"]
    assert data.cache.folder == tmp_path / "kept"
