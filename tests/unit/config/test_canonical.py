"""A config as values, YAML, a hash, and the difference of two."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distkeras.config import (
    ABSENT,
    config_from_mapping,
    diff,
    dump_yaml,
    identity,
    load_config,
    schema,
    to_mapping,
)
from distkeras.config.documents import parse_document
from distkeras.config.keys import all_keys
from distkeras.config.loader import EACH, INPUT_PATHS, OUTPUT_PATHS

TEXT = """\
name: a
task: {kind: image_classification, num_classes: 12}
data:
  source: {kind: csv, path: a.csv, label: y}
model: {builder: cnn, arguments: {units: [3, 4], rate: 0.5}}
training: {class_weight: {0: 1.0, 10: 2.0, 2: 3.0}}
"""
FREE = [
    "name=other",
    "output_dir=elsewhere",
    "logging.every_steps=3",
    "logging.tensorboard=false",
    "checkpoint.keep=9",
    "topology.replicas=2",
    "topology.devices=cpu",
    "training.epochs=77",
    "training.steps_per_execution=5",
]
BINDING = [
    "seed=1",
    "deterministic=true",
    "task.num_classes=13",
    "data.source.label=z",
    "data.shuffle=false",
    "data.split.seed=1",
    "model.builder=mlp",
    "model.arguments.rate=0.25",
    "training.global_batch_size=32",
    "training.optimizer.name=sgd",
    "training.class_weight.0=2",
    "training.precision=mixed_bfloat16",
    "training.early_stopping={}",
    "topology.sync_batch_norm=true",
]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(TEXT)
    return file


def test_a_mapping_is_plain_and_starts_with_what_a_run_is(path):
    mapping = to_mapping(load_config(path, ["data.image.size=[8, 9]", "training.class_weight=null"]))
    assert json.loads(json.dumps(mapping)) == mapping
    assert list(mapping)[:4] == ["name", "task", "data", "model"]
    assert mapping["data"]["image"]["size"] == [8, 9]
    assert mapping["data"]["source"]["path"] == str(path.parent.resolve() / "a.csv")


def test_a_mapping_becomes_the_same_config(path):
    config = load_config(path)
    assert config_from_mapping(to_mapping(config), origin="f", base_folder=Path("/")) == config
    through_json = json.loads(json.dumps(to_mapping(config)))
    assert config_from_mapping(through_json, origin="f", base_folder=Path("/")) == config


def test_yaml_is_read_back_from_any_folder(path, tmp_path):
    config = load_config(path)
    resolved = tmp_path / "runs" / "config.resolved.yaml"
    resolved.parent.mkdir()
    resolved.write_text(dump_yaml(config))
    assert load_config(resolved) == config
    assert dump_yaml(load_config(resolved)) == resolved.read_text()


WORDS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    WORDS,
    st.sampled_from(["no", "1e5", "08", "2026-11-20", "~", "1:30", "true"]),
)


@settings(max_examples=60, deadline=None)
@given(
    arguments=st.dictionaries(WORDS, st.one_of(SCALARS, st.lists(SCALARS))),
    rate=st.floats(allow_nan=False, allow_infinity=False),
    weights=st.none() | st.dictionaries(st.integers(0, 10**6), st.floats(0, 1e30)),
    size=st.none() | st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)),
    label=WORDS,
)
def test_any_config_goes_through_yaml(arguments, rate, weights, size, label):
    mapping = {
        "name": "a",
        "task": {"kind": "image_classification"},
        "data": {"source": {"kind": "csv", "path": f"/{label}", "label": label}, "image": {"size": size}},
        "model": {"builder": "cnn", "arguments": arguments},
        "training": {"class_weight": weights, "optimizer": {"learning_rate": rate}},
    }
    config = config_from_mapping(mapping, origin="f", base_folder=Path("/"))
    again = config_from_mapping(parse_document(dump_yaml(config), "f"), origin="f", base_folder=Path("/"))
    assert again == config
    assert identity(again) == identity(config)
    assert diff(config, again) == []


def test_identity_is_the_same_in_every_process(path):
    code = (
        "import sys; from pathlib import Path; from distkeras.config import identity, load_config;"
        "print(identity(load_config(Path(sys.argv[1]))))"
    )
    root = Path(__file__).parents[3]
    seen = {
        subprocess.run(
            [sys.executable, "-c", code, str(path)],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert seen == {identity(load_config(path))}
    assert all(len(value) == 64 for value in seen)


@pytest.mark.parametrize("override", FREE)
def test_identity_leaves_out_what_does_not_change_the_numbers(path, override):
    changed = load_config(path, [override])
    assert changed != load_config(path)
    assert identity(changed) == identity(load_config(path))


@pytest.mark.parametrize("override", BINDING)
def test_identity_covers_what_changes_the_numbers(path, override):
    assert identity(load_config(path, [override])) != identity(load_config(path))


def test_identity_does_not_depend_on_the_order_of_keys(path):
    before = identity(load_config(path))
    path.write_text(
        TEXT.replace("{0: 1.0, 10: 2.0, 2: 3.0}", "{2: 3, 10: 2, 0: 1}").replace(
            "{units: [3, 4], rate: 0.5}", "{rate: 0.5, units: [3, 4]}"
        )
    )
    assert identity(load_config(path)) == before


def test_diff_gives_dotted_keys_with_both_values(path):
    a = load_config(path)
    b = load_config(
        path, ["training.epochs=3", "model.arguments={rate: 0.5, depth: 2}", "data.image.size=[8, 8]"]
    )
    assert diff(a, b) == [
        ("data.image.size", None, [8, 8]),
        ("model.arguments.units", [3, 4], ABSENT),
        ("model.arguments.depth", ABSENT, 2),
        ("training.epochs", 1, 3),
    ]
    assert diff(a, a) == []


def test_diff_tells_true_from_one_and_null_from_absent(path):
    a = load_config(path, ["model.arguments={x: true, y: null}"])
    b = load_config(path, ["model.arguments={x: 1}"])
    assert diff(a, b) == [("model.arguments.x", True, 1), ("model.arguments.y", None, ABSENT)]
    assert str(ABSENT) == "(absent)"


def test_diff_of_a_section_that_one_config_lacks(path):
    differences = diff(load_config(path), load_config(path, ["training.early_stopping.patience=3"]))
    assert [(key, a) for key, a, _ in differences] == [("training.early_stopping", None)]
    assert differences[0][2]["patience"] == 3


def test_the_schema_describes_every_key():
    sections = schema()["$defs"]
    for owner, section in {**sections, "Config": schema()}.items():
        assert section["description"], owner
        for name, field in section["properties"].items():
            referred = sections.get(field.get("$ref", "").removeprefix("#/$defs/"), {})
            assert (
                name == "kind" or "source" in name or field.get("description") or referred["description"]
            ), name


def test_the_schema_is_json_and_does_not_require_the_name():
    assert json.loads(json.dumps(schema())) == schema()
    assert schema()["required"] == ["task", "data", "model"]
    assert schema()["additionalProperties"] is False
    epochs = schema()["$defs"]["TrainingSection"]["properties"]["epochs"]
    assert epochs["description"] == "Passes over the training examples."


def test_every_path_is_known_to_the_loader():
    # A new path in the sections must be declared as read (resolved against the config) or written.
    sections = [*schema()["$defs"].values(), schema()]
    fields = [
        (name, json.dumps(field)) for section in sections for name, field in section["properties"].items()
    ]
    names = {name for name, field in fields if '"format": "path"' in field}
    assert names == {key[-1] for key in (*INPUT_PATHS, *OUTPUT_PATHS)}
    without_lists = {key for key in (*INPUT_PATHS, *OUTPUT_PATHS) if EACH not in key}
    assert {key for key in all_keys() if key[-1] in names} == without_lists
