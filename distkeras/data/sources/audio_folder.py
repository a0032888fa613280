"""A folder with one sub-folder of sound files for each class.

Only the headers are read when the folder is opened. A WAV file is a RIFF file: chunks, each of them a name (4
bytes), its length (4, little-endian) and that many bytes, padded to an even number; `fmt ` says how samples are
stored, and `data` holds them. See IBM and Microsoft, Multimedia Programming Interface and Data Specifications
1.0, 1991. Samples are taken from where the header says rather than by `tf.audio.decode_wav`, which refuses chunks
that many programs write: other ones before `fmt `, those of odd length, and the longer `fmt ` of later versions.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import tensorflow as tf

from distkeras.config.source_sections import AudioFolderSource as AudioFolderSection
from distkeras.data.sources.class_folders import ClassFolderSource
from distkeras.errors import ConfigError, DataError

PCM = 1
EXTENSIBLE = 0xFFFE
SAMPLE_BYTES = 2


@dataclass(frozen=True)
class Header:
    """How the samples of a WAV file are stored.

    Attributes:
        encoding: 1: plain numbers (PCM).
        num_channels: Channels, interleaved.
        sample_rate: Samples of a channel a second.
        sample_bits: Bits of one sample.
        data_start: Where the samples start in the file, in bytes.
        data_bytes: How many bytes of samples the file claims to have.
    """

    encoding: int
    num_channels: int
    sample_rate: int
    sample_bits: int
    data_start: int
    data_bytes: int


class AudioFolderSource(ClassFolderSource):
    """Sounds by class folder; of each file the header is read.

    An example is the beginning of a file's first channel, float32, shape (num_samples,), values in [-1, 1]; shorter
    files are filled with silence. The fingerprint is made of relative paths, what the headers say and the length of
    an example: it does not notice a file whose samples alone were changed.

    Args:
        section: The folder.
        labelled: Whether sub-folders are classes; without, every sound below the folder has label 0.
        max_bad_records: See `ClassFolderSource`.

    Attributes:
        sample_rate: Samples a second.
        num_samples: Samples of an example.

    Raises:
        DataError: If the folder, a class or a file is missing, empty, cut off, of another sample rate, or not
            16-bit PCM.
        ConfigError: If an example is shorter than one sample.
    """

    feature_dtype = "float32"
    content = "sounds"
    suffixes = (".wav",)
    # Length in bytes, where the samples start, how many bytes they are, and channels.
    nothing_found = (0, 0, 0, 1)

    def __init__(
        self, section: AudioFolderSection, *, labelled: bool = True, max_bad_records: int = 0
    ) -> None:
        self.sample_rate = section.sample_rate
        self.num_samples = _num_samples(section)
        self.feature_shape = (self.num_samples,)
        super().__init__(section.path, labelled=labelled, max_bad_records=max_bad_records)
        # Only the wanted samples of all channels are read.
        num_bytes, starts, data_bytes, channels = self.facts.T
        lengths = np.minimum(data_bytes, self.num_samples * SAMPLE_BYTES * channels)
        lengths -= lengths % (SAMPLE_BYTES * channels)
        with tf.init_scope(), tf.device("CPU:0"):
            self._place_table = tf.constant(np.stack([num_bytes, starts, lengths, channels], axis=1))

    def read(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        content, label = self.read_content(ids)
        num_bytes, start, length, num_channels = tf.unstack(tf.gather(self._place_table, ids))
        unchanged = tf.debugging.assert_equal(
            tf.cast(tf.strings.length(content), tf.int64),
            num_bytes,
            "The sound file has changed since it was opened.",
        )
        with tf.control_dependencies([] if unchanged is None else [unchanged]):
            samples = tf.io.decode_raw(tf.strings.substr(content, start, length), tf.int16)
        samples = tf.cast(tf.reshape(samples, [-1, num_channels])[:, 0], tf.float32) / 2**15
        samples = tf.pad(samples, [[0, self.num_samples - tf.size(samples)]])
        return tf.ensure_shape(samples, self.feature_shape), label

    def inspect(self, path: str) -> tuple[int, ...]:
        num_bytes, header = read_header(path)
        if header.encoding != PCM or header.sample_bits != 8 * SAMPLE_BYTES:
            raise DataError(
                "A sound file is not 16-bit PCM.",
                place=path,
                received=f"format {header.encoding}, {header.sample_bits} bits",
                remedy="Convert the file, for example with: ffmpeg -i IN -c:a pcm_s16le OUT.wav",
            )
        if header.sample_rate != self.sample_rate:
            raise DataError(
                f"A sound file has {header.sample_rate:,} samples a second; data.source.sample_rate is "
                f"{self.sample_rate:,}.",
                place=path,
                remedy="Convert the file to that rate, or set data.source.sample_rate to what all files have.",
            )
        if header.data_start + header.data_bytes > num_bytes:
            raise DataError(
                "A sound file is cut off.",
                place=path,
                received=f"{num_bytes - header.data_start:,} of {header.data_bytes:,} bytes of samples",
                remedy="Remove the file, or copy it again.",
            )
        if header.num_channels == 0 or header.data_bytes < SAMPLE_BYTES * header.num_channels:
            raise DataError(
                "A sound file has no samples.",
                place=path,
                received=f"{header.num_channels} channels, {header.data_bytes} bytes of samples",
                remedy="Remove the file, or replace it with a sound.",
            )
        return num_bytes, header.data_start, header.data_bytes, header.num_channels


def _num_samples(section: AudioFolderSection) -> int:
    num_samples = round(section.seconds * section.sample_rate)
    if num_samples == 0:
        raise ConfigError(
            "An example of sound would have no samples.",
            place="data.source.seconds",
            received=section.seconds,
            remedy=f"One sample of {section.sample_rate} a second is {1 / section.sample_rate:.6f} seconds.",
        )
    return num_samples


def read_header(path: str) -> tuple[int, Header]:
    """Returns a sound file's length in bytes, and how its samples are stored, whatever that is.

    Raises:
        DataError: If the file cannot be read, or is no WAV file.
    """
    try:
        with open(path, "rb") as stream:
            num_bytes = os.fstat(stream.fileno()).st_size
            header = _parse_header(stream)
    except OSError as error:
        raise DataError(
            "A sound file cannot be read.",
            place=path,
            received=error.strerror,
            remedy="Check that the file exists and may be read.",
        ) from error
    if header is None:
        raise DataError(
            "A sound file is not a WAV file." if num_bytes else "A sound file is empty.",
            place=path,
            received=f"{num_bytes} bytes",
            remedy="Remove the file, or replace it with a 16-bit PCM WAV file.",
        )
    return num_bytes, header


def _parse_header(stream: BinaryIO) -> Header | None:
    """Returns None where there is no RIFF file with a format, followed by samples."""
    start = stream.read(12)
    if start[:4] != b"RIFF" or start[8:] != b"WAVE":
        return None
    sample_format = b""
    for name, num_bytes in _chunks(stream):
        if name == b"fmt ":
            sample_format = stream.read(min(num_bytes, 40))
        if name == b"data" and len(sample_format) >= 16:
            return _header(sample_format, stream.tell(), num_bytes)
    return None


def _header(sample_format: bytes, data_start: int, data_bytes: int) -> Header:
    encoding, num_channels, sample_rate, _, _, sample_bits = struct.unpack_from("<HHIIHH", sample_format)
    if encoding == EXTENSIBLE and len(sample_format) == 40:
        [encoding] = struct.unpack_from("<H", sample_format, 24)
    return Header(encoding, num_channels, sample_rate, sample_bits, data_start, data_bytes)


def _chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yields name and length of each chunk, the stream being where its content starts."""
    while len(frame := stream.read(8)) == 8:
        name, num_bytes = struct.unpack("<4sI", frame)
        start = stream.tell()
        yield name, num_bytes
        stream.seek(start + num_bytes + num_bytes % 2)
