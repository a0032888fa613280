"""A commit of training: one file of arrays, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from distkeras.checkpoint.arrays import dump_arrays, load_arrays
from distkeras.checkpoint.commit import FileContent, latest
from distkeras.training.state import Arrays

ARRAYS = "state.npz"


@dataclass(frozen=True)
class Saved:
    """What was committed at a step.

    Attributes:
        step: Complete optimizer steps.
        arrays: What `state.capture` copied.
        metadata: What was said of it.
        rejected: One line for each newer commit that cannot be trusted.
    """

    step: int
    arrays: Arrays
    metadata: Mapping[str, Any]
    rejected: tuple[str, ...]


def files(arrays: Mapping[str, np.ndarray]) -> dict[str, FileContent]:
    """Returns the files of a commit that holds these arrays."""
    return {ARRAYS: partial(dump_arrays, arrays)}


def load_latest(directory: Path) -> Saved | None:
    """Returns the newest commit that can be trusted; None where nothing was committed.

    Raises:
        CheckpointError: If there are commits and none can be trusted.
    """
    found = latest(directory)
    if found is None:
        return None
    commit, rejected = found.commit, tuple(map(str, found.rejected))
    return Saved(commit.step, load_arrays(commit.file(ARRAYS)), commit.metadata, rejected)
