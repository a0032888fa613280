"""A stream: examples that a function of the user yields, one at a time and perhaps without end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import Any

import numpy as np

from distkeras.config.source_sections import GeneratorSource as GeneratorSection
from distkeras.config.user_code import import_function, raised_at, takes
from distkeras.data.lazy_tensorflow import tf
from distkeras.data.sources.base import Source, Wrapped
from distkeras.data.streaming import no_end
from distkeras.errors import DataError, error_text

# More examples than any run reads.
NO_END = 2**62
# NumPy's kinds of numbers that become what features are without losing more than digits.
_KINDS = {"f": "iufb", "i": "iub", "u": "iub"}


class GeneratorSource(Source):
    """A stream of `(features, label)`, numbered from 0 as they are yielded.

    Every worker runs the function and keeps its own examples, so that the global batches are the same at any number
    of workers. An example is trained on at least once: after a lost worker or a stop, a run goes on at the example
    that follows its last commit, and what had been trained on since then comes again. That holds for a function
    that yields the same examples whenever it is called; one that listens to a socket goes on with what comes.

    The fingerprint is made of what the section says: that the function itself was changed is not noticed.

    Args:
        section: The function, and what it yields.

    Raises:
        ConfigError: If there is no such function, or it needs arguments.
    """

    granularity = "batch"
    needs_tensorflow = False
    is_stream = True

    def __init__(self, section: GeneratorSection) -> None:
        self.name = section.function
        self.num_examples = NO_END
        self.feature_shape = tuple(section.shape)
        self.feature_dtype = section.dtype
        self.num_classes = section.num_classes
        self.label_dtype = "float32" if section.num_classes is None else "int64"
        self.failures: dict[int, DataError] = {}
        self.unreadable = self.failures
        self._function = import_function(
            section.function, "function of the data", "data.source.function", accepted=("start",)
        )
        content = f"generator/1/{section.function}/{section.shape}/{section.dtype}/{section.num_classes}"
        self.fingerprint = hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def labels(self) -> np.ndarray:
        """Returns each class once, or of numbers none: more is not known of a stream before it is read."""
        return np.arange(self.num_classes or 0, dtype=self.label_dtype)

    def read(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Tells types and shapes. What reads through it would go through all examples, so it raises."""
        return self.in_graph(self._refuse, ids)

    def read_arrays(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reads examples from a stream that is opened for them alone."""
        return self.in_order(self.num_examples).read_arrays(ids)

    def in_order(self, end: int) -> InOrder:
        return InOrder(self, end)

    def in_graph(self, read_arrays: Any, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Lets TensorFlow call a function of this source's examples by id."""
        shape: Any = self.feature_shape
        features, labels = tf.numpy_function(read_arrays, [ids], [self.feature_dtype, self.label_dtype])
        features.set_shape((ids.shape[0], *shape))
        labels.set_shape((ids.shape[0],))
        return features, labels

    def locate(self, example_id: int) -> str:
        return f"example {example_id:,} of {self.name}, counted from 0"

    def opened(self, first_id: int) -> tuple[Iterator[Any], int]:
        """Calls the function; returns its examples, and the number of the first of them: `first_id`, or 0.

        Raises:
            DataError: If it returns nothing that yields.
        """
        start = {"start": first_id} if takes(self._function, "start") else {}
        stream = self._function(**start)
        if not isinstance(stream, Iterable):
            raise DataError(
                "The function of a stream yields nothing.",
                place="data.source.function",
                received=f"{self.name} returned {type(stream).__name__}",
                remedy="write `yield features, label` in it, once for every example",
            )
        return iter(stream), first_id if start else 0

    def _refuse(self, ids: np.ndarray) -> None:
        raise self.failures.setdefault(0, no_end(self.name))


class InOrder(Wrapped):
    """One reading of a stream by rising ids; for an id that has passed, the function is called again.

    Args:
        stream: The stream.
        end: Examples that the run needs of it.
    """

    def __init__(self, stream: GeneratorSource, end: int) -> None:
        super().__init__(stream)
        self._stream, self._end = stream, end
        # tf.data reads from one thread at a time, but not always from the same one.
        self._lock = Lock()
        self._examples: Iterator[Any] | None = None
        self._position = 0
        self._shape: Any = stream.feature_shape
        self._dtype = np.dtype(str(stream.feature_dtype))

    def in_order(self, end: int) -> InOrder:
        return self

    def read(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return self._stream.in_graph(self.read_arrays, ids)

    def read_arrays(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wanted, places = np.unique(ids, return_inverse=True)
        try:
            with self._lock:
                examples = [self._next(example_id) for example_id in wanted.tolist()]
            features = self._as_features(wanted, np.stack([features for features, _ in examples]))
            labels = self._as_labels(wanted, np.stack([label for _, label in examples]))
        except DataError as error:
            # TensorFlow passes on the text of an error and not its place.
            self._stream.failures.setdefault(self._position, error)
            raise
        return features[places], labels[places]

    def _next(self, example_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns an example as arrays; passes over those before it, which other workers train on."""
        try:
            if self._examples is None or example_id < self._position:
                self._position = example_id
                self._examples, self._position = self._stream.opened(example_id)
            while self._position < example_id:
                next(self._examples)
                self._position += 1
            example = next(self._examples)
        except StopIteration:
            raise self._ended() from None
        except DataError:
            raise
        except Exception as error:  # the user's code may raise anything
            raise self._raised(error) from error
        self._position += 1
        return self._as_pair(example_id, example)

    def _ended(self) -> DataError:
        return DataError(
            f"The stream ended after {self._position:,} examples; the run needs {self._end:,}.",
            place=f"data.source.function: {self._stream.name}",
            remedy="use fewer training.num_steps, or let the function go on",
        )

    def _raised(self, error: Exception) -> DataError:
        return DataError(
            f"The function of the stream raised {error_text(error)}",
            place=", ".join(filter(None, (self._stream.locate(self._position), raised_at(error)))),
            remedy="mend the function; the run goes on from its last commit",
        )

    def _as_pair(self, example_id: int, example: Any) -> tuple[np.ndarray, np.ndarray]:
        if not isinstance(example, tuple) or len(example) != 2:
            is_tuple = isinstance(example, tuple)
            raise self._bad(
                example_id,
                "A stream yields pairs of features and label.",
                f"a tuple of {len(example)}" if is_tuple else type(example).__name__,
                "write `yield features, label`",
            )
        try:
            features, label = map(np.asarray, example)
        except ValueError as error:
            text = "yield numbers, or nested lists of one length"
            raise self._bad(example_id, "An example is no array.", example, text) from error
        if features.shape != self._shape:
            raise self._bad(
                example_id,
                f"The features of an example are not of shape {self._shape}.",
                features.shape,
                "yield arrays of that shape, or correct data.source.shape",
            )
        if features.dtype.kind not in _KINDS[self._dtype.kind]:
            raise self._bad(
                example_id,
                f"The features of an example do not become {self._dtype}.",
                f"an array of {features.dtype}",
                "yield numbers, or correct data.source.dtype",
            )
        if label.shape != () or label.dtype.kind not in ("iub" if self._stream.num_classes else "iufb"):
            raise self._bad_label(example_id, label.tolist())
        return features, label

    def _as_features(self, ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            features = values.astype(self._dtype)
        is_kept = np.isfinite(features) if self._dtype.kind == "f" else features == values
        if not is_kept.all():
            place = tuple(np.argwhere(~is_kept)[0])
            finite = "finite " if self._dtype.kind == "f" else ""
            raise self._bad(
                int(ids[place[0]]),
                f"A feature is no {finite}{self._dtype}.",
                values[place].item(),
                "yield other numbers, or correct data.source.dtype",
            )
        return features

    def _as_labels(self, ids: np.ndarray, values: np.ndarray) -> np.ndarray:
        num_classes = self._stream.num_classes
        with np.errstate(over="ignore"):
            labels = values.astype(self._stream.label_dtype)
        is_good = np.isfinite(labels) if num_classes is None else (values >= 0) & (values < num_classes)
        if not is_good.all():
            first = int(np.argmin(is_good))
            raise self._bad_label(int(ids[first]), values[first].item())
        return labels

    def _bad_label(self, example_id: int, label: object) -> DataError:
        num_classes = self._stream.num_classes
        wanted = "a finite number" if num_classes is None else f"a whole number in [0, {num_classes})"
        remedy = "yield one number, or give data.source.num_classes for classes"
        if num_classes is not None:
            remedy = "yield class indices counted from 0, or correct data.source.num_classes"
        return self._bad(example_id, f"The label of an example is not {wanted}.", label, remedy)

    def _bad(self, example_id: int, problem: str, received: object, remedy: str) -> DataError:
        return DataError(problem, place=self._stream.locate(example_id), received=received, remedy=remedy)
