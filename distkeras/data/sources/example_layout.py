"""What one record of `tf.train.Example` holds, and what is wrong with it in words."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError

from distkeras.data.sources.image_header import read_image_header
from distkeras.errors import DataError

_DTYPES = {"bytes_list": "string", "float_list": "float32", "int64_list": "int64"}


@dataclass(frozen=True)
class Layout:
    """What every record of a file has.

    Attributes:
        features: What the model's input is: an encoded image, a text, or numbers of this type.
        num_values: Numbers in an example; 1 for images and texts.
        label: Type of the labels; None where they are not read.
    """

    features: str
    num_values: int
    label: str | None

    @property
    def dtype(self) -> str:
        """TensorFlow's name of the type that features are stored as."""
        return self.features if self.is_numbers else "string"

    @property
    def is_numbers(self) -> bool:
        """Whether features are numbers."""
        return self.features in ("float32", "int64")

    def __str__(self) -> str:
        features = (
            f"{self.num_values} values of {self.features}" if self.is_numbers else f"one {self.features}"
        )
        return features if self.label is None else f"{features} and a label of {self.label}"


def layout_of(record: bytes, features: str, label: str | None, place: str) -> Layout:
    """Returns what a record holds.

    Args:
        record: The record.
        features: Name of the feature that is the model's input.
        label: Name of the feature that is the label; None where labels are not read.
        place: The record's file and number, for errors.

    Raises:
        DataError: If it is no `tf.train.Example`, or these features are not in it as they must be.
    """
    example = tf.train.Example()
    try:
        example.ParseFromString(record)
    except DecodeError as error:
        raise DataError(
            "A record is no tf.train.Example.",
            place=place,
            received=f"{len(record)} bytes",
            remedy="Write records as serialized tf.train.Example.",
        ) from error
    dtype, values = _values(example, features, place)
    if dtype == "string" and len(values) != 1:
        raise DataError(
            f"Feature {features!r} is a list of {len(values)} strings.",
            place=place,
            remedy="Give the name of a feature with one image or one text, or of numbers, as data.source.features.",
        )
    what = _kind_of(values[0], features, place) if dtype == "string" else dtype
    return Layout(what, len(values), None if label is None else _label_type(example, label, place))


def is_text(content: bytes) -> bool:
    """Whether bytes are UTF-8."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _values(example: tf.train.Example, name: str, place: str) -> tuple[str, Sequence[Any]]:
    """Returns the type and the values of one feature."""
    features = example.features.feature
    # A look into `features` at a name that is not there would add it.
    kind = features[name].WhichOneof("kind") if name in features else None
    values = getattr(features[name], kind).value if kind else ()
    if kind is None or not values:
        similar = [other for other in get_close_matches(name, features, n=1) if other != name]
        raise DataError(
            f"A record has no feature {name!r}, or an empty one.",
            place=place,
            remedy=f"Did you mean {similar[0]!r}?"
            if similar
            else f"It has: {', '.join(sorted(features)) or 'nothing'}.",
        )
    return _DTYPES[kind], values


def _label_type(example: tf.train.Example, label: str, place: str) -> str:
    dtype, values = _values(example, label, place)
    if len(values) != 1:
        raise DataError(
            f"The label {label!r} has {len(values)} values; it must have one.",
            place=place,
            received=list(values[:5]),
            remedy="Name another feature as data.source.label.",
        )
    return dtype


def _kind_of(content: bytes, name: str, place: str) -> str:
    if read_image_header(io.BytesIO(content)) is not None:
        return "image"
    if not is_text(content):
        raise DataError(
            f"Feature {name!r} is neither an image (JPEG, PNG, BMP or GIF) nor UTF-8 text.",
            place=place,
            received=content[:32],
            remedy="Store images encoded, texts as UTF-8, and arrays as lists of numbers.",
        )
    return "text"
