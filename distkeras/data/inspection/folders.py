"""Folders with a file for each example: images, texts and sounds, each looked at without being trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from distkeras.config.source_sections import AudioFolderSource, ImageFolderSource, TextFolderSource
from distkeras.data.inspection.pictures import thumbnail_of_file
from distkeras.data.inspection.result import Column, Counts, Inspection, Sample
from distkeras.data.inspection.statistics import frequent, frequent_words, measured
from distkeras.data.reading_check import BadRecord
from distkeras.data.sources.class_folders import find_classes, find_files
from distkeras.data.sources.image_header import ImageHeader, read_image_header
from distkeras.errors import DataError

NUM_THREADS = 16
IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
# Pixels are looked at in so many images, evenly spaced; headers of all.
NUM_DECODED = 200
MAX_SAMPLED_CLASSES = 20
SAMPLES_PER_CLASS = 6
SAMPLE_CHARACTERS = 300

FolderSection = ImageFolderSource | TextFolderSource | AudioFolderSource
Facts = TypeVar("Facts")


@dataclass(frozen=True)
class _Files(Generic[Facts]):
    """The files of a folder.

    Attributes:
        folder: The folder.
        class_names: Its classes.
        good: Path below the folder, index of the class, and what is known of it, of each file that can be read.
        num_bytes: Bytes of all files.
        problems: The other files.
    """

    folder: Path
    class_names: Sequence[str]
    good: Sequence[tuple[str, int, Facts]]
    num_bytes: int
    problems: tuple[BadRecord, ...]

    @property
    def classes(self) -> Counts:
        labels = [label for _, label, _ in self.good]
        counts = np.bincount(np.array(labels, np.int64), minlength=len(self.class_names))
        return list(zip(self.class_names, counts.tolist(), strict=True))

    def chosen(self) -> list[tuple[str, int, Facts]]:
        """The first files of the first classes."""
        return [
            file
            for label in range(min(len(self.class_names), MAX_SAMPLED_CLASSES))
            for file in [one for one in self.good if one[1] == label][:SAMPLES_PER_CLASS]
        ]


def inspect_folder(section: FolderSection) -> Inspection:
    """Inspects a folder of images, texts or sounds with a sub-folder for each class.

    Raises:
        DataError: If there is no such folder, or a class without files.
    """
    match section:
        case ImageFolderSource():
            return _inspect_images(section)
        case TextFolderSource():
            return _inspect_texts(section)
        case AudioFolderSource():
            return _inspect_sounds(section)


def _inspect_images(section: ImageFolderSource) -> Inspection:
    def look(path: Path) -> ImageHeader:
        with path.open("rb") as stream:
            header = read_image_header(stream)
        if header is None:
            raise ValueError("it is not a JPEG, PNG, BMP or GIF image")
        if header.height * header.width > section.max_pixels:
            raise ValueError(
                f"it claims {header.height * header.width:,} pixels; {section.max_pixels:,} are allowed"
            )
        if not header.is_whole:
            raise ValueError("it does not end as its format says: it may be cut off")
        return header

    files = _look_at(section.path, "images", IMAGE_SUFFIXES, look)
    headers = [header for _, _, header in files.good]
    step = max(1, len(files.good) // NUM_DECODED)
    pixels = _decode(section.path, [path for path, _, _ in files.good[::step]])
    sizes = {(header.height, header.width) for header in headers}
    height, width = sizes.pop() if len(sizes) == 1 else (None, None)
    column = Column(
        name="image",
        type="uint8",
        shape=(height, width, section.channels),
        numbers=measured(
            height=[header.height for header in headers],
            width=[header.width for header in headers],
            pixel=[mean for mean, _ in pixels],
        ),
        counts={
            "formats": frequent(header.format for header in headers),
            "channels": frequent(str(channels) for _, channels in pixels),
        },
    )
    samples = [
        Sample(path, files.class_names[label], picture=thumbnail_of_file(section.path / path))
        for path, label, _ in files.chosen()
    ]
    looked = f"channels and the mean pixel of {len(pixels):,} images"
    return _inspection(section, files, column, samples, {"decoded": looked})


def _inspect_texts(section: TextFolderSource) -> Inspection:
    def look(path: Path) -> str:
        with path.open("rb") as stream:
            content = stream.read(section.max_bytes + 1)
        if len(content) > section.max_bytes:
            raise ValueError(f"it is longer than {section.max_bytes:,} bytes")
        text = content.decode("utf-8-sig")
        if not text.strip():
            raise ValueError("it is empty")
        return text

    files = _look_at(section.path, "texts", (".txt",), look)
    texts = [text for _, _, text in files.good]
    column = Column(
        name="text",
        type="text",
        numbers=measured(
            characters=[len(text) for text in texts], words=[len(text.split()) for text in texts]
        ),
        counts={"words": frequent_words(texts)},
    )
    samples = [
        Sample(path, files.class_names[label], text=text[:SAMPLE_CHARACTERS])
        for path, label, text in files.chosen()
    ]
    return _inspection(section, files, column, samples)


def _inspect_sounds(section: AudioFolderSource) -> Inspection:
    # Imported here: it imports TensorFlow, which texts do not need.
    from distkeras.data.sources.audio_folder import read_header

    def look(path: Path) -> tuple[float, int, int, int]:
        _, header = read_header(str(path))
        frame_bytes = header.num_channels * header.sample_bits // 8
        if not frame_bytes or not header.sample_rate:
            raise ValueError("its header says that it has no samples")
        seconds = header.data_bytes / frame_bytes / header.sample_rate
        return seconds, header.sample_rate, header.num_channels, header.sample_bits

    files = _look_at(section.path, "sounds", (".wav",), look)
    facts = [one for _, _, one in files.good]
    column = Column(
        name="sound",
        type="float32",
        numbers=measured(seconds=[seconds for seconds, *_ in facts]),
        counts={
            "samples a second": frequent(str(rate) for _, rate, _, _ in facts),
            "channels": frequent(str(channels) for _, _, channels, _ in facts),
            "bits": frequent(str(bits) for *_, bits in facts),
        },
    )
    samples = [
        Sample(path, files.class_names[label], text=f"{seconds:.2f} s, {rate:,} samples a second")
        for path, label, (seconds, rate, _, _) in files.chosen()
    ]
    return _inspection(section, files, column, samples)


def _inspection(
    section: FolderSection,
    files: _Files[Facts],
    column: Column,
    samples: Sequence[Sample],
    facts: dict[str, str] | None = None,
) -> Inspection:
    label = Column(name="label", type="int64", role="label", num_distinct=len(files.class_names))
    return Inspection(
        name=str(section.path),
        kind=section.kind,
        num_examples=len(files.good),
        num_bytes=files.num_bytes,
        columns=(column, label),
        classes=files.classes,
        facts=facts or {},
        problems=files.problems,
        samples=tuple(samples),
    )


def _look_at(
    folder: Path, content: str, suffixes: Sequence[str], look: Callable[[Path], Facts]
) -> _Files[Facts]:
    """Looks at each file of a folder, in threads."""
    class_names = find_classes(folder, content)
    found = find_files(folder, class_names, suffixes, content)

    def look_at_one(file: tuple[str, int]) -> tuple[tuple[str, int, Facts] | BadRecord, int]:
        path, label = file
        num_bytes = 0
        try:
            num_bytes = (folder / path).stat().st_size
            return (path, label, look(folder / path)), num_bytes
        except OSError as error:
            return BadRecord(path, "read", error.strerror or str(error)), num_bytes
        except DataError as error:
            return BadRecord(path, "parse", error.problem), num_bytes
        except ValueError as error:
            return BadRecord(path, "parse", str(error)), num_bytes

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        outcomes = list(pool.map(look_at_one, zip(found.paths, found.labels.tolist(), strict=True)))
    return _Files(
        folder,
        class_names,
        [outcome for outcome, _ in outcomes if not isinstance(outcome, BadRecord)],
        sum(num_bytes for _, num_bytes in outcomes),
        tuple(outcome for outcome, _ in outcomes if isinstance(outcome, BadRecord)),
    )


def _decode(folder: Path, paths: Sequence[str]) -> list[tuple[float, int]]:
    """Mean pixel and channels of images, as they are stored; those that cannot be decoded are left out."""
    import tensorflow as tf

    found: list[tuple[float, int]] = []
    for path in paths:
        try:
            with tf.device("CPU:0"):
                pixels = tf.io.decode_image(
                    tf.io.read_file(str(folder / path)), expand_animations=False
                ).numpy()
        except tf.errors.OpError:
            continue
        found.append((float(pixels.mean()), pixels.shape[-1]))
    return found
