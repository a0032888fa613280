"""One split of a TensorFlow Datasets data set that is already prepared on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from distkeras.config.source_sections import TfdsSource as TfdsSection
from distkeras.data.sources.array_record import ArrayRecordFiles
from distkeras.data.sources.base import Source
from distkeras.data.sources.tfrecord import TFRecordFiles
from distkeras.errors import DataError

RECORDS_PER_CHUNK = 1024


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


class TfdsSource(Source):
    """Examples of a prepared split, stored as TFRecord or ArrayRecord; nothing is ever downloaded.

    Only the two wanted features are decoded. Examples of one shape are read by the batch, images of many
    sizes one by one. The fingerprint is made of the data set's name and version, the split, and the files'
    names and lengths.

    Raises:
        DataError: If the directory is not a prepared data set, the split or a feature is not in it, a feature
            is neither an image nor numbers, or the files do not hold what `dataset_info.json` says.
    """

    def __init__(self, section: TfdsSection) -> None:
        builder = _open_builder(section.path)
        split = _pick("split", section.split, builder.info.splits, section.path)
        features = _pick("feature", section.features, builder.info.features, section.path)
        label = _pick("feature", section.label, builder.info.features, section.path)
        _check_feature(section, section.features, features, may_be_image=True)
        _check_feature(section, section.label, label, may_be_image=False)
        self.name = f"{builder.info.full_name}:{section.split}"
        self._section = section
        self._files = _open_files(section, builder, split)
        self._decoder = _partial(builder.info.features, section.features, section.label)
        self._label_decoder = _partial(builder.info.features, section.label)
        self._signature = (_spec(features), _spec(label))
        self.num_examples = self._files.num_records
        self.fingerprint = _fingerprint(self.name, _paths(split))
        self.feature_shape = tuple(features.shape)
        self.feature_dtype = self._signature[0].dtype.name
        self.granularity = "example" if None in self.feature_shape else "batch"
        self.has_encoded_images = self.granularity == "example"
        self.class_names = tuple(label.names) if hasattr(label, "names") and label.names else None
        self._labels: np.ndarray | None = None

    def labels(self) -> np.ndarray:
        """Returns all labels; the first call reads every record, for TFDS keeps labels beside features."""
        if self._labels is None:
            starts = range(0, self.num_examples, RECORDS_PER_CHUNK)
            chunks = [np.arange(i, min(i + RECORDS_PER_CHUNK, self.num_examples)) for i in starts]
            self._labels = np.concatenate(
                [self._decode_labels(tf.constant(self._read(ids))).numpy() for ids in chunks]
            )
        return self._labels

    def read(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if self.granularity == "batch":
            records = tf.numpy_function(self._read, [ids], tf.string)
            records = tf.ensure_shape(records, [None])
            return tf.map_fn(self._decode, records, fn_output_signature=self._signature)
        return self._decode(self._record(ids))

    def read_encoded(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        import tensorflow_datasets as tfds

        encoded = {self._section.features: tfds.decode.SkipDecoding()}
        example = self._decoder.deserialize_example(self._record(ids), decoders=encoded)
        return example[self._section.features], example[self._section.label]

    def locate(self, example_id: int) -> str:
        return self._files.locate(example_id)

    def _record(self, example_id: tf.Tensor) -> tf.Tensor:
        records = tf.numpy_function(self._read, [tf.reshape(example_id, [-1])], tf.string)
        return tf.ensure_shape(records, [1])[0]

    def _read(self, ids: np.ndarray) -> np.ndarray:
        return np.array(self._files.read_records(ids), dtype=object)

    def _decode(self, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = self._decoder.deserialize_example(record)
        return example[self._section.features], example[self._section.label]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def _decode_labels(self, records: tf.Tensor) -> tf.Tensor:
        def decode(record: tf.Tensor) -> tf.Tensor:
            return self._label_decoder.deserialize_example(record)[self._section.label]

        return tf.map_fn(decode, records, fn_output_signature=self._signature[1])


def _open_builder(path: Path) -> Any:
    if not (path / "dataset_info.json").is_file():
        prepared = sorted(path.glob("*/dataset_info.json"))
        raise DataError(
            "This is not a prepared TFDS directory: it has no dataset_info.json.",
            place=str(path),
            remedy=f"Did you mean {prepared[-1].parent}?"
            if prepared
            else "Prepare the data set with `tfds build`, or give its version directory, as in mnist/3.0.1.",
        )
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(path)
    except Exception as error:  # TFDS parses JSON, protobuf and class names here: any error is possible.
        raise DataError(
            "A TFDS directory cannot be opened.",
            place=str(path),
            received=f"{type(error).__name__}: {error}",
            remedy="Prepare the data set again with a TFDS of version 4 or newer.",
        ) from error


def _pick(what: str, name: str, available: Any, path: Path) -> Any:
    if name in available:
        return available[name]
    similar = get_close_matches(name, list(available), n=1)
    raise DataError(
        f"There is no {what} {name!r} in the data set.",
        place=str(path),
        remedy=f"Did you mean {similar[0]!r}?" if similar else f"Name one of: {', '.join(available)}.",
    )


def _check_feature(section: TfdsSection, name: str, feature: Any, *, may_be_image: bool) -> None:
    if not _is_numbers(feature) and not (may_be_image and _is_image(feature)):
        raise DataError(
            f"Feature {name!r} is {'neither an image nor' if may_be_image else 'not'} numbers of one shape.",
            place=str(section.path),
            received=repr(feature),
            remedy=f"Name another feature as data.source.{'features' if may_be_image else 'label'}.",
        )


def _is_image(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    return isinstance(feature, tfds.features.Image)


def _is_numbers(feature: Any) -> bool:
    import tensorflow_datasets as tfds

    if not isinstance(feature, tfds.features.Tensor):
        return False
    spec = _spec(feature)
    is_number = spec.dtype.is_integer or spec.dtype.is_floating or spec.dtype.is_bool
    return is_number and spec.shape.is_fully_defined()


def _open_files(section: TfdsSection, builder: Any, split: Any) -> RecordFiles:
    kinds: dict[str, type[TFRecordFiles] | type[ArrayRecordFiles]] = {
        "tfrecord": TFRecordFiles,
        "array_record": ArrayRecordFiles,
    }
    file_format = builder.info.file_format.value
    if file_format not in kinds:
        raise DataError(
            f"The data set is stored as {file_format}, which has no reader here.",
            place=str(section.path),
            remedy=f"Prepare it in one of these file formats: {', '.join(kinds)}.",
        )
    files = kinds[file_format](_paths(split))
    if files.num_records != split.num_examples or not files.num_records:
        raise DataError(
            f"Split {section.split!r} has {files.num_records:,} records; dataset_info.json says "
            f"{split.num_examples:,}.",
            place=str(section.path),
            remedy="Copy or prepare the data set again.",
        )
    return files


def _paths(split: Any) -> list[Path]:
    return [Path(path) for path in split.filepaths]


def _partial(features: Any, *names: str) -> Any:
    import tensorflow_datasets as tfds

    return tfds.decode.PartialDecoding(dict.fromkeys(names, True)).extract_features(features)


def _spec(feature: Any) -> tf.TensorSpec:
    return tf.TensorSpec(feature.shape, tf.as_dtype(feature.np_dtype))


def _fingerprint(name: str, paths: Iterable[Path]) -> str:
    content = hashlib.blake2b(name.encode(), digest_size=16)
    for path in paths:
        content.update(f"\n{path.name} {path.stat().st_size}".encode())
    return content.hexdigest()
