"""`--set`: pure changes of a document."""

import pytest

from distkeras.config.overrides import apply_overrides, parse_override
from distkeras.errors import ConfigError

CSV = {"data": {"source": {"kind": "csv", "path": "a.csv", "label": "y", "delimiter": ";", "typo": 1}}}


def apply(document, *arguments):
    return apply_overrides(document, [parse_override(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("argument", "key", "value"),
    [
        ("a=1", ("a",), 1),
        ("a.b.c=1e-3", ("a", "b", "c"), 1e-3),
        ("a.b=x=y", ("a", "b"), "x=y"),
        ("a=", ("a",), None),
        ("model.builder=pkg.module:build", ("model", "builder"), "pkg.module:build"),
        ("a=[1, {b: no}]", ("a",), [1, {"b": "no"}]),
    ],
)
def test_an_argument_is_a_key_and_a_yaml_value(argument, key, value):
    override = parse_override(argument)
    assert (override.key, override.value) == (key, value)
    assert override.source == f"from --set {argument}"


@pytest.mark.parametrize("argument", ["", "training.epochs", "=3", ".a=3", "a..b=3", "a.=3"])
def test_an_argument_of_another_form_is_refused(argument):
    with pytest.raises(ConfigError, match=r"^--set takes KEY=VALUE with a dotted key\.") as caught:
        parse_override(argument)
    assert "For example: --set training.epochs=3" in str(caught.value)
    assert caught.value.received == argument


def test_the_document_is_left_as_it_was():
    document = {"a": {"b": 1}}
    assert apply(document, "a.b=2", "a.c=3", "d.e=4") == {"a": {"b": 2, "c": 3}, "d": {"e": 4}}
    assert document == {"a": {"b": 1}}


def test_of_two_for_one_key_the_last_holds():
    assert apply({}, "a=1", "a=2") == {"a": 2}
    assert apply({}, "a={b: 1}", "a.b=2") == {"a": {"b": 2}}
    assert apply({}, "a.b=2", "a={c: 1}") == {"a": {"c": 1}}


def test_null_and_plain_values_give_way_to_a_section():
    assert apply({"a": None, "b": 0.1}, "a.x=1", "b.name=cosine") == {"a": {"x": 1}, "b": {"name": "cosine"}}


def test_a_new_kind_takes_the_old_kind_s_own_keys_away_but_no_other():
    changed = apply(CSV, "data.source.kind=arrays")["data"]["source"]
    assert changed == {"kind": "arrays", "path": "a.csv", "label": "y", "typo": 1}


def test_a_new_kind_leaves_what_the_command_line_sets():
    changed = apply(CSV, "data.source.delimiter=x", "data.source.kind=arrays")["data"]["source"]
    assert changed["delimiter"] == "x"


@pytest.mark.parametrize("kind", ["csv", "unknown", "3"])
def test_the_same_or_an_unknown_kind_takes_nothing_away(kind):
    changed = apply(CSV, f"data.source.kind={kind}")["data"]["source"]
    assert {name: value for name, value in changed.items() if name != "kind"} == {
        name: value for name, value in CSV["data"]["source"].items() if name != "kind"
    }


def test_a_kind_that_chooses_no_section_takes_nothing_away():
    document = {"task": {"kind": "image_classification", "num_classes": 3}}
    assert apply(document, "task.kind=tabular_regression") == {
        "task": {"kind": "tabular_regression", "num_classes": 3}
    }
