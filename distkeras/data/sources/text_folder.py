"""A folder with one sub-folder of text files for each class."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from distkeras.config.source_sections import TextFolderSource as TextFolderSection
from distkeras.data.sources.base import Source
from distkeras.data.sources.class_folders import find_classes, find_files, inspect_files
from distkeras.errors import DataError

TEXT_SUFFIXES = (".txt",)


@dataclass(frozen=True)
class TextFile:
    """One text: where it is, its class, and what it holds.

    Attributes:
        path: Relative to the data set's folder, with forward slashes.
        label: Index of its class.
        num_bytes: Length of the file.
        digest: Hash of its content.
    """

    path: str
    label: int
    num_bytes: int
    digest: bytes


class TextFolderSource(Source):
    """Texts by class folder: ids follow the classes' names, then the files' relative paths.

    Opening reads each file, in threads, so that what is no text is found before training starts. The
    fingerprint is made of relative paths and of the files' whole content; it does not depend on where the
    folder lies or on times. A byte order mark is no part of a text.

    Args:
        section: The folder.
        labelled: Whether sub-folders are classes; without, every text below the folder has label 0.
        max_bad_records: How many files may be bad; they are examples nevertheless, and `unreadable` says why.

    Attributes:
        ignored: Number of files left out: hidden ones and those that do not end in `.txt`.

    Raises:
        DataError: If the folder, a class or a file is missing, empty, too long or not UTF-8.
    """

    granularity = "example"
    feature_shape = ()
    feature_dtype = "string"

    def __init__(
        self, section: TextFolderSection, *, labelled: bool = True, max_bad_records: int = 0
    ) -> None:
        self.name = str(section.path)
        self.class_names = find_classes(section.path, "texts") if labelled else None
        # Without classes the folder itself is searched, at any depth.
        found, self.ignored = find_files(section.path, self.class_names or (".",), TEXT_SUFFIXES, "texts")
        self._files, self.unreadable = inspect_files(
            found,
            lambda path, label: _inspect_file(section, path, label),
            instead=lambda path, label: TextFile(path, label, 0, b""),
            max_bad_records=max_bad_records,
        )
        self.num_examples = len(self._files)
        self.fingerprint = _fingerprint(self._files)
        self._labels = np.array([file.label for file in self._files], dtype=np.int64)
        # Eager and on the CPU, so that pipelines capture one tensor rather than embed a copy in each graph.
        with tf.init_scope(), tf.device("CPU:0"):
            self._path_table = tf.constant([str(section.path / file.path) for file in self._files])
            self._label_table = tf.constant(self._labels)

    def labels(self) -> np.ndarray:
        return self._labels

    def read(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        content = tf.io.read_file(tf.gather(self._path_table, ids))
        return tf.strings.regex_replace(content, "^\ufeff", ""), tf.gather(self._label_table, ids)

    def locate(self, example_id: int) -> str:
        return self._files[example_id].path

    def file_of(self, ids: np.ndarray) -> np.ndarray:
        return ids

    def bytes_of(self, ids: np.ndarray) -> np.ndarray:
        return np.array([self._files[example_id].num_bytes for example_id in ids.tolist()], np.int64)


def _inspect_file(section: TextFolderSection, path: str, label: int) -> TextFile:
    full_path = section.path / path
    content = _read(full_path, section.max_bytes)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            "A text file is not UTF-8.",
            place=f"{full_path}, byte {error.start}",
            received=content[error.start : error.end],
            remedy="Save the file as UTF-8, or remove it.",
        ) from error
    if not text.strip():
        raise DataError(
            "A text file is empty.",
            place=str(full_path),
            received=f"{len(content)} bytes",
            remedy="Remove the file, or put a text into it.",
        )
    return TextFile(path, label, len(content), hashlib.blake2b(content, digest_size=16).digest())


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as stream:
            # One byte more than is allowed tells a file that is too long, without reading all of it.
            content = stream.read(max_bytes + 1)
    except OSError as error:
        raise DataError(
            "A text file cannot be read.",
            place=str(path),
            received=error.strerror,
            remedy="Check that the file exists and may be read.",
        ) from error
    if len(content) > max_bytes:
        raise DataError(
            f"A text file is longer than the {max_bytes:,} bytes that are allowed.",
            place=str(path),
            received=f"{path.stat().st_size:,} bytes",
            remedy="Remove the file, or raise data.source.max_bytes if it is meant to be that long.",
        )
    return content


def _fingerprint(files: Iterable[TextFile]) -> str:
    content = hashlib.blake2b(b"text_folder", digest_size=16)
    for file in files:
        content.update(f"{file.path}\0".encode() + file.digest)
    return content.hexdigest()
