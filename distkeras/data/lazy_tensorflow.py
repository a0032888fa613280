"""TensorFlow, imported when it is first used: arrays and synthetic examples reach a JAX model without it."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

from distkeras.errors import ConfigError

__all__ = ["tf"]


class _LazyTensorFlow(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return getattr(_tensorflow(), name)


def _tensorflow() -> ModuleType:
    try:
        return importlib.import_module("tensorflow")
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        raise ConfigError(
            "This is read or changed by TensorFlow, which is not installed.",
            place="data",
            remedy="pip install tensorflow; without it: arrays, tables and synthetic examples, images as they are",
        ) from error


if TYPE_CHECKING:
    import tensorflow as tf
else:
    tf = _LazyTensorFlow("tensorflow")
