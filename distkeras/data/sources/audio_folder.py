"""A folder with one sub-folder of sound files for each class.

Only the headers are read when the folder is opened. A WAV file is a RIFF file: chunks, each of them a name (4
bytes), its length (4, little-endian) and that many bytes, padded to an even number; `fmt ` says how samples are
stored, and `data` holds them. See IBM and Microsoft, Multimedia Programming Interface and Data Specifications
1.0, 1991. Samples are taken from where the header says rather than by `tf.audio.decode_wav`, which refuses chunks
that many programs write: other ones before `fmt `, those of odd length, and the longer `fmt ` of later versions.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tensorflow as tf

from distkeras.config.source_sections import AudioFolderSource as AudioFolderSection
from distkeras.data.sources.base import Source
from distkeras.data.sources.class_folders import find_classes, find_files, inspect_files
from distkeras.errors import ConfigError, DataError

AUDIO_SUFFIXES = (".wav",)
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


@dataclass(frozen=True)
class AudioFile:
    """One sound: where it is, its class, and what its header says.

    Attributes:
        path: Relative to the data set's folder, with forward slashes.
        label: Index of its class.
        num_bytes: Length of the file.
        header: How its samples are stored.
    """

    path: str
    label: int
    num_bytes: int
    header: Header


class AudioFolderSource(Source):
    """Sounds by class folder: ids follow the classes' names, then the files' relative paths.

    An example is the beginning of a file's first channel, float32, shape (num_samples,), values in [-1, 1];
    shorter files are filled with silence. Opening reads the header of each file, in threads, so that what
    cannot be trained on is found before training starts. The fingerprint is made of relative paths, file
    lengths, sample rate and length of an example: it does not depend on where the folder lies or on times, and
    does not notice a file whose samples alone were changed.

    Args:
        section: The folder.
        labelled: Whether sub-folders are classes; without, every sound below the folder has label 0.
        max_bad_records: How many files may be bad; they are examples nevertheless, and `unreadable` says why.

    Attributes:
        sample_rate: Samples a second.
        num_samples: Samples of an example.
        ignored: Number of files left out: hidden ones and those that do not end in `.wav`.

    Raises:
        DataError: If the folder, a class or a file is missing, empty, cut off, of another sample rate, or not
            16-bit PCM.
        ConfigError: If an example is shorter than one sample.
    """

    granularity = "example"
    feature_dtype = "float32"

    def __init__(
        self, section: AudioFolderSection, *, labelled: bool = True, max_bad_records: int = 0
    ) -> None:
        self.name = str(section.path)
        self.sample_rate = section.sample_rate
        self.num_samples = _num_samples(section)
        self.feature_shape = (self.num_samples,)
        self.class_names = find_classes(section.path, "sounds") if labelled else None
        # Without classes the folder itself is searched, at any depth.
        found, self.ignored = find_files(section.path, self.class_names or (".",), AUDIO_SUFFIXES, "sounds")
        silence = Header(PCM, 1, section.sample_rate, 8 * SAMPLE_BYTES, 0, 0)
        self._files, self.unreadable = inspect_files(
            found,
            lambda path, label: _inspect_file(section, path, label),
            instead=lambda path, label: AudioFile(path, label, 0, silence),
            max_bad_records=max_bad_records,
        )
        self.num_examples = len(self._files)
        self.fingerprint = _fingerprint(section, self.num_samples, self._files)
        self._labels = np.array([file.label for file in self._files], dtype=np.int64)
        # Eager and on the CPU, so that pipelines capture one tensor rather than embed a copy in each graph.
        with tf.init_scope(), tf.device("CPU:0"):
            self._path_table = tf.constant([str(section.path / file.path) for file in self._files])
            self._place_table = tf.constant(
                [_place(file, self.num_samples) for file in self._files], tf.int64
            )
            self._label_table = tf.constant(self._labels)

    def labels(self) -> np.ndarray:
        return self._labels

    def read(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        content = tf.io.read_file(tf.gather(self._path_table, ids))
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
        return tf.ensure_shape(samples, self.feature_shape), tf.gather(self._label_table, ids)

    def locate(self, example_id: int) -> str:
        return self._files[example_id].path

    def file_of(self, ids: np.ndarray) -> np.ndarray:
        return ids

    def bytes_of(self, ids: np.ndarray) -> np.ndarray:
        return np.array([self._files[example_id].num_bytes for example_id in ids.tolist()], np.int64)


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


def _place(file: AudioFile, num_samples: int) -> tuple[int, int, int, int]:
    """Length of the file, where the wanted samples of all channels start, their bytes, and the channels."""
    frame_bytes = SAMPLE_BYTES * file.header.num_channels
    num_frames = min(num_samples, file.header.data_bytes // frame_bytes)
    return file.num_bytes, file.header.data_start, num_frames * frame_bytes, file.header.num_channels


def _inspect_file(section: AudioFolderSection, path: str, label: int) -> AudioFile:
    full_path = section.path / path
    num_bytes, header = read_header(full_path)
    if header.encoding != PCM or header.sample_bits != 8 * SAMPLE_BYTES:
        raise DataError(
            "A sound file is not 16-bit PCM.",
            place=str(full_path),
            received=f"format {header.encoding}, {header.sample_bits} bits",
            remedy="Convert the file, for example with: ffmpeg -i IN -c:a pcm_s16le OUT.wav",
        )
    if header.sample_rate != section.sample_rate:
        raise DataError(
            f"A sound file has {header.sample_rate:,} samples a second; data.source.sample_rate is "
            f"{section.sample_rate:,}.",
            place=str(full_path),
            remedy="Convert the file to that rate, or set data.source.sample_rate to what all files have.",
        )
    if header.data_start + header.data_bytes > num_bytes:
        raise DataError(
            "A sound file is cut off.",
            place=str(full_path),
            received=f"{num_bytes - header.data_start:,} of {header.data_bytes:,} bytes of samples",
            remedy="Remove the file, or copy it again.",
        )
    if header.num_channels == 0 or header.data_bytes < SAMPLE_BYTES * header.num_channels:
        raise DataError(
            "A sound file has no samples.",
            place=str(full_path),
            received=f"{header.num_channels} channels, {header.data_bytes} bytes of samples",
            remedy="Remove the file, or replace it with a sound.",
        )
    return AudioFile(path, label, num_bytes, header)


def read_header(path: Path) -> tuple[int, Header]:
    """Returns a sound file's length in bytes, and how its samples are stored, whatever that is.

    Raises:
        DataError: If the file cannot be read, or is no WAV file.
    """
    try:
        with path.open("rb") as stream:
            num_bytes = os.fstat(stream.fileno()).st_size
            header = _parse_header(stream)
    except OSError as error:
        raise DataError(
            "A sound file cannot be read.",
            place=str(path),
            received=error.strerror,
            remedy="Check that the file exists and may be read.",
        ) from error
    if header is None:
        raise DataError(
            "A sound file is not a WAV file." if num_bytes else "A sound file is empty.",
            place=str(path),
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


def _fingerprint(section: AudioFolderSection, num_samples: int, files: Iterable[AudioFile]) -> str:
    content = hashlib.blake2b(f"audio_folder/{section.sample_rate}/{num_samples}".encode(), digest_size=16)
    for file in files:
        content.update(f"{file.path}\0{file.num_bytes} {file.header.data_bytes}\n".encode())
    return content.hexdigest()
