"""What a plan asks of both engines alike."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

# Labels are the examples' numbers, in order; the model says 0 and learns nothing: the loss is the mean label of the
# examples that it saw.
PROGRAM = """\
import sys
from distkeras.runners.attempt import use_backend
use_backend(sys.argv[1])
import keras
import numpy as np
from distkeras.config.settings import settings_from_mapping
from distkeras.data.changes import RandomChanges
from distkeras.data.sources.arrays import ArraySource
from distkeras.observability.timers import StepTimer
from distkeras.training.feeding import TrainingData, batch_plan
from distkeras.training.placement import FitPlan
from distkeras.training.schedule import Cursor
from distkeras.training.session import place

def build():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(0.0), "mae")
    return model

keys = {"name": "a", "engine": sys.argv[1], "training.global_batch_size": 4, "data.shuffle": False}
settings, section = settings_from_mapping(keys)
labels = np.arange(32.0, dtype="float32")
data = TrainingData(ArraySource(np.ones((32, 1), "float32"), labels), None, section, RandomChanges(section.image))
batches = batch_plan(settings, data)
placement = place(settings)
for num_repeated in (None, 2):
    model = placement.build(build, settings, data)
    history = keras.callbacks.History()
    plan = FitPlan(
        settings, data, batches, Cursor(batches.steps_per_epoch, batches.steps_per_epoch), epochs=2,
        timer=StepTimer(), epoch_metrics=None, asked_to_stop=lambda: 0, after_chunk=lambda stop: None,
        num_repeated=num_repeated,
    )
    placement.engine(model).fit(plan, [history])
    print(*history.history["loss"])
"""


@pytest.mark.parametrize("engine", ["tensorflow", "jax"])
def test_a_few_batches_are_repeated_where_the_plan_says_so(run_python, engine: str) -> None:
    if engine == "jax" and find_spec("jax") is None:
        pytest.skip("the extra `jax` is not installed")
    done = run_python("-c", PROGRAM, engine)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["15.5 15.5", "3.5 3.5"]
