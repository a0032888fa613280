"""What is learnt from the training part of the data: one module for each kind of data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from distkeras.config.sections import InputSection
from distkeras.config.transform_sections import SpectrogramSection, TabularSection, TextSection
from distkeras.data.preprocessing.base import Preprocessing
from distkeras.data.sources.base import Source


@dataclass(frozen=True)
class Kind:
    """One kind of preprocessing.

    Attributes:
        is_wanted: Whether the config and the source call for it.
        learn: From the config and the training part.
        restore: The same from what was saved; the source is only asked for its shape.
    """

    is_wanted: Callable[[InputSection, Source], bool]
    learn: Callable[[InputSection, Source], Preprocessing]
    restore: Callable[[InputSection, Source, Mapping[str, Any]], Preprocessing]


def _wants_text(input: InputSection, source: Source) -> bool:
    return source.feature_shape == () and source.feature_dtype == "string"


def _learn_text(input: InputSection, source: Source) -> Preprocessing:
    from distkeras.data.preprocessing.text import learn_text

    return learn_text(input.text or TextSection(), source)


def _restore_text(input: InputSection, source: Source, state: Mapping[str, Any]) -> Preprocessing:
    from distkeras.data.preprocessing.text import restore_text

    return restore_text(input.text or TextSection(), state)


def _wants_spectrogram(input: InputSection, source: Source) -> bool:
    return input.spectrogram is not None


def _make_spectrogram(
    input: InputSection, source: Source, state: Mapping[str, Any] | None = None
) -> Preprocessing:
    from distkeras.data.preprocessing.spectrogram import Spectrogram

    return Spectrogram(input.spectrogram or SpectrogramSection(), source)


def _wants_tabular(input: InputSection, source: Source) -> bool:
    return input.tabular is not None


def _learn_tabular(input: InputSection, source: Source) -> Preprocessing:
    from distkeras.data.preprocessing.tabular import learn_tabular

    return learn_tabular(input.tabular or TabularSection(), source)


def _restore_tabular(input: InputSection, source: Source, state: Mapping[str, Any]) -> Preprocessing:
    from distkeras.data.preprocessing.tabular import restore_tabular

    return restore_tabular(state)


def _wants_layers(input: InputSection, source: Source) -> bool:
    return bool(input.layers)


def _learn_layers(input: InputSection, source: Source) -> Preprocessing:
    from distkeras.data.preprocessing.keras_layers import learn_layers

    return learn_layers(input.layers, source)


def _restore_layers(input: InputSection, source: Source, state: Mapping[str, Any]) -> Preprocessing:
    from distkeras.data.preprocessing.keras_layers import restore_layers

    return restore_layers(input.layers, source, state)


# In the order of application. Each is imported where it is used: they bring Keras or scikit-learn with them.
KINDS: dict[str, Kind] = {
    "text": Kind(_wants_text, _learn_text, _restore_text),
    "spectrogram": Kind(_wants_spectrogram, _make_spectrogram, _make_spectrogram),
    "tabular": Kind(_wants_tabular, _learn_tabular, _restore_tabular),
    "layers": Kind(_wants_layers, _learn_layers, _restore_layers),
}
