from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from distkeras.config.source_sections import SyntheticSource as SyntheticSection
from distkeras.data.sources.synthetic import SyntheticSource


def synthetic(**keys: object) -> SyntheticSource:
    keys = {"num_examples": 2000, "shape": [4, 5], "num_classes": 3, **keys}
    return SyntheticSource(SyntheticSection.model_validate({"kind": "synthetic", **keys}))


def read(source: SyntheticSource, ids: list[int]) -> tuple[np.ndarray, np.ndarray]:
    features, labels = source.read(tf.constant(ids, tf.int64))
    return features.numpy(), labels.numpy()


def test_an_example_depends_on_its_id_alone():
    source = synthetic()
    features, labels = read(source, [7, 1999, 7])
    again, labels_again = read(synthetic(), [1999])
    assert features.shape == (3, 4, 5)
    assert features.dtype == np.float32
    assert np.array_equal(features[0], features[2])
    assert not np.array_equal(features[0], features[1])
    assert np.array_equal(features[1:2], again)
    assert labels[1] == labels_again[0]


def test_labels_are_what_is_read():
    for num_classes in (3, None):
        source = synthetic(num_classes=num_classes)
        assert np.array_equal(source.labels(), read(source, list(range(2000)))[1])


def test_classes_are_balanced():
    labels = synthetic(num_classes=10).labels()
    assert labels.dtype == np.int64
    assert set(labels) == set(range(10))
    assert np.bincount(labels).min() > 150


def test_float_labels_fill_their_range():
    labels = synthetic(num_classes=None).labels()
    assert labels.dtype == np.float32
    assert labels.shape == (2000,)
    assert labels.min() >= -1
    assert labels.max() < 1
    assert abs(labels.mean()) < 0.06
    assert labels.std() == pytest.approx(1 / np.sqrt(3), rel=0.05)


def test_classes_can_be_learned():
    source = synthetic()
    features, labels = read(source, list(range(2000)))
    train, test = features[:1000].reshape(1000, -1), features[1000:].reshape(1000, -1)
    centres = np.stack([train[labels[:1000] == label].mean(axis=0) for label in range(3)])
    nearest = ((test[:, None] - centres) ** 2).sum(axis=-1).argmin(axis=1)
    assert (nearest == labels[1000:]).mean() > 0.9


def test_float_labels_can_be_learned():
    features, labels = read(synthetic(num_classes=None), list(range(2000)))
    columns = np.column_stack([features.reshape(2000, -1), np.ones(2000)])
    weights = np.linalg.lstsq(columns[:1000], labels[:1000], rcond=None)[0]
    rest = labels[1000:] - columns[1000:] @ weights
    assert rest.var() < 0.3 * labels[1000:].var()


def test_noise_is_uncorrelated_between_examples_and_places():
    features, labels = read(synthetic(num_classes=2), list(range(2000)))
    for label in (0, 1):
        noise = features[labels == label].reshape(-1, 20)
        noise = noise - noise.mean(axis=0)
        places = np.corrcoef(noise.T) - np.eye(20)
        assert np.abs(places).max() < 0.15
        assert abs(np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]) < 0.03


def test_what_it_says_of_itself():
    source = synthetic()
    assert (source.name, source.num_examples, source.granularity) == ("synthetic", 2000, "batch")
    assert (source.feature_shape, source.feature_dtype) == ((4, 5), "float32")
    assert source.locate(17) == "synthetic example 17"
    fingerprints = {
        synthetic(**keys).fingerprint
        for keys in ({}, {"num_examples": 3}, {"shape": [20]}, {"num_classes": None}, {"num_classes": 4})
    }
    assert len(fingerprints) == 5
    assert synthetic().fingerprint == source.fingerprint


def test_it_works_in_a_graph_with_a_static_shape():
    source = synthetic(shape=[3])

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.int64)])
    def run(ids: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return source.read(ids)

    assert run.get_concrete_function().output_shapes[0].as_list() == [None, 3]
    assert np.array_equal(run(tf.constant([5, 6], tf.int64))[0].numpy(), read(source, [5, 6])[0])
