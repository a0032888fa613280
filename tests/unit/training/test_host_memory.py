"""A copy of a variable is no view of it, and the next copy takes the same memory."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from distkeras.distribution.strategy import ReplicaStrategy
from distkeras.training.host_memory import HostMemory


@pytest.mark.parametrize("shape", [(), (3,), (2, 1000)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int64", "uint32", "bool"])
def test_a_copy_has_the_variables_type_shape_and_values(shape: tuple[int, ...], dtype: str) -> None:
    values = np.arange(np.prod(shape, dtype=int)).reshape(shape) % 7
    variable = keras.Variable(values.astype("float32"), dtype=dtype)
    copy = HostMemory().copied(variable)
    assert isinstance(copy, np.ndarray)
    assert (copy.shape, copy.dtype.name) == (shape, dtype)
    assert copy.astype("float32").tolist() == values.astype(bool if dtype == "bool" else "float32").tolist()


def test_what_was_copied_stays_while_the_variable_changes() -> None:
    variable, memory = keras.Variable(np.zeros(1000, "float32")), HostMemory()
    copy = memory.copied(variable)
    tf.raw_ops.AssignAddVariableOp(resource=variable.value.handle, value=tf.ones(1000))
    assert not copy.any()


def test_the_next_copy_takes_the_same_memory() -> None:
    first, second, memory = keras.Variable(np.zeros(4)), keras.Variable(np.ones(4)), HostMemory()
    copy, other = memory.copied(first), memory.copied(second)
    first.assign(np.full(4, 2.0))
    assert memory.copied(first) is copy
    assert copy.tolist() == [2.0] * 4
    assert other.tolist() == [1.0] * 4


def test_of_several_replicas_it_copies_the_first() -> None:
    with ReplicaStrategy(["CPU:0", "CPU:1"]).scope():
        variable = keras.Variable(np.arange(3.0))
    assert HostMemory().copied(variable).tolist() == [0.0, 1.0, 2.0]
