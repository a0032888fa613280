"""Texts by class folder: what is read, what is refused when the folder is opened."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from distkeras.config.source_sections import TextFolderSource as Section
from distkeras.data.bad_data import find_unreadable_example
from distkeras.data.sources.text_folder import TextFolderSource
from distkeras.errors import DataError


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def section(folder: Path, **keys: object) -> Section:
    return Section.model_validate({"kind": "text_folder", "path": folder, **keys})


def refusal(folder: Path, **keys: object) -> str:
    with pytest.raises(DataError) as caught:
        TextFolderSource(section(folder, **keys))
    return str(caught.value)


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    folder = tmp_path / "letters"
    write(folder / "sad" / "2.txt", "Alas.\n")
    write(folder / "sad" / "10.TXT", "Wehe über weh")
    write(folder / "glad" / "old" / "b.txt", b"\xef\xbb\xbfHurrah \0 twice")
    write(folder / "glad" / "c.txt", "哈哈")
    return folder


def test_order_labels_and_places(letters: Path) -> None:
    source = TextFolderSource(section(letters))
    places = [source.locate(example_id) for example_id in range(source.num_examples)]
    assert places == ["glad/c.txt", "glad/old/b.txt", "sad/10.TXT", "sad/2.txt"]
    assert source.labels().tolist() == [0, 0, 1, 1]
    assert source.class_names == ("glad", "sad")
    assert (source.granularity, source.feature_shape, source.feature_dtype) == ("example", (), "string")
    ids = np.array([3, 0])
    assert source.file_of(ids).tolist() == [3, 0]
    assert source.bytes_of(ids).tolist() == [6, 6]


def test_reads_texts_in_a_pipeline_without_their_byte_order_mark(letters: Path) -> None:
    source = TextFolderSource(section(letters))
    dataset = tf.data.Dataset.from_tensor_slices(np.int64([2, 1, 0])).map(source.read)
    assert dataset.element_spec[0] == tf.TensorSpec((), tf.string)
    texts = [text.decode() for text, _ in dataset.as_numpy_iterator()]
    assert texts == ["Wehe über weh", "Hurrah \0 twice", "哈哈"]
    assert [int(label) for _, label in dataset] == [1, 0, 0]


def test_hidden_files_and_other_extensions_are_counted(letters: Path) -> None:
    write(letters / "sad" / ".3.txt", "")
    write(letters / "glad" / "notes.md", "")
    source = TextFolderSource(section(letters))
    assert (source.num_examples, source.ignored) == (4, 2)


def test_without_labels_the_folder_itself_is_searched(letters: Path) -> None:
    write(letters / "top.txt", "No class")
    source = TextFolderSource(section(letters), labelled=False)
    assert source.num_examples == 5
    assert source.class_names is None
    assert source.labels().tolist() == [0] * 5


def test_the_fingerprint_is_of_names_and_content_wherever_the_folder_lies(
    letters: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(letters, tmp_path / "elsewhere" / "other")
    before = TextFolderSource(section(letters)).fingerprint
    assert TextFolderSource(section(copy)).fingerprint == before
    write(copy / "sad" / "2.txt", "Alas!\n")  # The same length.
    assert TextFolderSource(section(copy)).fingerprint != before
    (letters / "sad" / "2.txt").rename(letters / "sad" / "3.txt")
    assert TextFolderSource(section(letters)).fingerprint != before


def test_a_missing_folder(tmp_path: Path) -> None:
    text = refusal(tmp_path / "none")
    assert "There is no folder of texts here." in text
    assert f"where: {tmp_path / 'none'}" in text


def test_a_class_without_texts(letters: Path) -> None:
    write(letters / "angry" / "notes.md", "!")
    text = refusal(letters)
    assert "Class 'angry' has no texts." in text
    assert "Put texts (.txt) in it, or remove the folder." in text


def test_what_is_not_utf8_is_named_with_its_place(letters: Path) -> None:
    path = write(letters / "sad" / "latin.txt", "Dürer".encode("latin-1"))
    text = refusal(letters)
    assert "A text file is not UTF-8." in text
    assert f"where: {path}, byte 1" in text
    assert r"received: b'\xfc'" in text


@pytest.mark.parametrize("content", [b"", b" \n\t", b"\xef\xbb\xbf\n"])
def test_an_empty_file(letters: Path, content: bytes) -> None:
    path = write(letters / "sad" / "0.txt", content)
    text = refusal(letters)
    assert "A text file is empty." in text
    assert f"where: {path}" in text
    assert f"received: '{len(content)} bytes'" in text


def test_the_longest_length_is_inclusive(tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.txt", "12345")
    assert TextFolderSource(section(tmp_path, max_bytes=5)).num_examples == 1
    text = refusal(tmp_path, max_bytes=4)
    assert "A text file is longer than the 4 bytes that are allowed." in text
    assert "received: '5 bytes'" in text


def test_an_unreadable_file(letters: Path) -> None:
    (letters / "sad" / "gone.txt").symlink_to(letters / "nowhere.txt")
    text = refusal(letters)
    assert "A text file cannot be read." in text
    assert "No such file or directory" in text


def test_the_first_bad_file_is_named_and_the_others_counted(letters: Path) -> None:
    first = write(letters / "glad" / "0.txt", b"")
    write(letters / "sad" / "0.txt", b"\xff")
    text = refusal(letters)
    assert "A text file is empty. 1 more cannot be used." in text
    assert f"where: {first}" in text


def test_a_file_removed_during_training_is_found_by_name(letters: Path) -> None:
    source = TextFolderSource(section(letters))
    (letters / "sad" / "2.txt").unlink()
    error = find_unreadable_example(source)
    assert error is not None
    assert error.place == f"sad/2.txt in {letters}"


def test_within_a_budget_bad_files_keep_their_ids_and_are_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for index, content in enumerate([b"one", b"\xff", b"three", b""]):
        (tmp_path / "a" / f"{index}.txt").write_bytes(content)
    section = Section(kind="text_folder", path=tmp_path)
    with pytest.raises(DataError, match=r"A text file is not UTF-8\. 1 more cannot be used\."):
        TextFolderSource(section, max_bad_records=1)
    source = TextFolderSource(section, max_bad_records=2)
    assert source.num_examples == 4
    assert {index: error.problem for index, error in source.unreadable.items()} == {
        1: "A text file is not UTF-8.",
        3: "A text file is empty.",
    }
    assert source.read(tf.constant(2, tf.int64))[0].numpy() == b"three"
