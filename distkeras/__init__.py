"""Train any Keras 3 model on one CPU, on all GPUs of a machine, or on a Ray cluster: the same numbers everywhere.

    import distkeras as dk

    run = dk.Trainer("digits", epochs=5, replicas=2).fit(build_model, (x, y), validation=(x_val, y_val))

Names are imported when they are first used: `import distkeras` itself loads neither TensorFlow nor Keras.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distkeras.config import Config, load_config
    from distkeras.errors import DistkerasError
    from distkeras.observability.run import Run
    from distkeras.runners.scaling import Scale, prepare, scale
    from distkeras.runners.trainer import Trainer
    from distkeras.topology import Topology

__version__ = "0.1.0"

_HOMES = {
    "Config": "distkeras.config",
    "DistkerasError": "distkeras.errors",
    "Run": "distkeras.observability.run",
    "Scale": "distkeras.runners.scaling",
    "Topology": "distkeras.topology",
    "Trainer": "distkeras.runners.trainer",
    "load_config": "distkeras.config",
    "prepare": "distkeras.runners.scaling",
    "scale": "distkeras.runners.scaling",
}

__all__ = [
    "Config",
    "DistkerasError",
    "Run",
    "Scale",
    "Topology",
    "Trainer",
    "load_config",
    "prepare",
    "scale",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'distkeras' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
