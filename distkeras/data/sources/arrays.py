"""NumPy arrays as a source: in memory, from a `.npz` file, or memory-mapped from a folder of `.npy` files."""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from distkeras.config.source_sections import ArraysSource as ArraysSection
from distkeras.data.lazy_tensorflow import tf
from distkeras.data.sources.base import Source
from distkeras.errors import DataError

# Up to here arrays become tensors once and are gathered inside the graph; above, the second copy in memory
# would cost more than the Python call that it saves a batch.
MAX_TENSOR_BYTES = 256 * 2**20
# Up to here a memory-mapped array is read whole when it is opened; above, only some blocks of it are.
MAX_SCAN_BYTES = 2**30
NUM_SAMPLED_BLOCKS = 64
BLOCK_BYTES = 2**20

Features = np.ndarray | Mapping[str, np.ndarray] | Sequence[np.ndarray]


class ArraySource(Source):
    """Arrays whose first axis counts the examples.

    Floats of any width are read as float32 and booleans as uint8; integers keep their type. The fingerprint
    is a hash of types, shapes and content. Of a memory-mapped array above 1 GiB only 64 blocks of 1 MiB are
    hashed and checked when it is opened; NaN elsewhere in it is found when it is read.

    Args:
        features: One array, shape (num_examples, ...); or a mapping, list or tuple of arrays for a model with
            several inputs.
        labels: Shape (num_examples, ...).
        sample_weights: Weight of each example in the loss, shape (num_examples,); None: all equal.
        class_names: Names of the classes by index.
        feature_names: Names of the features along the last axis.
        name: What the source is called in logs and errors.
        locate: From an example's id to what a person calls it; None: "<name> record <id>".

    Raises:
        DataError: If arrays are empty, differ in length, or hold something else than finite numbers.
    """

    def __init__(
        self,
        features: Features,
        labels: np.ndarray,
        sample_weights: np.ndarray | None = None,
        *,
        class_names: Sequence[str] | None = None,
        feature_names: Sequence[str] | None = None,
        name: str = "arrays",
        locate: Callable[[int], str] | None = None,
    ) -> None:
        self.name = name
        self.granularity = "batch"
        self.needs_tensorflow = False
        self.class_names = None if class_names is None else tuple(class_names)
        self.feature_names = None if feature_names is None else tuple(feature_names)
        self._locate = locate
        inputs = _titled(features)
        self._num_inputs = len(inputs)
        self._input_names = tuple(features) if isinstance(features, Mapping) else None
        self._has_many_inputs = not isinstance(features, np.ndarray)
        columns = inputs | {"labels": labels}
        if sample_weights is not None:
            columns["sample_weights"] = sample_weights
        self._columns = {title: np.asanyarray(array) for title, array in columns.items()}
        self.num_examples = self._check_lengths()
        self.fingerprint = self._scan()
        arrays = list(self._columns.values())
        self.feature_shape = self._like_features([array.shape[1:] for array in arrays])
        self.feature_dtype = self._like_features([_read_type(array).name for array in arrays])
        size_bytes = sum(array.nbytes for array in arrays)
        self._fits_tensors = not any(map(_is_mapped, arrays)) and size_bytes <= MAX_TENSOR_BYTES
        self._tensors: list[tf.Tensor] = []

    def labels(self) -> np.ndarray:
        return _converted(self._columns["labels"])

    def read(self, ids: tf.Tensor) -> tuple[Any, ...]:
        if self._fits_tensors:
            tensors = [tf.gather(tensor, ids) for tensor in self._as_tensors()]
        else:
            types = [_read_type(array) for array in self._columns.values()]
            tensors = tf.numpy_function(self._gather, [ids], types)
            for tensor, array in zip(tensors, self._columns.values(), strict=True):
                tensor.set_shape((ids.shape[0], *array.shape[1:]))
        return self._like_features(tensors), *tensors[self._num_inputs :]

    def read_arrays(self, ids: np.ndarray) -> tuple[Any, ...]:
        arrays = self._gather(ids)
        return self._like_features(arrays), *arrays[self._num_inputs :]

    def locate(self, example_id: int) -> str:
        if self._locate is not None:
            return self._locate(example_id)
        return f"{self.name} record {example_id}"

    def _like_features(self, values: Sequence[Any]) -> Any:
        """Puts the leading values, one an input, into the structure that the features came in."""
        inputs = tuple(values[: self._num_inputs])
        if self._input_names is not None:
            return dict(zip(self._input_names, inputs, strict=True))
        return inputs if self._has_many_inputs else inputs[0]

    def _as_tensors(self) -> list[tf.Tensor]:
        if not self._tensors:
            # Eager and on the CPU: pipelines capture these tensors rather than embed a copy in each graph.
            with tf.init_scope(), tf.device("CPU:0"):
                self._tensors = [tf.constant(_converted(array)) for array in self._columns.values()]
        return self._tensors

    def _gather(self, ids: np.ndarray) -> list[np.ndarray]:
        """Copies some examples out of the arrays, once a batch."""
        batch: list[np.ndarray] = []
        for title, array in self._columns.items():
            values = _converted(array[ids])
            if not _is_scanned_whole(array):
                self._check_finite(title, values, ids)
            batch.append(values)
        return batch

    def _check_lengths(self) -> int:
        lengths: dict[str, int] = {}
        for title, array in self._columns.items():
            if array.dtype.kind not in "biuf":
                raise DataError(
                    f"The {title} are not numbers.",
                    place=self.name,
                    received=array.dtype,
                    remedy="turn them into numbers: text labels into class indices, for example",
                )
            if array.size == 0 or array.ndim == 0:
                raise DataError(
                    f"The {title} hold no examples.",
                    place=self.name,
                    received=array.shape,
                    remedy="the first axis counts the examples: give at least one",
                )
            lengths[title] = len(array)
        if len(set(lengths.values())) > 1:
            raise DataError(
                "The arrays differ in their number of examples.",
                place=self.name,
                received=lengths,
                remedy="give every example its features and its label",
            )
        return lengths["labels"]

    def _scan(self) -> str:
        """Checks the values and returns their fingerprint, in one pass over the content."""
        content = hashlib.blake2b(digest_size=16)
        for title, array in self._columns.items():
            content.update(f"{title}/{array.dtype.str}/{array.shape}/".encode())
            for start, block in _blocks(array):
                content.update(block.tobytes())
                self._check_finite(title, _converted(block), np.arange(start, start + len(block)))
        return content.hexdigest()

    def _check_finite(self, title: str, values: np.ndarray, ids: np.ndarray) -> None:
        if values.dtype.kind != "f" or np.isfinite(values).all():
            return
        bad_rows = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        example_id = int(ids[np.argmax(bad_rows)])
        raise DataError(
            f"The {title} hold NaN, infinity or a number too large for float32.",
            place=self.locate(example_id),
            received=values[np.argmax(bad_rows)],
            remedy="repair or remove that record",
        )


