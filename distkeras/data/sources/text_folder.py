"""A folder with one sub-folder of text files for each class."""

from __future__ import annotations

import hashlib
import os
import struct

import tensorflow as tf

from distkeras.config.source_sections import TextFolderSource as TextFolderSection
from distkeras.data.sources.class_folders import ClassFolderSource
from distkeras.errors import DataError


class TextFolderSource(ClassFolderSource):
    """Texts by class folder; each file is read, and its whole content is part of the fingerprint.

    A byte order mark is no part of a text.

    Args:
        section: The folder.
        labelled: Whether sub-folders are classes; without, every text below the folder has label 0.
        max_bad_records: See `ClassFolderSource`.

    Raises:
        DataError: If the folder, a class or a file is missing, empty, too long or not UTF-8.
    """

    feature_shape = ()
    feature_dtype = "string"
    content = "texts"
    suffixes = (".txt",)
    # Length in bytes, and a hash of the content.
    nothing_found = (0, 0, 0)

    def __init__(
        self, section: TextFolderSection, *, labelled: bool = True, max_bad_records: int = 0
    ) -> None:
        self._max_bytes = section.max_bytes
        super().__init__(section.path, labelled=labelled, max_bad_records=max_bad_records)

    def read(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        content, label = self.read_content(ids)
        return tf.strings.regex_replace(content, "^\ufeff", ""), label

    def inspect(self, path: str) -> tuple[int, ...]:
        content = _read(path, self._max_bytes)
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(
                "A text file is not UTF-8.",
                place=f"{path}, byte {error.start}",
                received=content[error.start : error.end],
                remedy="Save the file as UTF-8, or remove it.",
            ) from error
        if not text.strip():
            raise DataError(
                "A text file is empty.",
                place=path,
                received=f"{len(content)} bytes",
                remedy="Remove the file, or put a text into it.",
            )
        return len(content), *struct.unpack("<qq", hashlib.blake2b(content, digest_size=16).digest())


def _read(path: str, max_bytes: int) -> bytes:
    try:
        with open(path, "rb") as stream:
            # One byte more than is allowed tells a file that is too long, without reading all of it.
            content = stream.read(max_bytes + 1)
    except OSError as error:
        raise DataError(
            "A text file cannot be read.",
            place=path,
            received=error.strerror,
            remedy="Check that the file exists and may be read.",
        ) from error
    if len(content) > max_bytes:
        raise DataError(
            f"A text file is longer than the {max_bytes:,} bytes that are allowed.",
            place=path,
            received=f"{os.path.getsize(path):,} bytes",
            remedy="Remove the file, or raise data.source.max_bytes if it is meant to be that long.",
        )
    return content
