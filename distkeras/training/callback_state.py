"""What Keras callbacks remember between epochs, so that a resumed run stops early at the same epoch.

Keras's callbacks (EarlyStopping, ReduceLROnPlateau, ModelCheckpoint) keep plain numbers and lists of arrays in
their attributes and forget them in `on_train_begin`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

Plain = bool | int | float | str | None


def plain_attributes(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Returns the attributes of a callback that are numbers, texts, flags or None."""
    values = {name: _scalar(value) for name, value in vars(callback).items() if not name.startswith("_")}
    return {name: value for name, value in values.items() if value is not NotImplemented}


def capture_callbacks(
    callbacks: Sequence[keras.callbacks.Callback], arguments: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Returns each callback's plain attributes, and its lists of arrays under `callback<i>/<attribute>/<j>`.

    Args:
        callbacks: The callbacks.
        arguments: Their `plain_attributes` before training. What training did not change is the user's, who may
            have chosen it anew when the run resumes.
    """
    plain: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for index, callback in enumerate(callbacks):
        before = arguments[index]
        attributes = {
            name: value
            for name, value in plain_attributes(callback).items()
            if name != "min_delta" and (name not in before or before[name] != value)
        }
        plain.append({"class": type(callback).__name__, "attributes": attributes})
        for name, value in vars(callback).items():
            if _is_arrays(value):
                arrays |= {
                    f"callback{index}/{name}/{number:05d}": array for number, array in enumerate(value)
                }
    return plain, arrays


class RestoredCallbacks(keras.callbacks.Callback):
    """Gives callbacks their attributes back, after their own `on_train_begin` forgot them. Put it last.

    Args:
        callbacks: The callbacks, in the order in which they were captured.
        plain: Their plain attributes.
        arrays: Arrays of the checkpoint, theirs among them.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        plain: Sequence[Mapping[str, Any]],
        arrays: Mapping[str, np.ndarray],
    ) -> None:
        super().__init__()
        self._callbacks, self._plain, self._arrays = callbacks, plain, arrays

    def on_train_begin(self, logs: Any = None) -> None:
        """Restores every callback that is still of the class it was captured from."""
        for index, (callback, saved) in enumerate(zip(self._callbacks, self._plain, strict=False)):
            if type(callback).__name__ == saved["class"]:
                vars(callback).update({name: _value(value) for name, value in saved["attributes"].items()})
                vars(callback).update(self._lists(index))

    def _lists(self, index: int) -> dict[str, list[np.ndarray]]:
        lists: dict[str, list[np.ndarray]] = {}
        for key in sorted(self._arrays):
            owner, _, rest = key.partition("/")
            if owner == f"callback{index}":
                lists.setdefault(rest.partition("/")[0], []).append(self._arrays[key])
        return lists


def _scalar(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return {"float": repr(value)}  # JSON has no infinity, and EarlyStopping's `best` begins with it
    return value if isinstance(value, Plain) else NotImplemented


def _value(value: Any) -> Plain:
    return float(value["float"]) if isinstance(value, dict) else value


def _is_arrays(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, np.ndarray) for item in value)
