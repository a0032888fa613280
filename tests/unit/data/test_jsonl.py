"""JSON Lines: read in any order from any number of files, with every bad line found at opening."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from distkeras.config.source_sections import JsonlSource as Section
from distkeras.data.bad_data import find_unreadable_example
from distkeras.data.sources import json_lines, jsonl
from distkeras.data.sources.jsonl import JsonlSource
from distkeras.errors import DataError

REVIEWS = [("Übel", "bad"), ("so-so\n", "fair"), ("", "bad"), ('"great" 😀', "good")]


def write(path: Path, *rows: object) -> Path:
    """Writes a line for each row: text as it is, anything else as JSON."""
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def review(text: Any, label: Any = "good") -> dict[str, Any]:
    return {"id": 7, "text": text, "label": label}


def opened(path: Path, *, labelled: bool = True, **keys: str) -> JsonlSource:
    return JsonlSource(Section.model_validate({"kind": "jsonl", "path": path, **keys}), labelled=labelled)


def refusal(path: Path, *rows: object, **keys: str) -> str:
    with pytest.raises(DataError) as caught:
        opened(write(path, *rows), **keys)
    return str(caught.value)


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    return write(tmp_path / "reviews.jsonl", *(review(*row) for row in REVIEWS))


def test_texts_and_labels(reviews: Path) -> None:
    source = opened(reviews)
    assert source.class_names == ("bad", "fair", "good")
    assert source.labels().tolist() == [0, 1, 0, 2]
    assert (source.granularity, source.feature_shape, source.feature_dtype) == ("batch", (), "string")
    assert source.needs_tensorflow
    texts, labels = source.read_arrays(np.array([3, 0, 3, 1]))
    assert [text.decode() for text in texts] == ['"great" 😀', "Übel", '"great" 😀', "so-so\n"]
    assert labels.tolist() == [2, 0, 2, 1]


def test_reads_in_a_pipeline(reviews: Path) -> None:
    dataset = tf.data.Dataset.from_tensors(np.int64([2, 1])).map(opened(reviews).read)
    assert dataset.element_spec[0] == tf.TensorSpec((2,), tf.string)
    [(texts, labels)] = dataset.as_numpy_iterator()
    assert texts.tolist() == [b"", b"so-so\n"]
    assert labels.tolist() == [0, 1]


def test_lists_of_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *(review([i, i / 3], i / 2) for i in range(5)))
    source = opened(path)
    assert (source.feature_shape, source.feature_dtype, source.needs_tensorflow) == ((2,), "float32", False)
    assert source.labels().dtype == np.float32
    features, labels = source.read_arrays(np.array([4, 2]))
    np.testing.assert_array_equal(features, np.float32([[4, 4 / 3], [2, 2 / 3]]))
    np.testing.assert_array_equal(labels, np.float32([2, 1]))


@pytest.mark.parametrize(
    ("labels", "dtype", "values"),
    [
        ([3, 0], np.int64, [3, 0]),
        ([3, 0.5], np.float32, [3, 0.5]),
        ([0.5, 3], np.float32, [0.5, 3]),
        ([True, False], np.int64, [1, 0]),
        (["2021-01-02", "2020-01-01"], np.int64, [1, 0]),
    ],
)
def test_labels_of_other_types(tmp_path: Path, labels: list[Any], dtype: type, values: list[float]) -> None:
    source = opened(write(tmp_path / "a.jsonl", *(review("x", label) for label in labels)))
    assert source.labels().dtype == dtype
    assert source.labels().tolist() == values


def test_a_folder_is_read_in_the_order_of_names_with_any_line_ends(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(
        b'\xef\xbb\xbf{"text":"3","label":1}\r\n\r\n \t{"text":"4","label":1} \r\n'
    )
    (tmp_path / "a.jsonl").write_bytes(b'\n\n{"text":"1","label":0}\n\n{"text":"2","label":0}')
    (tmp_path / "0.jsonl").touch()
    (tmp_path / "c.json").write_text("not read")
    source = opened(tmp_path)
    for ids in ([0, 1, 2, 3], [3, 0, 2, 1], [2], [1, 3, 1]):
        texts, labels = source.read_arrays(np.array(ids))
        assert texts.tolist() == [str(example_id + 1).encode() for example_id in ids]
        assert labels.tolist() == [int(example_id > 1) for example_id in ids]
    places = [source.locate(example_id) for example_id in range(4)]
    assert places == ["a.jsonl line 3", "a.jsonl line 5", "b.jsonl line 1", "b.jsonl line 3"]
    assert source.file_of(np.array([3, 0])).tolist() == [2, 1]
    assert source.bytes_of(np.array([1])).tolist() == [len('{"text":"2","label":0}')]


def test_many_lines_in_every_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Blocks so small that lines, and what Arrow parses at once, cross their borders.
    monkeypatch.setattr(json_lines, "SCAN_BYTES", 1000)
    monkeypatch.setattr(jsonl, "PARSE_BYTES", 100)
    random = np.random.default_rng(0)
    rows = [review("x" * int(random.integers(0, 300)) + str(i), int(random.integers(4))) for i in range(500)]
    write(tmp_path / "a.jsonl", *rows[:300])
    write(tmp_path / "b.jsonl", *rows[300:])
    source = opened(tmp_path)
    ids = random.permutation(500)
    texts, labels = source.read_arrays(ids)
    assert [text.decode() for text in texts] == [rows[i]["text"] for i in ids]
    assert labels.tolist() == [rows[i]["label"] for i in ids]


def test_new_data_needs_no_labels(tmp_path: Path) -> None:
    source = opened(write(tmp_path / "a.jsonl", {"text": "x"}, review("y", None)), labelled=False)
    assert source.labels().tolist() == [0, 0]
    assert source.class_names is None
    assert source.read_arrays(np.array([1]))[0].tolist() == [b"y"]


def test_the_fingerprint_is_of_the_content_and_of_what_is_read(reviews: Path, tmp_path: Path) -> None:
    before = opened(reviews).fingerprint
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    copy = elsewhere / "copy.jsonl"
    copy.write_bytes(reviews.read_bytes())
    assert opened(copy).fingerprint == before
    assert opened(copy, features="label", label="id").fingerprint != before
    copy.write_bytes(reviews.read_bytes().replace(b"so-so", b"so-SO"))
    assert opened(copy).fingerprint != before


def test_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no such JSON Lines file or folder"):
        opened(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"A folder has no \.jsonl files"):
        opened(tmp_path)


@pytest.mark.parametrize("content", ["", "\n", " \n\r\n"])
def test_no_lines(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(DataError, match="There are no lines in the JSON Lines data"):
        opened(tmp_path / "a.jsonl")


def test_a_folder_called_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(DataError, match="A JSON Lines file cannot be read"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("line", "sentence", "detail"),
    [
        ('{"text": "a" "label": "b"}', "A line is not JSON.", "Expecting ',' delimiter"),
        ('{"text": "a", "label": "b"', "A line is not JSON.", "Expecting ',' delimiter"),
        ('{"text": "a", "label": "b"}{"text": "c", "label": "d"}', "A line is not JSON.", "Extra data"),
        ('{"text": "a",\n"label": "b"}', "A line is not JSON.", "Expecting property name"),
        ('["a", "b"]', "A line is JSON, but no object.", "received: ['a', 'b']"),
        ("text", "A line is not JSON.", "Expecting value"),
        ('{"text": "a"}', "There is no member 'label' in a line.", "Its members are: text."),
        ('{"txt": "a", "label": "b"}', "There is no member 'text' in a line.", "Did you mean 'txt'?"),
        ('{"text": "a", "label": "b", "label": "c"}', "The member 'label' stands twice in a line.", "remove"),
        (review("a", None), "The member 'label' is null; in the first line it is a text.", "alike"),
        (review("a", 1), "The member 'label' is a number; in the first line it is a text.", "received: 1"),
        (review(None), "The member 'text' is null; in the first line it is a text.", "alike"),
        (review(1), "The member 'text' is a number; in the first line it is a text.", "received: 1"),
        (review([1]), "The member 'text' is a list of 1 numbers; in the first line it is a text.", "[1]"),
        (review({"a": 1}), "The member 'text' is an object; in the first line it is a text.", "alike"),
        (review(True), "The member 'text' is true or false; in the first line it is a text.", "True"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: object, sentence: str, detail: str) -> None:
    rows = [review(*row) for row in REVIEWS]
    text = refusal(tmp_path / "a.jsonl", *rows, "", line, *rows)
    assert sentence in text
    assert "where: a.jsonl line 6" in text
    assert detail in text
    if "first line" not in sentence:
        assert sentence in refusal(tmp_path / "a.jsonl", line)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1], "a list of 1 numbers"),
        ([1, 2, 3], "a list of 3 numbers"),
        ([1, None], "a list of something else than finite float32 numbers"),
        ([1, 1e39], "a list of something else than finite float32 numbers"),
        ([1, float("nan")], "a list of something else than finite float32 numbers"),
        ([1, "2"], "a list of something else than finite float32 numbers"),
        ([], "a list of something else than finite float32 numbers"),
        (None, "null"),
        ("a", "a text"),
    ],
)
def test_lists_must_be_of_one_length_and_of_numbers(tmp_path: Path, values: Any, kind: str) -> None:
    rows = [review([1, 2.5], 1)] * 3
    text = refusal(tmp_path / "a.jsonl", *rows, review(values, 1))
    assert f"The member 'text' is {kind}; in the first line it is a list of 2 numbers." in text
    assert "where: a.jsonl line 4" in text


def test_what_is_not_utf8(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", review("a"))
    path.write_bytes(path.read_bytes() * 2 + b'{"text": "\xff", "label": "good"}\n')
    with pytest.raises(DataError, match=r"A line is not JSON\.") as caught:
        opened(path)
    assert caught.value.place == "a.jsonl line 3"
    assert "can't decode byte 0xff" in str(caught.value.received)


@pytest.mark.parametrize("features", [1, None, [], ["a"], {"a": 1}])
def test_features_of_no_use_are_refused_at_the_first_line(tmp_path: Path, features: object) -> None:
    text = refusal(tmp_path / "a.jsonl", review(features))
    assert re.search(r"The features are .*; they must be a text or a list of numbers\.", text)
    assert "where: a.jsonl line 1, member 'text'" in text


@pytest.mark.parametrize("label", [None, [1], {"a": 1}])
def test_a_label_of_no_use_is_refused_at_the_first_line(tmp_path: Path, label: object) -> None:
    text = refusal(tmp_path / "a.jsonl", review("a", label))
    assert re.search(r"The label is .*; it must be a text or a number\.", text)
    assert "where: a.jsonl line 1, member 'label'" in text


def test_a_label_that_is_not_finite(tmp_path: Path) -> None:
    text = refusal(tmp_path / "a.jsonl", review("a", 0.5), review("b", float("inf")))
    assert "Column 'label' is no finite float32 in 1 row." in text
    assert "where: a.jsonl line 2, column 'label'" in text


def test_a_member_is_feature_or_label(reviews: Path) -> None:
    with pytest.raises(DataError, match="The member 'text' is feature and label at once"):
        opened(reviews, label="text")


def test_what_only_arrow_refuses_is_said_in_its_words(tmp_path: Path) -> None:
    text = refusal(tmp_path / "a.jsonl", review("a"), '{"text": "\\ud800", "label": "good"}')
    assert "A line cannot be parsed." in text
    assert "where: a.jsonl line 2" in text
    assert "surrogate pair" in text


def test_a_file_that_changes_during_training_is_noticed(reviews: Path) -> None:
    source = opened(reviews)
    content = reviews.read_bytes()
    with reviews.open("r+b") as file:
        file.write(content.replace(b'"text"', b'"tex\xff"', 1))
    with pytest.raises(DataError, match="A JSON Lines file has changed since it was opened"):
        source.read_arrays(np.arange(4))
    assert source.read_arrays(np.array([1]))[0].tolist() == [b"so-so\n"]
    error = find_unreadable_example(source)
    assert error is not None
    assert "reviews.jsonl line 1" in str(error)
