"""XLA around the reduction: forward and backward compiled, the sum over workers and the optimizer after them."""

from __future__ import annotations

import logging
from typing import Any

import keras
import tensorflow as tf

from distkeras.distribution.collectives import ForbiddenHereError
from distkeras.distribution.strategy import WorkerStrategy
from distkeras.training.replacing import replaced

_logger = logging.getLogger(__name__)


def compiled_train_step(model: keras.Model, strategy: WorkerStrategy) -> Any:
    """Returns the model's `train_step` with all that comes before `optimizer.apply` compiled by XLA.

    That is Keras's own step alone: one that a model overrides may do anything after an update. A step that adds up
    over workers before the update (masks, a synchronized BatchNormalization) is not compiled, as XLA has no kernel
    for the sum.
    """
    if type(model).train_step is not keras.Model.train_step:
        _logger.warning("the model has a train_step of its own: it runs without XLA")
        return model.train_step

    @tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
    def forward_and_backward(data: Any) -> tuple[Any, list[Any]]:
        found: list[Any] = []

        def keep(grads: Any, trainable_variables: Any = None) -> None:
            found.extend(grads)

        with replaced(model.optimizer, "apply", keep), strategy.collectives.forbidden():
            logs = model.train_step(data)
        return logs, found

    def step(data: Any) -> Any:
        try:
            logs, gradients = forward_and_backward(data)
        except ForbiddenHereError:
            _logger.warning(
                "the loss adds up over workers before the gradients do: the step runs without XLA"
            )
            return model.train_step(data)
        model.optimizer.apply(gradients, model.trainable_variables)
        return logs

    return step
