"""Records of `tf.train.Example`, in TFRecord or ArrayRecord files, read in any order."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from distkeras.config.source_sections import RecordsSource as RecordsSection
from distkeras.data.images.decoding import decode_full
from distkeras.data.sources.array_record import ArrayRecordFiles
from distkeras.data.sources.base import Shape, Source
from distkeras.data.sources.columns import Labels
from distkeras.data.sources.file_systems import StoredFile, local_file
from distkeras.data.sources.label_parts import join_labels
from distkeras.data.sources.record_contents import Contents, Layout, examine, refuse_beyond
from distkeras.data.sources.record_index import load_index, save_index
from distkeras.data.sources.tfrecord import Frames, TFRecordFiles, scan_frames
from distkeras.errors import DataError

_SHARD = re.compile(r"-(\d{5,})-of-(\d{5,})")


class RecordsSource(Source):
    """Examples of record files; ids follow the files' names, then the records.

    What the wanted feature is, is found from its first record: an image (bytes that begin as one), numbers of one
    length, or a text. Opening a file for the first time reads all of it, finds labels and sizes of images, and
    refuses what cannot be trained on; what it found is kept in an index (see `record_index.py`). Images are read one by
    one, everything else by the batch. The fingerprint is made of the files' names and lengths, the labels and the sizes
    of images: it does not depend on where the folder lies or on times.

    Args:
        section: The files and their features.
        labelled: Whether labels are read; without, they may be missing, and all are 0.
        max_bad_records: How many records may be bad; they are examples nevertheless, with label and size of the first
            good one of their file, and `unreadable` says why. A file that has any gets no index.

    Raises:
        DataError: If a file is missing, torn or compressed, or has no good record; or more records than are allowed
            lack a feature, differ from the others or hold what cannot be trained on. It names file and record.
    """

    def __init__(self, section: RecordsSection, *, labelled: bool = True, max_bad_records: int = 0) -> None:
        if labelled and section.features == section.label:
            raise DataError(
                f"Feature {section.label!r} is the model's input and the label at once.",
                place="data.source",
                remedy="Name another feature as data.source.features or data.source.label.",
            )
        self.name = str(section.path)
        paths = _find_files(section)
        files = [local_file(path) for path in paths]
        found = [_open_file(section, file, labelled, max_bad_records) for file in files]
        contents = [content for content, _ in found]
        if section.kind == "tfrecord":
            self._files = TFRecordFiles(paths, [frames for _, frames in found if frames is not None])
        else:
            self._files = ArrayRecordFiles(paths)
        for file in files:  # What was found in a file is true of what will be read.
            file.check_unchanged()
        self._layout = _common_layout(section, files, contents)
        self._section = section
        sizes = np.concatenate([content.sizes for content in contents])
        labels = join_labels([content.labels for content in contents if content.layout is not None])
        self.num_examples = self._files.num_records
        self.unreadable = _numbered_through(contents)
        refuse_beyond(self.unreadable, max_bad_records, self.num_examples)
        self.fingerprint = _fingerprint(section, self._layout, files, labels, sizes)
        self.class_names = labels.class_names
        self.has_encoded_images = self._layout.features == "image"
        self.granularity = "example" if self.has_encoded_images else "batch"
        self._shape = _shape(section, self._layout, sizes)
        self.feature_shape = self._shape
        self.feature_dtype = "uint8" if self.has_encoded_images else self._layout.dtype
        self._labels = labels.values
        # Eager and on the CPU, so that pipelines capture one tensor rather than embed a copy in each graph.
        with tf.init_scope(), tf.device("CPU:0"):
            self._label_table = tf.constant(self._labels)

    def labels(self) -> np.ndarray:
        return self._labels

    def read(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if self.has_encoded_images:
            content, label = self.read_encoded(ids)
            return tf.ensure_shape(decode_full(content, self._section.channels), self._shape), label
        records = tf.ensure_shape(self._records(ids), [ids.shape[0]])
        return self._parse(records, self._shape), tf.gather(self._label_table, ids)

    def read_encoded(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        records = tf.ensure_shape(self._records(ids), [1])
        return self._parse(records, ())[0], tf.gather(self._label_table, ids)

    def locate(self, example_id: int) -> str:
        return self._files.locate(example_id)

    def _records(self, ids: tf.Tensor) -> tf.Tensor:
        def read(ids: np.ndarray) -> np.ndarray:
            return np.array(self._files.read_records(ids), dtype=object)

        return tf.numpy_function(read, [tf.reshape(ids, [-1])], tf.string)

    def _parse(self, records: tf.Tensor, shape: Shape) -> tf.Tensor:
        spec = {self._section.features: tf.io.FixedLenFeature(shape, self._layout.dtype)}
        parsed: dict[str, Any] = tf.io.parse_example(records, spec)
        return parsed[self._section.features]


def _find_files(section: RecordsSection) -> list[Path]:
    path, pattern = section.path, f"*.{section.kind}*"
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(
            "There is no such record file or folder.",
            place=str(path),
            remedy="Correct data.source.path; it is relative to the config file.",
        )
    paths = sorted(found for found in path.glob(pattern) if found.is_file() and found.name[0] != ".")
    if not paths:
        raise DataError(
            f"A folder has no {pattern} files.",
            place=str(path),
            remedy="Correct data.source.path; files in sub-folders are not read.",
        )
    _check_shards(path, [found.name for found in paths])
    return paths


def _check_shards(folder: Path, names: Sequence[str]) -> None:
    """Refuses a set of which files are missing, where their names say how many there must be."""
    shards = [shard for shard in map(_SHARD.search, names) if shard]
    for shard in shards:
        expected = int(shard[2])
        siblings = {int(other[1]) for other in shards if _series(other) == _series(shard)}
        missing = sorted(set(range(expected)) - siblings)
        if missing:
            raise DataError(
                f"{len(missing)} of {expected} files are missing.",
                place=str(folder),
                received=f"{shard.string}, but none numbered {missing[0]}",
                remedy="Copy the missing files, or give one file as data.source.path.",
            )


def _series(shard: re.Match[str]) -> tuple[str, str, str]:
    """What the names of one set of files have in common."""
    return shard.string[: shard.start()], shard[2], shard.string[shard.end() :]


def _open_file(
    section: RecordsSection, file: StoredFile, labelled: bool, max_bad_records: int
) -> tuple[Contents, Frames | None]:
    """Returns what is in a file and where, from its index; without one, reads the file and makes one."""
    path = Path(file.path)
    label = section.label if labelled else None
    wanted = {"features": section.features, "label": label, "channels": section.channels}
    saved = load_index(file, wanted)
    # It was made under any limit: a new pass says which image is larger than this one.
    if saved is not None and _most_pixels(saved["sizes"]) <= section.max_pixels:
        frames = Frames.of_lengths(saved["lengths"]) if section.kind == "tfrecord" else None
        return Contents.from_arrays(saved), frames
    frames = scan_frames(path) if section.kind == "tfrecord" else None
    files = ArrayRecordFiles([path]) if frames is None else TFRecordFiles([path], [frames])
    contents = examine(files, section, labelled=labelled, max_bad_records=max_bad_records)
    file.check_unchanged()
    if not contents.bad:
        lengths = {} if frames is None else {"lengths": frames.lengths}
        save_index(file, wanted, contents.as_arrays() | lengths)
    return contents, frames


def _most_pixels(sizes: np.ndarray) -> int:
    return int(sizes.astype(np.int64).prod(axis=1).max(initial=0))


def _numbered_through(contents: Sequence[Contents]) -> dict[int, DataError]:
    """Bad records of all files, by example id."""
    starts = np.cumsum([0, *(len(content.labels.values) for content in contents)]).tolist()
    return {
        start + number: error
        for start, content in zip(starts, contents, strict=False)
        for number, error in content.bad.items()
    }


def _common_layout(
    section: RecordsSection, files: Sequence[StoredFile], contents: Sequence[Contents]
) -> Layout:
    known = [(file, found.layout) for file, found in zip(files, contents, strict=True) if found.layout]
    if not known:
        raise DataError(
            "There are no records.",
            place=str(section.path),
            remedy="Give files with at least one record.",
        )
    first_file, first = known[0]
    for file, layout in known[1:]:
        if layout != first:
            raise DataError(
                f"The files differ: the records of this one hold {layout}, those of {first_file.name} {first}.",
                place=file.path,
                remedy="Write all files alike, or give one of them as data.source.path.",
            )
    return first


def _shape(section: RecordsSection, layout: Layout, sizes: np.ndarray) -> Shape:
    if not layout.is_numbers and section.shape is not None:
        raise DataError(
            f"A shape is for numbers; feature {section.features!r} is {layout.features}.",
            place="data.source.shape",
            received=section.shape,
            remedy="Leave data.source.shape out.",
        )
    if layout.features == "text":
        return ()
    if layout.features == "image":
        is_one_size = (sizes == sizes[0]).all()
        height, width = sizes[0].tolist() if is_one_size else (None, None)
        return (height, width, section.channels)
    shape = tuple(section.shape or [layout.num_values])
    if math.prod(shape) != layout.num_values:
        raise DataError(
            f"A shape of {math.prod(shape)} numbers was asked for; the records hold {layout.num_values}.",
            place="data.source.shape",
            received=section.shape,
            remedy="Correct data.source.shape, or leave it out.",
        )
    return shape


def _fingerprint(
    section: RecordsSection, layout: Layout, files: Sequence[StoredFile], labels: Labels, sizes: np.ndarray
) -> str:
    head = f"{section.kind} {section.features} {section.label} {layout} {labels.class_names}"
    content = hashlib.blake2b(head.encode(), digest_size=16)
    for file in files:
        content.update(f"\n{file.name} {file.num_bytes}".encode())
    content.update(labels.values.tobytes() + sizes.tobytes())
    return content.hexdigest()
