"""What a train loop calls on its model."""

from __future__ import annotations

import keras

from distkeras.errors import ConfigError
from distkeras.ray.membership import strategy
from distkeras.training.keras_workers import give_to_workers


def prepare_model(model: keras.Model) -> keras.Model:
    """Makes a compiled model's own `fit` and `evaluate` work over all workers. Collective from there on.

    Gradients are those of the global batch, each worker's part counted by its examples; weights begin equal on all
    workers and stay so; BatchNormalization's moving statistics are averaged before they are evaluated, and at the
    end of epochs; what callbacks and History see are the metrics of all workers. Every worker feeds its own part
    of the data; one that has less than the others waits for them with empty batches, and no example is left out.
    `predict` is this worker's alone: predictions of what it is given.

    Args:
        model: A compiled model that was built in this train loop.

    Returns:
        The same model.

    Raises:
        ConfigError: If the model is not compiled, or this process is no worker of a `KerasTrainer`.
    """
    workers = strategy()
    if not getattr(model, "compiled", False):
        raise ConfigError(
            "Only a compiled model can be prepared.",
            place="prepare_model(model)",
            received=type(model).__name__,
            remedy="call model.compile(...) first",
        )
    if model.distribute_strategy is not workers:
        raise ConfigError(
            "The model was not built under the workers' strategy.",
            place="prepare_model(model)",
            received=type(model.distribute_strategy).__name__,
            remedy="build it inside the train loop, under no strategy of your own or under distkeras.ray.strategy()",
        )
    give_to_workers(model, workers)
    return model
