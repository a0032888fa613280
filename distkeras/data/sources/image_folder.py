"""A folder with one sub-folder of images for each class."""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf

from distkeras.config.source_sections import ImageFolderSource as ImageFolderSection
from distkeras.data.images.decoding import decode_full
from distkeras.data.sources.class_folders import ClassFolderSource
from distkeras.data.sources.image_header import ImageHeader, read_image_header
from distkeras.errors import DataError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


class ImageFolderSource(ClassFolderSource):
    """Images by class folder; of each file the header is read.

    The fingerprint is made of relative paths, file lengths, formats and pixel sizes: it does not notice a file whose
    pixels alone were changed.

    Args:
        section: The folder.
        labelled: Whether sub-folders are classes; without, every image below the folder has label 0.
        max_bad_records: See `ClassFolderSource`.

    Raises:
        DataError: If the folder, a class or a file is missing, empty, too large or not an image.
    """

    feature_dtype = "uint8"
    has_encoded_images = True
    content = "images"
    suffixes = IMAGE_SUFFIXES
    # Length in bytes, whether it is a JPEG, height and width in pixels. A bad file does not make a folder mixed.
    nothing_found = (0, 1, 0, 0)

    def __init__(
        self, section: ImageFolderSection, *, labelled: bool = True, max_bad_records: int = 0
    ) -> None:
        self._section = section
        self.feature_shape = (None, None, section.channels)
        super().__init__(section.path, labelled=labelled, max_bad_records=max_bad_records)
        are_good = np.ones(self.num_examples, bool)
        are_good[list(self.unreadable)] = False
        sizes = self.facts[are_good, 2:]
        height, width = sizes[0].tolist() if (sizes == sizes[0]).all() else (None, None)
        self.feature_shape = (height, width, section.channels)
        if self.facts[:, 1].all():
            self.jpeg_sizes = self.facts[:, 2:].astype(np.int32)

    def read(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        content, label = self.read_content(ids)
        return tf.ensure_shape(decode_full(content, self._section.channels), self.feature_shape), label

    def read_encoded(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self.read_content(ids)

    def inspect(self, path: str) -> tuple[int, ...]:
        section = self._section
        header = _read_header(path)
        # Before anything is decoded: a few hundred bytes can claim gigabytes of pixels.
        if header.height * header.width > section.max_pixels:
            raise DataError(
                f"An image claims {header.height * header.width:,} pixels; {section.max_pixels:,} are allowed.",
                place=path,
                received=f"{header.format}, {header.width} x {header.height}",
                remedy="Remove the file, or raise data.source.max_pixels if it is meant to be that large.",
            )
        # Decoding all files would cost an epoch; those that look odd are few.
        if not header.is_whole or (section.channels == 1 and header.format in ("GIF", "BMP")):
            _try_decoding(path, section.channels, header)
        return header.num_bytes, header.format == "JPEG", header.height, header.width


def _read_header(path: str) -> ImageHeader:
    try:
        with open(path, "rb", buffering=0) as stream:
            header = read_image_header(stream)
            num_bytes = stream.seek(0, os.SEEK_END) if header is None else header.num_bytes
    except OSError as error:
        raise DataError(
            "An image cannot be read.",
            place=path,
            received=error.strerror,
            remedy="Check that the file exists and may be read.",
        ) from error
    if header is None:
        raise DataError(
            "An image file is not a JPEG, PNG, BMP or GIF image." if num_bytes else "An image file is empty.",
            place=path,
            received=f"{num_bytes} bytes",
            remedy="Remove the file, or replace it with an image.",
        )
    return header


def _try_decoding(path: str, channels: int, header: ImageHeader) -> None:
    try:
        with tf.device("CPU:0"):
            decode_full(tf.io.read_file(path), channels)
    except tf.errors.InvalidArgumentError as error:
        if header.is_whole:
            raise DataError(
                f"A {header.format} image cannot be decoded to one channel.",
                place=path,
                remedy="Set data.source.channels: 3, or convert the file to PNG.",
            ) from error
        raise DataError(
            f"A {header.format} image is cut off or damaged.",
            place=path,
            remedy="Remove the file, or copy it again.",
        ) from error
