"""Every file in configs/ loads, and its data opens."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow  # noqa: F401  its own warnings must not fall into a test

from distkeras.config import load_config
from distkeras.data.splits import open_splits

CONFIGS = sorted((Path(__file__).parent.parent.parent / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_loads_and_its_data_opens(path: Path) -> None:
    config = load_config(path)
    splits = open_splits(config.data)
    assert config.name == path.stem
    assert splits.train.num_examples >= config.training.global_batch_size


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_says_how_it_was_run(path: Path) -> None:
    header = path.read_text().partition("\n\n")[0]
    for fact in ("command:", "hardware:", "time:", "result:"):
        assert fact in header
