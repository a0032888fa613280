"""Labels that were read part by part, as those of one whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from distkeras.data.sources.columns import Labels


def join_labels(parts: Sequence[Labels]) -> Labels:
    """Returns the labels of all parts, one after the other.

    Args:
        parts: At least one. Where they hold text, each has indices into its own names.

    Returns:
        The labels; text becomes indices into the sorted names of all parts.
    """
    if parts[0].class_names is None:
        return Labels(np.concatenate([part.values for part in parts]), None)
    names = sorted({name for part in parts for name in part.class_names or ()})
    places = {name: place for place, name in enumerate(names)}
    values = [_renumbered(part, places) for part in parts]
    return Labels(np.concatenate(values), tuple(names))


def _renumbered(part: Labels, places: dict[str, int]) -> np.ndarray:
    return np.array([places[name] for name in part.class_names or ()], dtype=np.int64)[part.values]
