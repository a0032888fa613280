"""Strict YAML: what PyYAML would guess is read as written, or refused with a sentence."""

import math
import os
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from distkeras.config.documents import (
    MAX_FILE_BYTES,
    parse_document,
    parse_value,
    read_document,
    render_document,
    value_at,
)
from distkeras.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("1.", 1.0),
        (".5", 0.5),
        ("-2.5e+3", -2500.0),
        ("3", 3),
        ("+3", 3),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("2026-11-20", "2026-11-20"),
        ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00Z"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("=", "="),
        ("'3'", "3"),
        ('"true"', "true"),
        ("[28, 1e-2, no]", [28, 0.01, "no"]),
        ("{name: adamw, arguments: {beta_1: 0.9}}", {"name": "adamw", "arguments": {"beta_1": 0.9}}),
    ],
)
def test_a_scalar_is_what_yaml_1_2_says(text, value):
    read = parse_value(text, f"x={text}")
    assert read == value
    assert type(read) is type(value)
    assert parse_document(f"a: {text}", "f")["a"] == value


def test_pyyaml_would_guess_otherwise():
    # The reason for a loader of our own. If one of these fails, PyYAML has changed.
    assert yaml.safe_load("a: 1e-3") == {"a": "1e-3"}
    assert yaml.safe_load("a: no") == {"a": False}
    assert yaml.safe_load("a: 1\na: 2") == {"a": 2}


def test_infinity_and_nan_are_floats():
    assert parse_value("-.inf", "x=-.inf") == -math.inf
    assert math.isnan(parse_value(".nan", "x=.nan"))


def test_whole_numbers_as_keys_become_text():
    assert parse_document("w: {0: 1.0, 1: 2.0}", "f") == {"w": {"0": 1.0, "1": 2.0}}


def test_a_byte_order_mark_is_not_part_of_the_first_key(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: a\n")
    assert read_document(path) == {"name": "a"}


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", "The key 'c' appears twice.", 4),
        ("a: 1\nb: 2\na: 1\n", "The key 'a' appears twice.", 3),
        ("w:\n  0: 1.0\n  '0': 2.0\n", "The key '0' appears twice.", 3),
        ("a: &x 1\nb: *x\n", "Anchors (&) and aliases (*) are not supported; write the value out.", 1),
        ("a: 1\nb: *x\n", "Anchors (&) and aliases (*) are not supported; write the value out.", 2),
        ("a: !!python/object/apply:os.system [ls]\n", "Tags (!) are not supported; write a plain value.", 1),
        ("a: !!int '3'\n", "Tags (!) are not supported; write a plain value.", 1),
        ("a: 1\nb: " + "[" * 40, "Values are nested more than 20 deep.", 2),
        ("a:\n\tb: 1\n", "A tab stands where YAML allows only spaces.", 2),
        ("a: 1\n---\nb: 1\n", "The config holds more than one YAML document (---).", 2),
        ("a: 1\ntrue: 2\n", "A key must be text or a whole number.", 2),
        ("1.5: 2\n", "A key must be text or a whole number.", 1),
        ("a: {{ b }}\n", "A key must be text or a whole number.", 1),
        ("a: 1\nb: [1, 2\n", "Not valid YAML: expected ',' or ']', but got '<stream end>'.", 3),
        ("a: 1\n b: 2\n", "Not valid YAML: mapping values are not allowed here.", 2),
        ("a: 1\nb: \x07\n", "The character U+0007 is not allowed in YAML.", 2),
        (f"a: 1\nb: {'9' * 5000}\n", "The number has 5000 digits.", 2),
    ],
)
def test_what_is_not_strict_yaml_is_refused_with_its_line(text, problem, line):
    with pytest.raises(ConfigError) as caught:
        parse_document(text, "run.yaml")
    assert caught.value.problem == problem
    assert caught.value.place == f"run.yaml, line {line}"


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "null\n", "---\n"])
def test_an_empty_config_is_refused(text):
    with pytest.raises(ConfigError, match=r"^The config is empty\.") as caught:
        parse_document(text, "run.yaml")
    assert "task, data and model" in str(caught.value)


