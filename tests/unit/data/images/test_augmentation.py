from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from distkeras.config.transform_sections import ImageSection
from distkeras.data.images.augmentation import Augmentation, augmentation_from
from distkeras.data.images.colour import RandomColor
from distkeras.data.images.erasing import RandomCutout
from distkeras.data.images.geometry import (
    AffineChanges,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomTranslation,
    RandomZoom,
)
from distkeras.data.images.mixing import RandomCutMix, RandomMixUp
from distkeras.data.images.rand_augment import RandAugmentation
from distkeras.errors import ConfigError

SIZE = (12, 14, 3)
CHANGES: dict[str, dict[str, Any]] = {
    "crop": {"random_crop": 2},
    "flips": {"random_flip": "both"},
    "places": {"augment": [{"kind": "rotation", "degrees": 30, "probability": 0.7}, {"kind": "zoom"}]},
    "color": {
        "augment": [
            {"kind": "color_jitter", "brightness": 0.3, "contrast": 0.4, "saturation": 0.4, "hue": 0.2}
        ]
    },
    "cutout": {"augment": [{"kind": "cutout", "probability": 0.5}]},
    "rand_augment": {"augment": [{"kind": "rand_augment"}]},
}


def section(**settings: Any) -> ImageSection:
    return ImageSection.model_validate(settings)


def pictures(batch: int = 9, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (batch, *SIZE)).astype(dtype)


def draws(num: int, batch: int = 9) -> np.ndarray:
    return np.random.default_rng(1).random((batch, num), np.float32)


def test_a_config_becomes_changes_in_its_order():
    augmentation = augmentation_from(
        section(
            white=1.0,
            random_crop=4,
            random_flip="both",
            augment=[
                {"kind": "rotation", "degrees": 15},
                {"kind": "translation", "height": 0.2, "width": 0.3, "probability": 0.5},
                {"kind": "cutout", "size": 0.4},
                {"kind": "zoom", "least": 0.9, "most": 1.1},
                {"kind": "color_jitter", "brightness": 0.1, "contrast": 0.2, "saturation": 0.3, "hue": 0.4},
                {"kind": "rand_augment", "num_ops": 3, "magnitude": 5},
                {"kind": "mixup", "alpha": 0.3},
                {"kind": "cutmix", "probability": 0.25},
            ],
        ),
        num_classes=10,
    )
    assert augmentation.changes == (
        RandomCrop(4),
        RandomFlip(1),
        RandomFlip(2),
        AffineChanges((RandomRotation(15), RandomTranslation(0.2, 0.3, 0.5))),
        RandomCutout(0.4),
        AffineChanges((RandomZoom(0.9, 1.1),)),
        RandomColor(0.1, 0.2, 0.3, 0.4, 1.0, 1.0),
        RandAugmentation(3, 5, 1.0, 1.0),
        RandomMixUp(0.3, 10),
        RandomCutMix(1.0, 10, 0.25),
    )
    assert augmentation.num_draws == 2 + 1 + 1 + 5 + 3 + 2 + 5 + 7 + 2 + 4
    assert augmentation.mixes_labels


@pytest.mark.parametrize(
    ("settings", "num_draws"),
    [
        ({}, 0),
        ({"random_crop": 2}, 2),
        ({"random_flip": "vertical"}, 1),
        ({"random_crop": 2, "random_flip": "both"}, 4),
    ],
)
def test_crop_and_flip_need_the_draws_that_they_always_needed(settings: dict[str, Any], num_draws: int):
    augmentation = augmentation_from(section(**settings))
    assert augmentation.num_draws == num_draws
    assert not augmentation.mixes_labels


def test_changes_are_made_in_order_each_with_its_own_draws():
    settings = {
        **CHANGES["crop"],
        **CHANGES["flips"],
        "augment": [*CHANGES["color"]["augment"], {"kind": "cutout"}],
    }
    augmentation = augmentation_from(section(**settings))
    images, numbers = tf.constant(pictures()), tf.constant(draws(augmentation.num_draws))
    expected = RandomCrop(2)(images, numbers[:, :2])
    expected = RandomFlip(1)(expected, numbers[:, 2:3])
    expected = RandomFlip(2)(expected, numbers[:, 3:4])
    expected = RandomColor(0.3, 0.4, 0.4, 0.2)(expected, numbers[:, 4:9])
    expected = RandomCutout(0.25)(expected, numbers[:, 9:])
    assert np.array_equal(augmentation(images, numbers).numpy(), expected.numpy())


