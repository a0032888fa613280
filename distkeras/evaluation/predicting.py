"""Metrics and outputs of a model over a whole source, on all its replicas."""

from __future__ import annotations

from typing import Any

from distkeras.data.sources.base import Source
from distkeras.training.callbacks import scalars
from distkeras.training.session import Trained


def compute_metrics(trained: Trained, source: Source, *, global_batch_size: int) -> dict[str, float]:
    """Returns loss and metrics over every example exactly once, whatever the number of replicas. Collective."""
    metrics = trained.placement.evaluate(trained.model, source, global_batch_size=global_batch_size)
    return scalars(metrics)


def predict(trained: Trained, source: Source, *, global_batch_size: int) -> Any:
    """Returns the model's output for each example, in the source's order, shape (num_examples, ...). Collective."""
    return trained.placement.predict(trained.model, source, global_batch_size=global_batch_size)
