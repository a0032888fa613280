"""What train loops call, called where there are no workers; and Ray's waits."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable

import keras
import pytest

import distkeras.ray
from distkeras.errors import ConfigError
from distkeras.ray.membership import current_worker
from distkeras.ray.waits import WAITS, with_waits


@pytest.mark.parametrize(
    "call",
    [
        current_worker,
        distkeras.ray.strategy,
        lambda: distkeras.ray.prepare_model(keras.Sequential()),
        lambda: distkeras.ray.batches(None, global_batch_size=2, features="x"),
    ],
)
def test_outside_of_a_worker_it_is_said_where_to_call_it(call: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="This process is no worker of a KerasTrainer"):
        call()


def test_every_wait_of_ray_is_set_while_it_trains_and_not_after() -> None:
    with with_waits(7.0):
        assert {name: os.environ[name] for name in WAITS} == WAITS
        assert os.environ["RAY_TRAIN_COLLECTIVE_TIMEOUT_S"] == "7.0"
    assert not {*WAITS, "RAY_TRAIN_COLLECTIVE_TIMEOUT_S"} & set(os.environ)


def test_a_wait_that_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"
    monkeypatch.setenv(name, "9")
    with with_waits(7.0):
        assert os.environ[name] == "9"
    assert os.environ[name] == "9"


def test_ray_train_reads_these_variables() -> None:
    from ray.train.v2._internal.constants import ENV_VARS_TO_PROPAGATE

    assert {*WAITS, "RAY_TRAIN_COLLECTIVE_TIMEOUT_S"} <= ENV_VARS_TO_PROPAGATE


def test_the_starting_side_needs_no_tensorflow(
    run_python: Callable[..., subprocess.CompletedProcess],
) -> None:
    code = "import sys, distkeras.ray; distkeras.ray.KerasTrainer; print('tensorflow' in sys.modules)"
    assert run_python("-c", code).stdout.strip() == "False"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'distkeras.ray' has no attribute 'Trainer'"):
        distkeras.ray.Trainer  # noqa: B018
