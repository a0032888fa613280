"""What the `tf.train.Example` records of a file hold: found, and checked, in one pass."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
import tensorflow as tf

from distkeras.config.source_sections import RecordsSource as RecordsSection
from distkeras.data.images.decoding import decode_full
from distkeras.data.sources.columns import Labels
from distkeras.data.sources.example_layout import Layout, is_text, layout_of
from distkeras.data.sources.image_header import ImageHeader, read_image_header
from distkeras.data.sources.label_parts import join_labels
from distkeras.errors import DataError

CHUNK_BYTES = 2**24
FIRST_CHUNK_RECORDS = 32
# Not more, however short they are: longer ones may come after them.
MAX_CHUNK_RECORDS = 2048


class RecordFiles(Protocol):
    """Records by id, whatever the file format."""

    @property
    def num_records(self) -> int:
        """Number of records in all files."""
        ...

    def read_records(self, ids: np.ndarray) -> list[bytes]:
        """Reads payloads by record id, in the order of `ids`."""
        ...

    def locate(self, record_id: int) -> str:
        """Returns the file and the record's number in it."""
        ...


@dataclass(frozen=True)
class Contents:
    """What one pass over a file found.

    Attributes:
        layout: What every record has; None where there are no records.
        labels: Labels of all records; 0 where they are not read.
        sizes: Heights and widths where features are images, int64, shape (num_records, 2); else (0, 2).
        bad: What is wrong with bad records, by their number; they have label and size of the first good one.
    """

    layout: Layout | None
    labels: Labels
    sizes: np.ndarray
    bad: Mapping[int, DataError] = field(default_factory=dict[int, DataError])

    def as_arrays(self) -> dict[str, np.ndarray]:
        """Returns arrays to save; nothing of bad records."""
        layout = None if self.layout is None else vars(self.layout)
        return {
            "found": np.array(json.dumps({"layout": layout, "class_names": self.labels.class_names})),
            "labels": self.labels.values,
            "sizes": self.sizes,
        }

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray]) -> Contents:
        """Returns what `as_arrays` gave."""
        found = json.loads(str(arrays["found"]))
        names = None if found["class_names"] is None else tuple(found["class_names"])
        layout = None if found["layout"] is None else Layout(**found["layout"])
        return Contents(layout, Labels(arrays["labels"], names), arrays["sizes"])


def examine(
    files: RecordFiles, section: RecordsSection, *, labelled: bool, max_bad_records: int = 0
) -> Contents:
    """Reads all records, and finds what they hold.

    Args:
        files: The records.
        section: The names of features and label, and what images may be.
        labelled: Whether labels are read; without, they may be missing.
        max_bad_records: How many records may be bad.

    Raises:
        DataError: If more records than that are no `tf.train.Example`, lack a feature, differ from the first, or hold
            what cannot be trained on; it names file and record of the first.
    """
    if not files.num_records:
        return Contents(None, Labels(np.empty(0, np.int64), None), np.empty((0, 2), np.int64))
    return _Pass(files, section, section.label if labelled else None, max_bad_records).contents()


def refuse_beyond(bad: Mapping[int, DataError], max_bad_records: int, num_records: int) -> None:
    """Refuses more bad records than a run may leave out, or nothing but bad ones, with what is wrong with the first.

    Args:
        bad: What is wrong with them, in the order in which they were found.
        max_bad_records: How many there may be.
        num_records: How many records there are.

    Raises:
        DataError: If there are more, or no other ones.
    """
    if len(bad) <= max_bad_records and len(bad) < num_records:
        return
    first = next(iter(bad.values()))
    if not max_bad_records:
        raise first
    counts = (
        f"At least {len(bad)} of {num_records} records are bad; data.max_bad_records is {max_bad_records}."
    )
    raise DataError(
        first.problem, place=first.place, received=first.received, remedy=f"{first.remedy} {counts}"
    ) from first


