"""A folder with one sub-folder of images for each class."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from distkeras.config.source_sections import ImageFolderSource as ImageFolderSection
from distkeras.data.images.decoding import decode_full
from distkeras.data.sources.base import Source
from distkeras.data.sources.class_folders import find_classes, find_files, inspect_files
from distkeras.data.sources.image_header import ImageHeader, read_image_header
from distkeras.errors import DataError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


@dataclass(frozen=True)
class ImageFile:
    """One image: where it is, its class, and what its header says.

    Attributes:
        path: Relative to the data set's folder, with forward slashes.
        label: Index of its class.
        num_bytes: Length of the file.
        is_jpeg: Whether it is a JPEG.
        height: In pixels.
        width: In pixels.
    """

    path: str
    label: int
    num_bytes: int
    is_jpeg: bool
    height: int
    width: int


class ImageFolderSource(Source):
    """Images by class folder: ids follow the classes' names, then the files' relative paths.

    Opening reads the header of each file, in threads, so that what cannot be trained on is found before
    training starts. The fingerprint is made of relative paths, file lengths and pixel sizes: it does not
    depend on where the folder lies or on times, and does not notice a file whose pixels alone were changed.

    Args:
        section: The folder.
        labelled: Whether sub-folders are classes; without, every image below the folder has label 0.
        max_bad_records: How many files may be bad; they are examples nevertheless, and `unreadable` says why.

    Attributes:
        ignored: Number of files left out: hidden ones and those whose extension is not an image's.

    Raises:
        DataError: If the folder, a class or a file is missing, empty, too large or not an image.
    """

    granularity = "example"
    feature_dtype = "uint8"
    has_encoded_images = True

    def __init__(
        self, section: ImageFolderSection, *, labelled: bool = True, max_bad_records: int = 0
    ) -> None:
        self._folder = section.path
        self._channels = section.channels
        self.name = str(section.path)
        classes = find_classes(section.path, "images") if labelled else None
        self.class_names = classes
        # Without classes the folder itself is searched, at any depth.
        found, self.ignored = find_files(section.path, classes or (".",), IMAGE_SUFFIXES, "images")
        files, self.unreadable = inspect_files(
            found,
            lambda path, label: _inspect_file(section, path, label),
            instead=lambda path, label: ImageFile(path, label, 0, True, 0, 0),
            max_bad_records=max_bad_records,
        )
        self._files = files
        self.num_examples = len(files)
        self.fingerprint = _fingerprint(files)
        sizes = {
            (file.height, file.width) for index, file in enumerate(files) if index not in self.unreadable
        }
        height, width = sizes.pop() if len(sizes) == 1 else (None, None)
        self.feature_shape = (height, width, section.channels)
        if all(file.is_jpeg for file in files):
            self.jpeg_sizes = np.array([(file.height, file.width) for file in files], np.int32)
        self._labels = np.array([file.label for file in files], dtype=np.int64)
        # Eager and on the CPU, so that pipelines capture one tensor rather than embed a copy in each graph.
        with tf.init_scope(), tf.device("CPU:0"):
            self._path_table = tf.constant([str(section.path / file.path) for file in files])
            self._label_table = tf.constant(self._labels)

    def labels(self) -> np.ndarray:
        return self._labels

    def read(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        content, label = self.read_encoded(ids)
        return tf.ensure_shape(decode_full(content, self._channels), self.feature_shape), label

    def read_encoded(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.io.read_file(tf.gather(self._path_table, ids)), tf.gather(self._label_table, ids)

    def locate(self, example_id: int) -> str:
        return self._files[example_id].path

    def file_of(self, ids: np.ndarray) -> np.ndarray:
        return ids

    def bytes_of(self, ids: np.ndarray) -> np.ndarray:
        return np.array([self._files[example_id].num_bytes for example_id in ids.tolist()], np.int64)


def _inspect_file(section: ImageFolderSection, path: str, label: int) -> ImageFile:
    full_path = section.path / path
    num_bytes, header = _read_header(full_path)
    # Before anything is decoded: a few hundred bytes can claim gigabytes of pixels.
    if header.height * header.width > section.max_pixels:
        raise DataError(
            f"An image claims {header.height * header.width:,} pixels; {section.max_pixels:,} are allowed.",
            place=str(full_path),
            received=f"{header.format}, {header.width} x {header.height}",
            remedy="Remove the file, or raise data.source.max_pixels if it is meant to be that large.",
        )
    # Decoding all files would cost an epoch; those that look odd are few.
    if not header.is_whole or (section.channels == 1 and header.format in ("GIF", "BMP")):
        _try_decoding(section, full_path, header)
    return ImageFile(path, label, num_bytes, header.format == "JPEG", header.height, header.width)


def _read_header(path: Path) -> tuple[int, ImageHeader]:
    try:
        with path.open("rb") as stream:
            num_bytes = os.fstat(stream.fileno()).st_size
            header = read_image_header(stream)
    except OSError as error:
        raise DataError(
            "An image cannot be read.",
            place=str(path),
            received=error.strerror,
            remedy="Check that the file exists and may be read.",
        ) from error
    if header is None:
        raise DataError(
            "An image file is not a JPEG, PNG, BMP or GIF image." if num_bytes else "An image file is empty.",
            place=str(path),
            received=f"{num_bytes} bytes",
            remedy="Remove the file, or replace it with an image.",
        )
    return num_bytes, header


def _try_decoding(section: ImageFolderSection, path: Path, header: ImageHeader) -> None:
    try:
        with tf.device("CPU:0"):
            decode_full(tf.io.read_file(str(path)), section.channels)
    except tf.errors.InvalidArgumentError as error:
        if header.is_whole:
            raise DataError(
                f"A {header.format} image cannot be decoded to one channel.",
                place=str(path),
                remedy="Set data.source.channels: 3, or convert the file to PNG.",
            ) from error
        raise DataError(
            f"A {header.format} image is cut off or damaged.",
            place=str(path),
            remedy="Remove the file, or copy it again.",
        ) from error


def _fingerprint(files: Iterable[ImageFile]) -> str:
    content = hashlib.blake2b(b"image_folder", digest_size=16)
    for file in files:
        content.update(f"{file.path}\0{file.num_bytes} {file.height} {file.width}\n".encode())
    return content.hexdigest()
