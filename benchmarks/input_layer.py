"""What a run makes of a config before it trains: the data, the model and the batches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    import tensorflow as tf

    from distkeras.training.experiment import Experiment


def open_config(config_text: str) -> Experiment:
    """Returns the experiment that a config describes, as `distkeras train` opens it.

    Args:
        config_text: A whole config, but for its name. Its paths are absolute.
    """
    from distkeras.config import config_from_mapping
    from distkeras.training.experiment import open_experiment

    mapping = {"name": "benchmark", **yaml.safe_load(config_text)}
    return open_experiment(config_from_mapping(mapping, origin="the benchmark", base_folder=Path("/")))


def training_dataset(config_text: str, *, at: float = 0.0) -> tf.data.Dataset:
    """Returns the training batches of a config, of one worker, endless.

    Args:
        config_text: As for `open_config`.
        at: Where in the first epoch they begin, as a share of its steps.
    """
    from distkeras.topology import Topology
    from distkeras.training import feeding

    experiment = open_config(config_text)
    config, data = experiment.config, experiment.data
    plan = feeding.batch_plan(config, data)
    return feeding.training_batches(config, data, plan, Topology(), round(at * plan.steps_per_epoch))
