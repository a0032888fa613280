"""Keras 3 on Ray Train: a trainer with the arguments of Ray's own, and what a train loop calls inside it.

    from distkeras.ray import KerasTrainer, batches, prepare_model

    def train_loop(config):
        model = prepare_model(build_compiled_model())
        data = batches(ray.train.get_dataset_shard("train"), global_batch_size=64, features="x", label="y")
        model.fit(data, epochs=config["epochs"])

    KerasTrainer(train_loop, train_loop_config={"epochs": 3}, datasets={"train": dataset},
                 scaling_config=ray.train.ScalingConfig(num_workers=2)).fit()

Names are imported when they are first used: the process that starts the workers needs no TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distkeras.ray.feeding import batches
    from distkeras.ray.membership import strategy
    from distkeras.ray.preparing import prepare_model
    from distkeras.ray.trainer import KerasConfig, KerasTrainer

_HOMES = {
    "KerasConfig": "distkeras.ray.trainer",
    "KerasTrainer": "distkeras.ray.trainer",
    "batches": "distkeras.ray.feeding",
    "prepare_model": "distkeras.ray.preparing",
    "strategy": "distkeras.ray.membership",
}

__all__ = ["KerasConfig", "KerasTrainer", "batches", "prepare_model", "strategy"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'distkeras.ray' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