@pytest.mark.parametrize("name", CHANGES)
def test_an_example_is_changed_alike_in_any_batch(name: str):
    augmentation = augmentation_from(section(**CHANGES[name]))
    images, numbers = pictures(), draws(augmentation.num_draws)
    together = augmentation(tf.constant(images), tf.constant(numbers)).numpy()
    assert (together != images).any(axis=(1, 2, 3)).sum() >= 3
    # Alone, and elsewhere in a batch.
    alone = augmentation(tf.constant(images[4:5]), tf.constant(numbers[4:5])).numpy()
    assert np.array_equal(alone, together[4:5])
    backwards = augmentation(tf.constant(images[::-1]), tf.constant(numbers[::-1])).numpy()
    assert np.array_equal(backwards[::-1], together)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_pipeline_keeps_static_shapes_and_values(name: str, dtype: str):
    augmentation = augmentation_from(section(**CHANGES[name]))
    images, numbers = pictures(dtype=dtype), draws(augmentation.num_draws)
    examples = tf.data.Dataset.from_tensor_slices((images, numbers))
    batches = examples.batch(3).map(augmentation, num_parallel_calls=2)
    assert batches.element_spec == tf.TensorSpec((None, *SIZE), dtype)
    eager = augmentation(tf.constant(images), tf.constant(numbers)).numpy()
    in_pipeline = np.concatenate(list(batches.as_numpy_iterator()))
    if dtype == "uint8":
        assert np.array_equal(in_pipeline, eager)
    else:
        assert np.abs(in_pipeline - eager).max() <= 1e-3


@pytest.mark.parametrize("name", CHANGES)
def test_an_empty_batch_is_left_empty(name: str):
    augmentation = augmentation_from(section(**CHANGES[name]))
    changed = augmentation(tf.zeros((0, *SIZE), tf.uint8), tf.zeros((0, augmentation.num_draws)))
    assert changed.shape == (0, *SIZE)


def test_labels_are_mixed_with_the_images():
    settings = section(
        random_flip="horizontal", augment=[{"kind": "mixup", "alpha": 1.0}, {"kind": "cutmix"}]
    )
    augmentation = augmentation_from(settings, num_classes=4)
    labels, numbers = tf.range(8) % 4, tf.constant(draws(7, batch=8))
    images, shares = augmentation.with_labels(tf.constant(pictures(8)), labels, numbers)
    flipped = RandomFlip(2)(tf.constant(pictures(8)), numbers[:, :1])
    mixed, mixed_shares = RandomMixUp(1.0, 4).mix(flipped, labels, numbers[:, 1:3])
    mixed, mixed_shares = RandomCutMix(1.0, 4).mix(mixed, mixed_shares, numbers[:, 3:])
    assert np.array_equal(images.numpy(), mixed.numpy())
    assert np.array_equal(shares.numpy(), mixed_shares.numpy())


def test_labels_are_left_alone_where_nothing_is_mixed():
    labels = object()
    _, same = Augmentation((RandomFlip(2),)).with_labels(
        tf.constant(pictures()), labels, tf.constant(draws(1))
    )
    assert same is labels


def test_a_pipeline_that_mixes_keeps_static_shapes():
    augmentation = augmentation_from(section(augment=[{"kind": "mixup"}, {"kind": "cutmix"}]), num_classes=4)
    examples = tf.data.Dataset.from_tensor_slices((pictures(), np.arange(9) % 4, draws(6)))
    batches = examples.batch(4).map(augmentation.with_labels)
    assert batches.element_spec == (
        tf.TensorSpec((None, *SIZE), "uint8"),
        tf.TensorSpec((None, 4), "float32"),
    )
    assert [len(labels) for _, labels in batches] == [4, 4, 1]


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_labels_that_are_no_classes_cannot_be_mixed(kind: str):
    with pytest.raises(
        ConfigError, match=f"(?s)these labels are no classes.*data.image.augment.*{kind}.*train a classifier"
    ):
        augmentation_from(section(augment=[{"kind": kind}]))