def open_arrays(section: ArraysSection, *, labelled: bool = True) -> ArraySource:
    """Opens a `.npz` file, into memory, or a folder of `.npy` files, memory-mapped.

    Args:
        section: The file or folder, and the arrays in it.
        labelled: Whether the array of labels is read; without, it may be missing, and all labels are 0.

    Raises:
        DataError: If the path or an array is missing, a file is damaged or holds Python objects, or the
            arrays do not fit together (see `ArraySource`).
    """
    if not section.path.exists():
        raise DataError(
            "There is no such file or folder.",
            place=str(section.path),
            remedy="give a .npz file or a folder of .npy files; the path is relative to the config file",
        )
    load = _load_folder if section.path.is_dir() else _load_npz
    features, *labels = load(section.path, (section.features, section.label)[: 1 + labelled])
    return ArraySource(
        features, *(labels or [np.zeros(features.shape[:1], np.int64)]), name=str(section.path)
    )


def _load_npz(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    # Opened here: where NumPy opens a damaged archive itself, it does not close it.
    with _guarded(str(path), lambda: path.open("rb")) as stream:
        archive = _load(str(path), stream)
        if isinstance(archive, np.ndarray):
            raise DataError(
                "This file is a single array; features and labels are needed.",
                place=str(path),
                remedy="save both with numpy.savez, or give the folder of .npy files",
            )
        _check_names(path, names, archive.files)
        return [_guarded(f"{path}, array {name!r}", lambda name=name: archive[name]) for name in names]


def _load_folder(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    _check_names(path, names, [file.stem for file in sorted(path.glob("*.npy"))])
    files = [path / f"{name}.npy" for name in names]
    return [_load(str(file), file, mmap_mode="r") for file in files]


def _load(place: str, file: Path | BinaryIO, **arguments: Any) -> Any:
    # Without pickle a file can only hold numbers; with it, opening a file may run code.
    return _guarded(place, lambda: np.load(file, allow_pickle=False, **arguments))


def _guarded(place: str, load: Callable[[], Any]) -> Any:
    """Calls NumPy's reader and says in our words why it failed."""
    try:
        return load()
    except OSError as error:
        raise DataError(
            f"The file cannot be read: {error.strerror or error}.",
            place=place,
            remedy="check that it is a regular file and that you may read it",
        ) from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "Python objects" in str(error) or "Object arrays" in str(error):
            raise DataError(
                "The array holds Python objects, which are refused: reading them may run code.",
                place=place,
                remedy="save it as numbers: array.astype(float), for example",
            ) from error
        raise DataError(
            "The file is empty, damaged or not a NumPy file.",
            place=place,
            received=str(error),
            remedy="write it again with numpy.savez or numpy.save",
        ) from error


def _check_names(path: Path, wanted: Sequence[str], found: Sequence[str]) -> None:
    for name in wanted:
        if name in found:
            continue
        close = get_close_matches(name, found, n=1)
        raise DataError(
            f"There is no array {name!r}; there are: {', '.join(found) or 'none'}.",
            place=str(path),
            remedy=f"did you mean {close[0]!r}?" if close else "name them in data.source.features and .label",
        )


def _titled(features: Features) -> dict[str, np.ndarray]:
    if isinstance(features, np.ndarray):
        return {"features": features}
    items = features.items() if isinstance(features, Mapping) else enumerate(features)
    return {f"features[{key!r}]": array for key, array in items}


def _is_mapped(array: np.ndarray) -> bool:
    return isinstance(array, np.memmap)


def _is_scanned_whole(array: np.ndarray) -> bool:
    return not _is_mapped(array) or array.nbytes <= MAX_SCAN_BYTES


def _blocks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (first row, rows): the whole array in blocks, or blocks spread over a huge memory-mapped one."""
    rows = max(1, BLOCK_BYTES // max(1, array.nbytes // len(array)))
    num_blocks = math.ceil(len(array) / rows)
    chosen = np.arange(num_blocks)
    if not _is_scanned_whole(array):
        chosen = np.unique(np.linspace(0, num_blocks - 1, NUM_SAMPLED_BLOCKS).astype(np.int64))
    for start in (chosen * rows).tolist():
        yield start, np.asarray(array[start : start + rows])


def _read_type(array: np.ndarray) -> np.dtype:
    """The type that examples have when they are read."""
    if array.dtype.kind == "f":
        return np.dtype(np.float32)
    return np.dtype(np.uint8) if array.dtype.kind == "b" else array.dtype.newbyteorder("=")


def _converted(array: np.ndarray) -> np.ndarray:
    # A number too large for float32 becomes infinity here, and the check that follows names its record.
    with np.errstate(over="ignore"):
        return np.asarray(array).astype(_read_type(array), copy=False)
