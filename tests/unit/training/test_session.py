from __future__ import annotations

import random
from pathlib import Path

import keras
import numpy as np

from distkeras.config import config_from_mapping
from distkeras.training.experiment import open_experiment
from distkeras.training.session import build, place


def test_initial_weights_do_not_depend_on_what_opening_the_data_drew(tmp_path: Path):
    mapping = {
        "name": "seeded",
        "task": {"kind": "tabular_classification"},
        "data": {
            "source": {"kind": "synthetic", "num_examples": 40, "shape": [4], "num_classes": 2},
            "split": {"validation": 0, "test": 0},
        },
        "model": {"builder": "mlp"},
        "training": {"global_batch_size": 8},
    }
    config = config_from_mapping(mapping, origin="the test", base_folder=tmp_path)
    weights: list[list[np.ndarray]] = []
    for num_draws in (0, 3):
        placement = place(config)
        experiment = open_experiment(config)
        for _ in range(num_draws):
            random.random(), np.random.random(), keras.random.normal((1,))
        weights.append(build(experiment.build_model, config, experiment.data, placement).get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
