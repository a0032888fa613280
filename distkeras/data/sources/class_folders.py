"""A folder with one sub-folder for each class: what image, text and sound folders have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TypeVar

from distkeras.errors import DataError

NUM_THREADS = 16
FILES_PER_TASK = 256

Facts = TypeVar("Facts")


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


def find_files(
    folder: Path, class_names: Sequence[str], suffixes: Sequence[str], content: str
) -> tuple[list[tuple[str, int]], int]:
    """Finds the files of each class, at any depth below its sub-folder.

    Args:
        folder: The data set.
        class_names: Its sub-folders; "." is the folder itself.
        suffixes: Endings of the files that count, in lower case: ".png".
        content: What the files are, in the plural: "images".

    Returns:
        Relative paths (with forward slashes) with the index of their class, sorted by class and path; and the
        number of files left out, which are hidden or end otherwise.

    Raises:
        DataError: If a class has no files.
    """
    found: list[tuple[str, int]] = []
    ignored = 0
    for label, name in enumerate(class_names):
        paths = list(_walk(folder / name))
        wanted = [path for path in paths if not path.name.startswith(".") and path.suffix.lower() in suffixes]
        ignored += len(paths) - len(wanted)
        if not wanted:
            raise DataError(
                f"The folder has no {content}." if name == "." else f"Class {name!r} has no {content}.",
                place=str(folder / name),
                remedy=f"Put {content} ({', '.join(suffixes)}) in it, or remove the folder.",
            )
        found += [(path, label) for path in sorted(path.relative_to(folder).as_posix() for path in wanted)]
    return found, ignored


def inspect_files(
    found: Sequence[tuple[str, int]],
    inspect: Callable[[str, int], Facts],
    *,
    instead: Callable[[str, int], Facts],
    max_bad_records: int = 0,
) -> tuple[list[Facts], dict[int, DataError]]:
    """Calls `inspect(path, label)` for each file, in threads.

    Args:
        found: Paths and labels, as `find_files` returns them.
        inspect: Returns what is known of a file, or raises a `DataError`.
        instead: What stands for a bad file, so that every file keeps its id.
        max_bad_records: How many may be bad.

    Returns:
        What is known of the files, by id, and what is wrong with the bad ones.

    Raises:
        DataError: The first bad file's where there are too many, with the number of the others.
    """

    def outcome(path: str, label: int) -> tuple[Facts, DataError | None]:
        try:
            return inspect(path, label), None
        except DataError as error:
            return instead(path, label), error

    def some(start: int) -> list[tuple[Facts, DataError | None]]:
        return [outcome(*file) for file in found[start : start + FILES_PER_TASK]]

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        outcomes = list(chain.from_iterable(pool.map(some, range(0, len(found), FILES_PER_TASK))))
    bad = {index: error for index, (_, error) in enumerate(outcomes) if error is not None}
    if len(bad) > max_bad_records or len(bad) == len(outcomes):
        first = next(iter(bad.values()))
        others = f" {len(bad) - 1} more cannot be used." if len(bad) > 1 else ""
        raise DataError(
            first.problem + others, place=first.place, received=first.received, remedy=first.remedy
        )
    return [facts for facts, _ in outcomes], bad


def _walk(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)
