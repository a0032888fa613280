"""Metrics and outputs of a model over a whole source, on all its replicas."""

from __future__ import annotations

from typing import Any

import numpy as np

from distkeras.config.sections import InputSection
from distkeras.data.sources.base import Source
from distkeras.distribution.reduction import average_replica_state
from distkeras.training.callbacks import scalars
from distkeras.training.execution import testing_chunk
from distkeras.training.feeding import evaluation_batches
from distkeras.training.loop import distributed, testing
from distkeras.training.session import Trained

# Of one call into TensorFlow; only the progress of a terminal would need shorter ones.
STEPS_PER_CALL = 100


def compute_metrics(
    trained: Trained, source: Source, *, global_batch_size: int, input: InputSection
) -> dict[str, float]:
    """Returns loss and metrics over every example exactly once, whatever the number of replicas. Collective."""
    model, placement = trained.model, trained.placement
    batches = evaluation_batches(source, global_batch_size, input, placement.topology)
    average_replica_state(model, placement.strategy)
    interval = min(STEPS_PER_CALL, batches.num_steps)
    model.steps_per_execution = interval
    model.test_function = testing(testing_chunk(model, placement.strategy), batches.num_steps, interval)
    metrics: dict[str, Any] = model.evaluate(
        distributed(batches.dataset, placement.strategy), steps=batches.num_steps, verbose=0, return_dict=True
    )
    return scalars(metrics)


def predict(trained: Trained, source: Source, *, global_batch_size: int, input: InputSection) -> np.ndarray:
    """Returns the model's output for each example, in the source's order, shape (num_examples, ...). Collective."""
    model, placement = trained.model, trained.placement
    batches = evaluation_batches(source, global_batch_size, input, placement.topology)
    model.steps_per_execution = 1
    model.predict_function = None
    return model.predict(distributed(batches.dataset, placement.strategy), steps=batches.num_steps, verbose=0)
