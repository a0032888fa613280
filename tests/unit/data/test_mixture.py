from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from pydantic import TypeAdapter

from distkeras.config.source_sections import Source as SourceSection
from distkeras.data.sources import open_source
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.sources.mixture import MixtureSource
from distkeras.errors import DataError


def numbered(num_examples: int, first: int = 0, **changes) -> ArraySource:
    ids = np.arange(first, first + num_examples)
    return ArraySource(ids.astype("float32")[:, np.newaxis], ids, name=f"from {first}", **changes)


def save(path, rows: int, first: int) -> dict:
    ids = np.arange(first, first + rows)
    np.savez(path, x=ids.astype("float32")[:, np.newaxis], y=ids % 2)
    return {"kind": "arrays", "path": str(path)}


def pictures(folder, size: int, count: int):
    for index in range(count):
        for name in ("cat", "dog"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            pixels = np.full((size, size + 1, 3), 10 * index + size, np.uint8)
            (folder / name / f"{index}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    return {"kind": "image_folder", "path": str(folder)}


def opened(sources: list[dict], **keys) -> MixtureSource:
    document = {"kind": "mixture", "sources": sources, **keys}
    return open_source(TypeAdapter(SourceSection).validate_python(document, strict=False))


def test_examples_are_numbered_on(tmp_path):
    sources = [
        {"source": save(tmp_path / "a.npz", 5, 0)},
        {"source": save(tmp_path / "b.npz", 3, 5), "weight": 2.0},
    ]
    mixture = opened(sources)
    assert mixture.num_examples == 8
    ids = np.array([7, 0, 5, 4, 6])
    for features, labels in (mixture.read_arrays(ids), mixture.read(tf.constant(ids))):
        assert np.asarray(features)[:, 0].tolist() == ids.tolist()
        assert np.asarray(labels).tolist() == (ids % 2).tolist()
    assert mixture.labels().tolist() == [0, 1] * 4
    assert "b.npz record 2" in mixture.locate(7)
    assert [(part.first_id, part.num_examples) for part in mixture.parts] == [(0, 5), (5, 3)]
    assert [part.num_positions for part in mixture.parts] == pytest.approx([8 / 3, 16 / 3])


def test_images_of_different_sizes_are_mixed(tmp_path):
    mixture = opened([{"source": pictures(tmp_path / "a", 4, 2)}, {"source": pictures(tmp_path / "b", 6, 1)}])
    assert mixture.feature_shape == (None, None, 3)
    assert mixture.has_encoded_images
    shapes = [tuple(mixture.read(tf.constant(index, tf.int64))[0].shape) for index in range(6)]
    assert shapes == [(4, 5, 3)] * 4 + [(6, 7, 3)] * 2
    content, label = mixture.read_encoded(tf.constant(5, tf.int64))
    assert tf.io.decode_png(content).shape == (6, 7, 3)
    assert int(label) == 1


def test_the_fingerprint_follows_content_and_weights():
    first, second = numbered(5), numbered(3, 5)
    prints = {
        MixtureSource(sources, weights, total).fingerprint
        for sources, weights, total in [
            ([first, second], [1.0, 1.0], None),
            ([second, first], [1.0, 1.0], None),
            ([first, second], [1.0, 2.0], None),
            ([first, second], [1.0, 1.0], 20),
        ]
    }
    assert len(prints) == 4


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (ArraySource(np.ones((3, 2), np.float32), np.zeros(3, np.int64)), "shapes of features"),
        (ArraySource(np.ones((3, 1), np.uint8), np.zeros(3, np.int64)), "types of features"),
        (numbered(3, class_names=("a", "b")), "classes"),
        (ArraySource(np.ones((3, 1), np.float32), np.zeros(3)), "kinds of labels"),
    ],
)
def test_sources_of_different_kinds_are_refused(other, what):
    with pytest.raises(DataError, match=f"The sources of a mixture have different {what}"):
        MixtureSource([numbered(5), other], [1.0, 1.0])