class _Pass:
    """One pass over the records of a file, a chunk at a time; so many bad ones are left out."""

    def __init__(
        self, files: RecordFiles, section: RecordsSection, label: str | None, max_bad_records: int
    ) -> None:
        self._files = files
        self._section = section
        self._label = label
        self._max_bad_records = max_bad_records
        self._bad: dict[int, DataError] = {}
        self._good: list[tuple[np.ndarray, Labels, np.ndarray]] = []
        self._layout = self._first_layout()

    def contents(self) -> Contents:
        # Chunks are of about equal size in bytes.
        first_id, length = 0, FIRST_CHUNK_RECORDS
        while first_id < self._files.num_records:
            end = min(first_id + length, self._files.num_records)
            num_bytes = self._look_at(first_id, end)
            fitting = CHUNK_BYTES * (end - first_id) // num_bytes if num_bytes else length
            first_id, length = end, min(max(1, fitting), MAX_CHUNK_RECORDS)
        ids = np.concatenate([ids for ids, _, _ in self._good])
        labels = join_labels([labels for _, labels, _ in self._good])
        sizes = np.concatenate([sizes for _, _, sizes in self._good])
        # Every record keeps its number; the first good one stands for those that are bad.
        stands_for = np.zeros(self._files.num_records, np.int64)
        stands_for[ids] = np.arange(len(ids))
        return Contents(
            self._layout,
            Labels(labels.values[stands_for], labels.class_names),
            sizes[stands_for] if len(sizes) else sizes,
            self._bad,
        )

    def _first_layout(self) -> Layout:
        """What the first good record holds, which all others must hold."""
        record_id = 0
        while True:
            try:
                return self._layout_of(record_id, self._files.read_records(np.array([record_id]))[0])
            except DataError as error:
                self._leave_out(record_id, error)
            record_id += 1

    def _look_at(self, first_id: int, end: int) -> int:
        """Checks some records, in halves until a bad one stands alone; returns how many bytes they have."""
        records: list[bytes] = []
        try:
            records = self._files.read_records(np.arange(first_id, end))
            features, values = self._parse(first_id, records)
            sizes = self._check_features(first_id, features)
            labels = self._labels(first_id, values, len(records))
        except DataError as error:
            if not self._max_bad_records:
                raise
            if end - first_id > 1:
                middle = (first_id + end) // 2
                return self._look_at(first_id, middle) + self._look_at(middle, end)
            self._leave_out(first_id, error)
        else:
            self._good.append((np.arange(first_id, end), labels, sizes))
        return sum(map(len, records))

    def _leave_out(self, record_id: int, error: DataError) -> None:
        self._bad[record_id] = error
        refuse_beyond(self._bad, self._max_bad_records, self._files.num_records)

    def _layout_of(self, record_id: int, record: bytes) -> Layout:
        return layout_of(record, self._section.features, self._label, self._files.locate(record_id))

    def _parse(self, first_id: int, records: list[bytes]) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns features, shape (num_records, num_values), and labels, shape (num_records,)."""
        layout = self._layout
        dtypes = {self._section.features: layout.dtype}
        if self._label is not None and layout.label is not None:
            dtypes[self._label] = layout.label
        spec = {name: tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int64) for name, dtype in dtypes.items()}
        try:
            with tf.device("CPU:0"):
                parsed = tf.io.parse_example(tf.constant(records), spec)
        # Where TensorFlow quotes a record in its message, Python may fail to read the message.
        except (tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
            raise self._odd_one(first_id, records) from error
        features, *labels = (parsed[name] for name in dtypes)
        nums = [layout.num_values, *(1 for _ in labels)]
        for ragged, num in zip((features, *labels), nums, strict=True):
            if (ragged.row_lengths().numpy() != num).any():
                raise self._odd_one(first_id, records)
        values = features.values.numpy().reshape(len(records), layout.num_values)
        return values, labels[0].values.numpy() if labels else None

    def _odd_one(self, first_id: int, records: Sequence[bytes]) -> DataError:
        """Returns what is wrong with the first record that differs, after TensorFlow said that there is one."""
        for record_id, record in enumerate(records, start=first_id):
            layout = self._layout_of(record_id, record)
            if layout != self._layout:
                return self._refusal(
                    f"A record differs from the first: it holds {layout}, and the first {self._layout}.",
                    record_id,
                    None,
                    "Write all records alike, or remove this one.",
                )
        return self._refusal(
            f"TensorFlow cannot parse one of the {len(records)} records from this one on.",
            first_id,
            None,
            "Write the file again, with TensorFlow's own tf.train.Example.",
        )

    def _check_features(self, first_id: int, features: np.ndarray) -> np.ndarray:
        """Refuses values that cannot be trained on; returns sizes, shape (num_images, 2)."""
        no_sizes = np.empty((0, 2), np.int64)
        match self._layout.features:
            case "image":
                return np.array(
                    [
                        self._image_size(first_id + place, content)
                        for place, content in enumerate(features[:, 0])
                    ],
                    dtype=np.int64,
                )
            case "text":
                self._as_texts(first_id, features[:, 0], self._section.features)
            case "float32":
                self._refuse_infinite(first_id, features, self._section.features)
            case _:
                pass
        return no_sizes

    def _image_size(self, record_id: int, content: bytes) -> tuple[int, int]:
        header = read_image_header(io.BytesIO(content))
        if header is None:
            raise self._refusal(
                f"Feature {self._section.features!r} is not a JPEG, PNG, BMP or GIF image; the first record's is.",
                record_id,
                content[:32],
                "Remove the record, or replace its image.",
            )
        num_pixels, allowed = header.height * header.width, self._section.max_pixels
        if num_pixels > allowed:  # Before it is decoded: a few hundred bytes can claim gigabytes.
            raise self._refusal(
                f"An image claims {num_pixels:,} pixels; {allowed:,} are allowed.",
                record_id,
                f"{header.width} x {header.height}",
                "Remove the record, or raise data.source.max_pixels if it is meant to be that large.",
            )
        # As in image folders: to decode all would cost an epoch; those that look odd are few.
        if not header.is_whole or (self._section.channels == 1 and header.format in ("GIF", "BMP")):
            self._try_decoding(record_id, content, header)
        return header.height, header.width

    def _try_decoding(self, record_id: int, content: bytes, header: ImageHeader) -> None:
        try:
            with tf.device("CPU:0"):
                decode_full(tf.constant(content), self._section.channels)
        except tf.errors.InvalidArgumentError as error:
            if header.is_whole:
                raise self._refusal(
                    f"A {header.format} image cannot be decoded to one channel.",
                    record_id,
                    None,
                    "Set data.source.channels: 3, or convert the image to PNG.",
                ) from error
            raise self._refusal(
                f"A {header.format} image is cut off or damaged.",
                record_id,
                f"{len(content)} bytes",
                "Remove the record, or replace its image.",
            ) from error

    def _labels(self, first_id: int, values: np.ndarray | None, num_records: int) -> Labels:
        if values is None or self._label is None:
            return Labels(np.zeros(num_records, np.int64), None)
        if self._layout.label != "string":
            self._refuse_infinite(first_id, values[:, np.newaxis], self._label)
            return Labels(values, None)
        texts = self._as_texts(first_id, values, self._label).dictionary_encode()
        names = texts.dictionary.to_pylist()
        return Labels(texts.indices.to_numpy().astype(np.int64), tuple(names))

    def _as_texts(self, first_id: int, contents: np.ndarray, name: str) -> pa.StringArray:
        binary = pa.array(contents, pa.binary())
        try:
            return binary.cast(pa.string())
        except pa.ArrowInvalid as error:
            place = next(place for place, content in enumerate(contents) if not is_text(content))
            raise self._refusal(
                f"Feature {name!r} is not UTF-8 text.",
                first_id + place,
                contents[place][:32],
                "Correct or remove the record.",
            ) from error

    def _refuse_infinite(self, first_id: int, values: np.ndarray, name: str) -> None:
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if bad.size:
            raise self._refusal(
                f"Feature {name!r} holds NaN or infinity.",
                first_id + int(bad[0]),
                values[bad[0]].tolist(),
                "Repair or remove the record.",
            )

    def _refusal(self, problem: str, record_id: int, received: object, remedy: str) -> DataError:
        return DataError(problem, place=self._files.locate(record_id), received=received, remedy=remedy)
