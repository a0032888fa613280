"""What the examples of a source are, and how each format holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from distkeras.data.sources.base import Source
from distkeras.errors import DataError

Target = Literal["tfrecord", "parquet", "array_record", "memmap"]
Content = Literal["encoded", "image", "numbers", "text", "columns"]


@dataclass(frozen=True)
class Layout:
    """How examples are stored.

    Attributes:
        content: What features are: the bytes of an image file as they were found ("encoded"), pixels that become a PNG
            ("image"), numbers, a text, or the columns of a table by name.
        features: Name of the features, or of each column.
        label_names: Names that are stored for labels, by class index; None: numbers are stored.
        shape: Shape of one example's numbers or pixels; None where it varies.
    """

    content: Content
    features: tuple[str, ...]
    label_names: tuple[str, ...] | None
    shape: tuple[int | None, ...]

    def stored_labels(self, labels: np.ndarray) -> list[Any]:
        """Returns labels as they are stored: names or numbers."""
        values: list[Any] = labels.tolist()
        return values if self.label_names is None else [self.label_names[label] for label in values]


def layout_for(source: Source, target: Target) -> Layout:
    """Returns how a source's examples are stored in a format.

    Raises:
        DataError: If the format cannot hold them, or no source would read them again.
    """
    content = _content(source, target)
    shape: Any = source.feature_shape if content not in ("text", "columns") else ()
    names = {"encoded": "image", "image": "image", "text": "text", "numbers": "features"}
    if content == "columns" or (target == "parquet" and content == "numbers"):
        features = source.feature_names or tuple(f"feature_{place}" for place in range(shape[0]))
    else:
        features = ("x" if target == "memmap" else names[content],)
    labels = source.labels()
    if target != "memmap" and labels.ndim != 1:
        raise DataError(
            f"{target} files hold one label an example.",
            place=source.name,
            received=f"labels of shape {labels.shape}",
            remedy="convert with --to memmap, which keeps labels of any shape",
        )
    if "label" in features:
        raise DataError(
            "A feature is called `label`, which is what the labels are called in the result.",
            place=source.name,
            received=list(features),
            remedy="rename the column, or leave it out with data.source.features",
        )
    return Layout(content, features, None if target == "memmap" else _label_names(source, labels), shape)


def _content(source: Source, target: Target) -> Content:
    shape, dtype = source.feature_shape, source.feature_dtype
    if isinstance(shape, Mapping) and target == "parquet":
        return "columns"
    if not isinstance(shape, tuple) or not isinstance(dtype, str):
        raise _refusal(
            source, target, "examples have several inputs", "parquet, for columns of a table, or none"
        )
    if dtype == "string":
        if target in ("memmap", "parquet"):
            raise _refusal(source, target, "examples are texts", "tfrecord or array_record")
        return "text"
    is_image = len(shape) == 3 and dtype == "uint8" and shape[2] in (1, 3)
    if target in ("tfrecord", "array_record") and (source.has_encoded_images or is_image):
        return "encoded" if source.has_encoded_images else "image"
    if None in shape:
        raise _refusal(
            source,
            target,
            "images differ in size",
            "memmap with --set data.image.size=[H,W], tfrecord or array_record",
        )
    if target == "parquet" and len(shape) != 1:
        raise _refusal(
            source, target, f"examples have the shape {shape}, no columns", "memmap, tfrecord or array_record"
        )
    return "numbers"


def _refusal(source: Source, target: Target, reason: str, instead: str) -> DataError:
    return DataError(
        f"This cannot be converted to {target}: {reason}.", place=source.name, remedy=f"use --to {instead}"
    )


def _label_names(source: Source, labels: np.ndarray) -> tuple[str, ...] | None:
    """Names by class index, where a source that reads them would give every class the same index again."""
    names = source.class_names
    if names is None or labels.dtype.kind not in "iu":
        return None
    # Readers number names in sorted order, and a class without examples would have no number.
    is_complete = len(np.unique(labels)) == len(names)
    return names if is_complete and list(names) == sorted(names) else None
