"""JSON Lines: one JSON object a line, with a text or a list of numbers, and a label.

The lines that a batch asks for are gathered out of the mapped file and parsed together, both by Arrow: 1,024 texts
of 600 bytes take about 2 ms, so that nothing is gained by holding columns in memory. Do not shorten a file while it
is read: the operating system ends a process that reads beyond the end of a mapped file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from distkeras.config.source_sections import JsonlSource as JsonlSection
from distkeras.data.lazy_tensorflow import tf
from distkeras.data.sources.base import Source
from distkeras.data.sources.columns import Labels, Table, label_values
from distkeras.data.sources.json_lines import JsonLines, open_json_lines, read_object
from distkeras.errors import DataError

PARSE_BYTES = 2**22
LARGEST = float(np.finfo(np.float32).max)

# The types to try for labels, by what the first one is.
LABEL_TYPES: dict[type, tuple[pa.DataType, ...]] = {
    str: (pa.string(),),
    bool: (pa.bool_(),),
    int: (pa.int64(), pa.float64()),
    float: (pa.float64(),),
}


class JsonlSource(Source):
    """Texts, or lists of numbers, and labels from JSON Lines; files of a folder follow in the order of their names.

    Opening parses every line, so that a bad one is found before training starts. The first line says whether
    features are texts, or lists of numbers: then all have one length, and are read as float32. Blank lines are
    no examples. The fingerprint is a hash of the whole content and of the members' names.

    Args:
        section: The file or folder, and the names of the two members.
        labelled: Whether labels are read; without, they may be missing, and all are 0.

    Raises:
        DataError: If there is no file or no line, or a line is no JSON object with these members, both of the
            same kind as in the first line; it names file and line.
    """

    granularity = "batch"

    def __init__(self, section: JsonlSection, *, labelled: bool = True) -> None:
        self.name = str(section.path)
        self._features = section.features
        self._label = section.label if labelled else None
        self._members = (section.features, section.label) if labelled else (section.features,)
        self._files = open_json_lines(section.path)
        self._first_ids = np.cumsum([0, *(file.num_objects for file in self._files)])
        self.num_examples = int(self._first_ids[-1])
        first = self._look_at_first()
        self._kinds = {name: _kind(value) for name, value in first.items()}
        example = first[self._features]
        self._num_values = len(example) if isinstance(example, list) else None
        self.needs_tensorflow = self._num_values is None
        self.feature_shape = () if self._num_values is None else (self._num_values,)
        self.feature_dtype = self._feature_dtype = "string" if self._num_values is None else "float32"
        # Arrow refuses an object that does not fit into a block.
        longest = max(int(np.diff(file.starts).max(initial=0)) for file in self._files)
        self._block_bytes = max(PARSE_BYTES, longest + 1)
        labels = self._parse_all((None,) if self._label is None else LABEL_TYPES[type(first[self._label])])
        self._labels, self.class_names = labels.values, labels.class_names
        self.fingerprint = self._hash()

    def labels(self) -> np.ndarray:
        return self._labels

    def read(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        types = [tf.as_dtype(self._feature_dtype), tf.as_dtype(self._labels.dtype)]
        features, labels = tf.numpy_function(self.read_arrays, [ids], types)
        features.set_shape((ids.shape[0], *self.feature_shape))
        labels.set_shape((ids.shape[0],))
        return features, labels

    def read_arrays(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        files = self._file_index(ids)
        try:
            lines = pa.BufferReader(self._gather(ids, files))
            table = pyarrow.json.read_json(lines, *self._options(None))
            self._check_parsed(table, len(ids))
        except pa.ArrowInvalid as error:
            raise self._changed(
                error, f", one of {len(ids)} lines from {self.locate(int(ids[0]))}"
            ) from error
        # What was gathered stands file by file; this is where each id's line is among it.
        places = pa.array(np.argsort(np.argsort(files, kind="stable")))
        features = table.column(self._features).combine_chunks().take(places)
        if self._num_values is None:
            return features.cast(pa.binary()).to_numpy(zero_copy_only=False), self._labels[ids]
        return features.flatten().to_numpy().reshape(len(ids), -1), self._labels[ids]

    def locate(self, example_id: int) -> str:
        [file] = self._file_index(np.array([example_id]))
        return self._files[file].locate(example_id - int(self._first_ids[file]))

    def file_of(self, ids: np.ndarray) -> np.ndarray | None:
        return self._file_index(ids) if len(self._files) > 1 else None

    def bytes_of(self, ids: np.ndarray) -> np.ndarray:
        return np.concatenate([np.diff(file.starts) for file in self._files])[ids]

    def _file_index(self, ids: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._first_ids, ids, side="right") - 1

    def _gather(self, ids: np.ndarray, files: np.ndarray) -> pa.Buffer:
        """The lines of some examples, file by file, and in the order of `ids` within each."""
        parts = [
            self._files[file].objects.take(pa.array(ids[files == file] - self._first_ids[file]))
            for file in np.unique(files)
        ]
        _, starts, content = pa.concat_arrays(parts).buffers()
        return content[: int(np.frombuffer(starts, np.int64)[len(ids)])]

    def _options(
        self, label_type: pa.DataType | None
    ) -> tuple[pyarrow.json.ReadOptions, pyarrow.json.ParseOptions]:
        """How Arrow parses: only these members, and without guesses (it takes texts like dates for dates)."""
        types = [pa.string() if self._num_values is None else pa.list_(pa.float32()), label_type]
        fields = [(name, kind) for name, kind in zip(self._members, types, strict=False) if kind is not None]
        return (
            # Batches are parsed in several threads at once; more threads for each would only wait.
            pyarrow.json.ReadOptions(use_threads=False, block_size=self._block_bytes),
            pyarrow.json.ParseOptions(explicit_schema=pa.schema(fields), unexpected_field_behavior="ignore"),
        )

    def _check_parsed(self, parsed: pa.Table | pa.RecordBatch, num_rows: int) -> None:
        """Raises ArrowInvalid for what Arrow lets pass: no UTF-8, empty members, lists of any length, and NaN."""
        parsed.validate(full=True)
        is_sound = parsed.num_rows == num_rows and not any(column.null_count for column in parsed.columns)
        if is_sound and self._num_values is not None:
            lists = parsed.column(self._features)
            values = pc.list_flatten(lists)
            is_regular = pc.all(pc.equal(pc.list_value_length(lists), self._num_values)).as_py()
            is_sound = is_regular and not values.null_count and np.isfinite(values.to_numpy()).all()
        if not is_sound:
            raise pa.ArrowInvalid("not all lines are like the first one")

    def _look_at_first(self) -> dict[str, Any]:
        """Returns the members of the first object: the others must be like it."""
        example_id, line = next(self._each_object(), (0, b""))
        if not line:
            raise DataError(
                "There are no lines in the JSON Lines data.",
                place=self.name,
                remedy="Give a file with one JSON object a line.",
            )
        place = self.locate(example_id)
        if self._features == self._label:
            raise DataError(
                f"The member {self._features!r} is feature and label at once.",
                place="data.source",
                remedy="Name two members as data.source.features and data.source.label.",
            )
        values = read_object(line, self._members, lambda: place)
        if not isinstance(values[self._features], str) and not _is_vector(values[self._features]):
            raise DataError(
                f"The features are {_kind(values[self._features])}; they must be a text or a list of numbers.",
                place=f"{place}, member {self._features!r}",
                remedy="Name another member as data.source.features, or correct the line.",
            )
        if self._label is not None and type(values[self._label]) not in LABEL_TYPES:
            raise DataError(
                f"The label is {_kind(values[self._label])}; it must be a text or a number.",
                place=f"{place}, member {self._label!r}",
                remedy="Name another member as data.source.label, or correct the line.",
            )
        return values

    def _parse_all(self, label_types: tuple[pa.DataType | None, ...]) -> Labels:
        """Checks every line, and returns the labels; of the types the first is taken that fits all of them."""
        failure: Exception | None = None
        for label_type in label_types:
            try:
                labels = [part for file in self._files for part in self._parse_file(file, label_type)]
            except pa.ArrowInvalid as error:
                failure = error
            else:
                return label_values(
                    Table(pa.table({}), pa.chunked_array(labels), self._members[-1], self.locate)
                )
        raise self._explanation(failure) from failure

    def _parse_file(self, file: JsonLines, label_type: pa.DataType | None) -> Iterator[pa.Array]:
        if not file.num_objects:
            return
        num_rows = 0
        for batch in pyarrow.json.open_json(pa.BufferReader(file.content), *self._options(label_type)):
            self._check_parsed(batch, batch.num_rows)
            num_rows += batch.num_rows
            has_label = label_type is not None
            yield batch.column(self._label) if has_label else pa.array(np.zeros(batch.num_rows, np.int64))
        if num_rows != file.num_objects:
            raise pa.ArrowInvalid(f"{num_rows} objects in {file.num_objects} lines of {file.path.name}")

    def _explanation(self, failure: Exception | None) -> DataError:
        """Reads line by line, with the standard library and then with Arrow, to find the one that was refused."""
        for example_id, line in self._each_object():
            place = partial(self.locate, example_id)
            for name, value in read_object(line, self._members, place).items():
                if _kind(value) != self._kinds[name]:
                    return DataError(
                        f"The member {name!r} is {_kind(value)}; in the first line it is {self._kinds[name]}.",
                        place=place(),
                        received=value,
                        remedy="Correct or remove the line; all lines must be alike.",
                    )
        for example_id, line in self._each_object():
            try:
                pyarrow.json.read_json(pa.BufferReader(line), *self._options(None))
            except pa.ArrowInvalid as error:
                return DataError(
                    "A line cannot be parsed.",
                    place=self.locate(example_id),
                    received=str(error),
                    remedy="Correct or remove the line.",
                )
        return self._changed(failure)

    def _changed(self, failure: Exception | None, where: str = "") -> DataError:
        return DataError(
            "A JSON Lines file has changed since it was opened.",
            place=self.name + where,
            received=str(failure),
            remedy="Do not change data files during a run; start again.",
        )

    def _each_object(self) -> Iterator[tuple[int, bytes]]:
        for first_id, file in zip(self._first_ids, self._files, strict=False):
            for position, line in enumerate(file.objects):
                yield int(first_id) + position, line.as_py()

    def _hash(self) -> str:
        content = hashlib.blake2b("\0".join(("jsonl", *self._members)).encode(), digest_size=16)
        for file in self._files:
            content.update(file.content.data)
        return content.hexdigest()


def _kind(value: Any) -> str:
    """What a member is, in words; lists of numbers are of one kind where they have one length."""
    if _is_vector(value):
        return f"a list of {len(value)} numbers"
    if isinstance(value, list):
        return "a list of something else than finite float32 numbers"
    words = {str: "a text", bool: "true or false", int: "a number", float: "a number", tuple: "an object"}
    return words.get(type(value), "null")


def _is_vector(value: Any) -> bool:
    is_filled = isinstance(value, list) and len(value) > 0
    return is_filled and all(type(number) in (int, float) and abs(number) <= LARGEST for number in value)
