"""A folder with one sub-folder for each class: what image, text and sound folders have in common."""

from __future__ import annotations

import hashlib
import os
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distkeras.data.lazy_tensorflow import tf
from distkeras.data.sources.base import Source
from distkeras.errors import DataError

NUM_THREADS = 16
FILES_PER_TASK = 256


@dataclass(frozen=True)
class FoundFiles:
    """The files of each class, by class and path.

    Attributes:
        paths: Relative to the data set's folder, with forward slashes.
        labels: Index of each file's class, int64, shape (num_files,).
        num_ignored: Files left out, which are hidden or end otherwise.
    """

    paths: list[str]
    labels: np.ndarray
    num_ignored: int


class ClassFolderSource(Source):
    """A file an example: ids follow the classes' names, then the files' relative paths.

    Opening looks at each file, so that what cannot be trained on is found before training starts. The
    fingerprint is made of relative paths and of what was found in the files. It does not depend on where the folder
    lies, or on times.

    Args:
        folder: The data set.
        labelled: Whether sub-folders are classes; without, every file below the folder has label 0.
        max_bad_records: How many files may be bad; they are examples nevertheless, and `unreadable` says why.

    Attributes:
        content: What the files are, in the plural: "images".
        suffixes: Endings of the files that count, in lower case: ".png".
        nothing_found: What stands for the facts of a bad file.
        paths: Of the files, relative to the folder, with forward slashes.
        facts: What `inspect` found, int64, shape (num_examples, num_facts).
        ignored: Number of files left out: hidden ones and those that end otherwise.

    Raises:
        DataError: If the folder or a class is missing or empty, or a file is bad.
    """

    granularity = "example"
    content: str
    suffixes: tuple[str, ...]
    nothing_found: tuple[int, ...]

    def __init__(self, folder: Path, *, labelled: bool, max_bad_records: int) -> None:
        self.name = str(folder)
        self.class_names = find_classes(folder, self.content) if labelled else None
        # Without classes the folder itself is searched, at any depth.
        found = find_files(folder, self.class_names or (".",), self.suffixes, self.content)
        self.ignored = found.num_ignored
        self.paths = found.paths
        full_paths = [os.path.join(folder, path) for path in found.paths]
        self.facts, self.unreadable = inspect_files(
            full_paths, self.inspect, self.nothing_found, max_bad_records
        )
        self.num_examples = len(found.paths)
        self.fingerprint = self._fingerprint()
        self._labels = found.labels
        # Eager and on the CPU, so that pipelines capture one tensor rather than embed a copy in each graph.
        with tf.init_scope(), tf.device("CPU:0"):
            self._path_table = tf.constant(full_paths)
            self._label_table = tf.constant(found.labels)

    @abstractmethod
    def inspect(self, path: str) -> tuple[int, ...]:
        """Returns what is to be known of a file: its length in bytes, and what else the source needs.

        Raises:
            DataError: If it cannot be trained on.
        """

    def read_content(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the bytes of a file and its label, for `read`; `ids` is an int64 scalar."""
        return tf.io.read_file(tf.gather(self._path_table, ids)), tf.gather(self._label_table, ids)

    def require_unchanged(self, example_id: int) -> None:
        path = os.path.join(self.name, self.paths[example_id])
        found, known = list(map(int, self.inspect(path))), self.facts[example_id].tolist()
        if found != known:
            raise DataError(
                "A file has changed since it was opened.",
                place=path,
                received=f"{found[0]:,} bytes; it had {known[0]:,}",
                remedy="train again: the run goes on with what was committed, if the data is what it was then",
            )

    def labels(self) -> np.ndarray:
        return self._labels

    def locate(self, example_id: int) -> str:
        return self.paths[example_id]

    def file_of(self, ids: np.ndarray) -> np.ndarray:
        return ids

    def bytes_of(self, ids: np.ndarray) -> np.ndarray:
        return self.facts[ids, 0]

    def _fingerprint(self) -> str:
        content = hashlib.blake2b(f"{type(self).__name__} {self.feature_shape}".encode(), digest_size=16)
        content.update("\0".join(self.paths).encode())
        content.update(self.facts.astype("<i8").tobytes())
        return content.hexdigest()


def find_classes(folder: Path, content: str) -> tuple[str, ...]:
    """Returns the names of a folder's sub-folders, sorted; hidden ones are left out.

    Args:
        folder: The data set.
        content: What its files are, in the plural: "images".

    Raises:
        DataError: If there is no such folder, or nothing in it is a folder.
    """
    if not folder.is_dir():
        raise DataError(
            f"There is no folder of {content} here."
            if not folder.exists()
            else f"There is a file here, and no folder of {content}.",
            place=str(folder),
            remedy="Give the folder whose sub-folders are the classes as data.source.path.",
        )
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    names = sorted(entry.name for entry in entries if entry.is_dir())
    if not names:
        raise DataError(
            f"A folder of {content} has no class sub-folders."
            if entries
            else f"A folder of {content} is empty.",
            place=str(folder),
            remedy=f"Put each class's {content} in a sub-folder with the class's name.",
        )
    return tuple(names)


def find_files(folder: Path, class_names: Sequence[str], suffixes: Sequence[str], content: str) -> FoundFiles:
    """Finds the files of each class, at any depth below its sub-folder.

    Args:
        folder: The data set.
        class_names: Its sub-folders; "." is the folder itself.
        suffixes: Endings of the files that count, in lower case: ".png".
        content: What the files are, in the plural: "images".

    Raises:
        DataError: If a class has no files.
    """
    paths: list[str] = []
    numbers: list[int] = []
    num_ignored = 0
    for name in class_names:
        wanted, num_others = _walk(folder, name, tuple(suffixes))
        num_ignored += num_others
        if not wanted:
            raise DataError(
                f"The folder has no {content}." if name == "." else f"Class {name!r} has no {content}.",
                place=str(folder / name),
                remedy=f"Put {content} ({', '.join(suffixes)}) in it, or remove the folder.",
            )
        paths += sorted(wanted)
        numbers.append(len(wanted))
    return FoundFiles(paths, np.repeat(np.arange(len(numbers), dtype=np.int64), numbers), num_ignored)


def inspect_files(
    paths: Sequence[str],
    inspect: Callable[[str], tuple[int, ...]],
    nothing_found: tuple[int, ...],
    max_bad_records: int = 0,
) -> tuple[np.ndarray, dict[int, DataError]]:
    """Calls `inspect` for each file; in threads, where the first files show that they have to be waited for.

    Args:
        paths: The files.
        inspect: Returns what is known of a file, some whole numbers, or raises a `DataError`.
        nothing_found: What stands for a bad file, so that every file keeps its id.
        max_bad_records: How many may be bad.

    Returns:
        What is known of the files, int64, shape (len(paths), len(nothing_found)), and what is wrong with the bad ones,
        by id.

    Raises:
        DataError: The first bad file's where there are too many, with the number of the others.
    """
    facts = np.empty((len(paths), len(nothing_found)), np.int64)

    def inspect_some(start: int) -> dict[int, DataError]:
        bad: dict[int, DataError] = {}
        rows: list[tuple[int, ...]] = []
        for index, path in enumerate(paths[start : start + FILES_PER_TASK], start):
            try:
                rows.append(inspect(path))
            except DataError as error:
                rows.append(nothing_found)
                bad[index] = error
        facts[start : start + FILES_PER_TASK] = rows
        return bad

    begin, computing = time.perf_counter(), time.thread_time()
    bad = inspect_some(0)
    waited = time.perf_counter() - begin > 2 * (time.thread_time() - computing)
    # Where files answer at once, threads only wait for each other: three times as long with sixteen of them.
    with ThreadPoolExecutor(NUM_THREADS if waited else 1) as pool:
        for found in pool.map(inspect_some, range(FILES_PER_TASK, len(paths), FILES_PER_TASK)):
            bad |= found
    if len(bad) > max_bad_records or len(bad) == len(paths):
        first = next(iter(bad.values()))
        others = f" {len(bad) - 1} more cannot be used." if len(bad) > 1 else ""
        raise DataError(
            first.problem + others, place=first.place, received=first.received, remedy=first.remedy
        )
    return facts, bad


def _walk(folder: Path, name: str, suffixes: tuple[str, ...]) -> tuple[list[str], int]:
    """Relative paths of the files below a sub-folder that end as they should, and the number of the others."""
    wanted: list[str] = []
    num_files = 0
    # Texts rather than `Path` objects: of a million files they take a tenth of the time.
    for parent, _, names in os.walk(folder / name):
        relative = os.path.relpath(parent, folder).replace(os.sep, "/")
        prefix = "" if relative == "." else f"{relative}/"
        num_files += len(names)
        wanted += [
            prefix + name for name in names if name.lower().endswith(suffixes) and not name.startswith(".")
        ]
    return wanted, num_files - len(wanted)
