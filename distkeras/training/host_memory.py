"""Memory of the host that the state of training is copied into, again and again."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf


class HostMemory:
    """Keeps the memory of one copy of each variable for the next copy.

    The system zeroes new memory, page by page, when it is first written: a copy into it takes two to five times as
    long as one into memory that is there, and training waits for it.
    """

    def __init__(self) -> None:
        self._arrays: dict[int, np.ndarray] = {}

    def copied(self, variable: Any) -> np.ndarray:
        """Copies a Keras variable; whoever has what the last call for this variable returned sees it change."""
        # Of a variable on the CPU this is its own memory, which the next step overwrites. `__array__` is called here
        # because NumPy refuses what it returns for a bfloat16 without dimensions: no array.
        value = np.asarray(tf.convert_to_tensor(variable.value).__array__())
        array = self._arrays.get(id(variable))
        if array is None or (array.shape, array.dtype) != (value.shape, value.dtype):
            array = self._arrays[id(variable)] = np.empty_like(value)
        np.copyto(array, value)
        return array
