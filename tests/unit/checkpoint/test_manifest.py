from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distkeras.checkpoint.manifest import FileRecord, Manifest, decode, encode, is_file_name
from distkeras.errors import CheckpointError

PATH = Path("checkpoints/step-000000000007/manifest.json")
RECORD = FileRecord(3, "0" * 64)
MANIFEST = Manifest(7, 5, {"epoch": 1, "seeds": [1, 2]}, {"weights.npz": RECORD})
FIELDS = {
    "format": 1,
    "step": 7,
    "parent": 5,
    "metadata": {},
    "files": {"weights.npz": {"num_bytes": 3, "sha256": "0" * 64}},
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def sealed(fields: object) -> bytes:
    """A manifest with a good seal around any fields: what an attacker can write too."""
    digest = hashlib.sha256(json.dumps(fields, indent=1).encode()).hexdigest()
    return (json.dumps({**fields, "sha256": digest}, indent=1) + "\n").encode()


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_any_json_comes_back(metadata):
    manifest = Manifest(7, None, metadata, {"weights.npz": RECORD})
    assert decode(encode(manifest), PATH) == manifest


def test_the_format_on_disk():
    assert encode(Manifest(7, 5, {}, {"weights.npz": RECORD})) == sealed(FIELDS)


def test_tuples_come_back_as_lists():
    assert decode(encode(Manifest(7, 5, {"shape": (1, 2)}, {})), PATH).metadata == {"shape": [1, 2]}


@given(st.data())
def test_no_flip_of_a_bit_is_overlooked(data):
    whole = bytearray(encode(MANIFEST))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(
        ValueError, match=r"^(is not JSON|does not match its own SHA-256|Out of range float.*)$"
    ):
        decode(bytes(whole), PATH)


@given(st.binary(max_size=60))
def test_anything_else_is_refused(data):
    with pytest.raises(ValueError, match=r"^(is not JSON|does not match its own SHA-256)$"):
        decode(data, PATH)


def test_deep_nesting_is_refused():
    with pytest.raises(ValueError, match="is not JSON"):
        decode(b"[" * 200_000, PATH)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"bytes"])
def test_metadata_that_is_not_json(value):
    with pytest.raises(
        CheckpointError, match="The metadata of the checkpoint of step 7 cannot be written as JSON: "
    ) as caught:
        encode(Manifest(7, None, {"loss": value}, {}))
    assert caught.value.remedy.startswith("Give numbers, strings, lists and mappings only")


def test_a_newer_format_is_refused_with_a_sentence():
    with pytest.raises(
        CheckpointError,
        match=r"The checkpoint has format version 2; this distkeras reads versions up to 1\.",
    ) as caught:
        decode(sealed({"format": 2, "something": "else"}), PATH)
    assert caught.value.place == str(PATH)
    assert "with the distkeras that wrote it" in caught.value.remedy


@pytest.mark.parametrize("lost", FIELDS)
def test_a_field_that_is_missing(lost):
    with pytest.raises(ValueError, match="lacks a field that a manifest must have"):
        decode(sealed({key: value for key, value in FIELDS.items() if key != lost}), PATH)


@pytest.mark.parametrize(
    "name", ["../up", "/etc/passwd", "a/b", "..", ".", "", ".hidden", "manifest.json", "a\n"]
)
def test_a_file_outside_the_commit_is_refused(name):
    assert not is_file_name(name)
    with pytest.raises(ValueError, match=r"names a file '.*' that may lie outside the commit"):
        decode(sealed({**FIELDS, "files": {name: {"num_bytes": 3, "sha256": "0" * 64}}}), PATH)


@pytest.mark.parametrize(
    "record", [None, {}, {"num_bytes": "3", "sha256": "0"}, {"num_bytes": 3, "sha256": 0}]
)
def test_a_record_without_size_or_hash(record):
    with pytest.raises(ValueError, match=r"has no size and SHA-256 for 'weights\.npz'"):
        decode(sealed({**FIELDS, "files": {"weights.npz": record}}), PATH)