@pytest.mark.parametrize(("text", "kind"), [("- a\n", "a list"), ("name\n", "a single value")])
def test_the_top_level_is_a_mapping(text, kind):
    with pytest.raises(ConfigError, match=f"^The top level of a config is a mapping of keys, not {kind}"):
        parse_document(text, "run.yaml")


def test_billion_laughs_do_not_grow():
    laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    laughs += "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(ConfigError, match="Anchors"):
        parse_document(laughs, "run.yaml")


def test_a_value_that_is_not_yaml_names_the_argument():
    with pytest.raises(ConfigError) as caught:
        parse_value("[1, 2", "data.image.size=[1, 2")
    assert caught.value.place == "--set data.image.size=[1, 2"
    assert """Quote text with special characters: --set 'data.image.size="..."'""" in str(caught.value)


def test_a_missing_file_is_named_with_a_similar_one(tmp_path):
    (tmp_path / "digits.yaml").write_text("name: a\n")
    with pytest.raises(ConfigError, match=r"^The config file does not exist\.") as caught:
        read_document(tmp_path / "digit.yaml")
    assert f"Did you mean {tmp_path / 'digits.yaml'}?" in str(caught.value)


def test_a_missing_file_with_no_similar_one_explains_relative_paths(tmp_path):
    with pytest.raises(ConfigError, match="a relative path starts at the working directory"):
        read_document(tmp_path / "nowhere" / "digits.yaml")


def test_a_folder_is_not_a_config(tmp_path):
    with pytest.raises(ConfigError, match=r"^The config path is a folder, not a file\."):
        read_document(tmp_path)


def test_a_file_under_a_file_cannot_be_read(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(ConfigError, match=r"^The config file cannot be read: .*Not a directory"):
        read_document(tmp_path / "a" / "b.yaml")


@pytest.fixture
def without_privileges():
    """Root may read everything, so root becomes nobody for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


def test_a_file_without_permission_is_refused(tmp_path, request):
    path = tmp_path / "a.yaml"
    path.write_text("name: a\n")
    path.chmod(0)
    request.getfixturevalue("without_privileges")
    with pytest.raises(ConfigError, match=r"^No permission to read the config file\."):
        read_document(path)


def test_text_in_another_encoding_is_refused(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes("name: a\n# größe\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"^The config file is not UTF-8 text\.") as caught:
        read_document(path)
    assert caught.value.place == f"{path}, line 2"


def test_a_large_file_is_refused_before_it_is_parsed(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"[" * (MAX_FILE_BYTES + 1))
    with pytest.raises(ConfigError, match=r"^The config file is larger than 250,000 bytes\."):
        read_document(path)


def test_an_endless_file_is_refused():
    with pytest.raises(ConfigError, match="larger than 250,000 bytes"):
        read_document(Path("/dev/zero"))


def test_value_at_is_null_where_there_is_nothing():
    assert value_at({"a": {"b": 3}}, ("a", "b")) == 3
    assert value_at({"a": {"b": 3}}, ("a", "c", "d")) is None


TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))
TRICKY = st.sampled_from(
    [
        "no",
        "yes",
        "1e5",
        "1e-3",
        "08",
        "0o17",
        "1:30",
        "2026-11-20",
        "~",
        "",
        " ",
        "null",
        "- a",
        "a: b",
        "=",
        "<<",
        ".5",
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXT,
    TRICKY,
)
VALUES = st.recursive(
    SCALARS,
    lambda inside: st.one_of(st.lists(inside), st.dictionaries(st.one_of(TEXT, TRICKY), inside)),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.one_of(TEXT, TRICKY), VALUES, min_size=1))
def test_what_is_rendered_is_read_back(document):
    text = render_document(document)
    assert repr(parse_document(text, "f")) == repr(document)


@settings(deadline=None)
@given(TRICKY)
def test_other_readers_see_text_as_text(value):
    assert yaml.safe_load(render_document({"a": value})) == {"a": value}


def test_one_value_used_twice_is_written_twice():
    shared = [1, 2]
    assert not re.search("[&*]", render_document({"a": shared, "b": shared}))
