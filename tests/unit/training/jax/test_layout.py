"""Which weights a layout splits, and what it is refused for."""

from __future__ import annotations

import keras
import pytest

pytest.importorskip("jax", reason="the extra `jax` is not installed")

from distkeras.errors import ConfigError
from distkeras.topology import Topology
from distkeras.training.jax.layout import check_layout, deal_out


@pytest.fixture(scope="module")
def model() -> keras.Model:
    features = keras.Input((6,))
    wide = keras.layers.Dense(8, name="ffn_up")(features)
    return keras.Model(features, keras.layers.Dense(3, name="head")(wide))


def test_a_layout_that_fits_is_accepted(model: keras.Model) -> None:
    check_layout(model, {"ffn_up/kernel": [None, "model"], "ffn_up/bias": ["model"]}, 4)


@pytest.mark.parametrize(
    ("layout", "place", "message"),
    [
        ({"ffn_down/kernel": [None, "model"]}, "ffn_down/kernel", "matches none of the model's weights"),
        ({"kernel": [None, "model"]}, "kernel", "matches none of the model's weights"),
        (
            {"head/kernel": [None, "model"]},
            "head/kernel",
            "splits an axis of head/kernel that does not divide",
        ),
        ({".*/kernel": ["model", None]}, ".*/kernel", "splits an axis of ffn_up/kernel that does not divide"),
        ({"ffn_up/bias": [None, "model"]}, "ffn_up/bias", "names 2 axes, and ffn_up/bias has 1"),
        (
            {"ffn_up/bias": ["model"], "ffn_up/b.*": ["model"]},
            "ffn_up/b.*",
            "matches ffn_up/bias, as 'ffn_up/bias' does",
        ),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(
    layout: dict[str, list[str | None]], place: str, message: str, model: keras.Model
) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        check_layout(model, layout, 4)
    assert refusal.value.place == f"topology.layout: {place}"


@pytest.mark.parametrize(
    ("world_size", "rank", "devices", "model_parallel", "expected"),
    [
        (1, 0, 1, 1, Topology(1, 0, 1)),
        (2, 1, 1, 1, Topology(2, 1, 1)),
        (2, 1, 4, 2, Topology(2, 1, 2)),
        # Workers that share a model read the same rows.
        (2, 1, 1, 2, Topology(1, 0, 1)),
        (4, 2, 1, 2, Topology(2, 1, 1)),
        (4, 3, 2, 4, Topology(2, 1, 1)),
    ],
)
def test_the_batch_is_dealt_out_to_copies_of_the_model(
    world_size: int, rank: int, devices: int, model_parallel: int, expected: Topology
) -> None:
    assert deal_out(world_size, rank, devices, model_parallel) == expected


@pytest.mark.parametrize(("world_size", "devices", "model_parallel"), [(3, 1, 2), (2, 2, 3), (1, 2, 4)])
def test_devices_that_do_not_divide_by_models_are_refused(
    world_size: int, devices: int, model_parallel: int
) -> None:
    with pytest.raises(ConfigError, match="do not divide by models"):
        deal_out(world_size, 0, devices, model_parallel)
