"""A stream is read on from where it stands, checked example by example, and never further than it must be."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent, indent

import numpy as np
import pytest
import tensorflow as tf

from distkeras.config.source_sections import GeneratorSource as GeneratorSection
from distkeras.data.bad_data import find_unreadable_example
from distkeras.data.pipeline import evaluation_dataset
from distkeras.data.prepared import OneHot
from distkeras.data.sources import open_source
from distkeras.data.sources.generator import GeneratorSource
from distkeras.errors import ConfigError, DataError
from distkeras.topology import Topology

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a module with one function `stream`, and returns what a config calls it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"streams_{tmp_path.name}"

    def module(content: str) -> str:
        (tmp_path / f"{name}.py").write_text(f"import numpy as np\ncalls = []\n{dedent(content)}")
        sys.modules.pop(name, None)
        return f"{name}:stream"

    return module


def numbers(start_parameter: str = "") -> str:
    """A stream without end of (n, n + 0.5), labels 2 n, that notes how it was called."""
    return f"""
        from itertools import count
        def stream({start_parameter}):
            calls.append({start_parameter.partition("=")[0] or None})
            for n in count({start_parameter.partition("=")[0]}):
                yield np.array([n, n + 0.5]), 2 * n
    """


def opened(reference: str, **options: object) -> GeneratorSource:
    section = GeneratorSection(kind="generator", function=reference, **{"shape": [2], **options})
    source = open_source(section)
    assert isinstance(source, GeneratorSource)
    return source


def calls(source: GeneratorSource) -> list[int | None]:
    return sys.modules[source.name.partition(":")[0]].calls


@pytest.mark.parametrize("start_parameter", ["", "start=0"])
def test_ids_are_numbers_in_the_stream(start_parameter: str, write: Write) -> None:
    source = opened(write(numbers(start_parameter)))
    features, labels = source.read_arrays(np.array([7, 3, 7]))
    assert (features.dtype, labels.dtype) == (np.float32, np.float32)
    assert features.tolist() == [[7, 7.5], [3, 3.5], [7, 7.5]]
    assert labels.tolist() == [14, 6, 14]


def test_reading_in_order_calls_the_function_once(write: Write) -> None:
    source = opened(write(numbers()))
    reader = source.in_order(100)
    for first in (0, 4, 10, 50):
        features, _ = reader.read_arrays(np.arange(first, first + 2))
        assert features[:, 0].tolist() == [first, first + 1]
    assert calls(source) == [None]


def test_a_function_with_start_is_told_where_to_begin(write: Write) -> None:
    source = opened(write(numbers("start=0")))
    reader = source.in_order(100)
    assert reader.read_arrays(np.array([40, 44]))[1].tolist() == [80, 88]
    assert reader.read_arrays(np.array([60]))[1].tolist() == [120]
    assert calls(source) == [40]


def test_ids_that_have_passed_are_read_by_calling_again(write: Write) -> None:
    source = opened(write(numbers("start=0")))
    reader = source.in_order(100)
    reader.read_arrays(np.array([40]))
    assert reader.read_arrays(np.array([12]))[1].tolist() == [24]
    assert calls(source) == [40, 12]


def test_two_readings_do_not_disturb_each_other(write: Write) -> None:
    source = opened(write(numbers()))
    one, other = source.in_order(100), source.in_order(100)
    for first in range(3):
        assert one.read_arrays(np.array([first]))[1].tolist() == [2 * first]
        assert other.read_arrays(np.array([first + 20]))[1].tolist() == [2 * first + 40]
    assert calls(source) == [None, None]


def test_what_wraps_a_stream_reads_on_too(write: Write) -> None:
    source = opened(write(numbers().replace("2 * n", "n % 3")), num_classes=3)
    reader = OneHot(source, 3).in_order(100)
    assert [reader.read_arrays(np.array([n]))[1].argmax() for n in (1, 2, 3)] == [1, 2, 0]
    assert calls(source) == [None]


@pytest.mark.parametrize("dtype", ["float32", "int32", "int64", "uint8"])
def test_in_a_graph_types_and_shapes_are_known(dtype: str, write: Write) -> None:
    source = opened(
        write("def stream():\n  while True:\n    yield [[1, 2, 3]], 1"),
        shape=[1, 3],
        dtype=dtype,
        num_classes=2,
    )
    batches = tf.data.Dataset.range(6).batch(2, drop_remainder=True).map(source.in_order(6).read)
    assert batches.element_spec == (tf.TensorSpec([2, 1, 3], dtype), tf.TensorSpec([2], tf.int64))
    assert [features.numpy().tolist() for features, _ in batches] == 3 * [2 * [[[1, 2, 3]]]]


def test_what_would_go_through_all_examples_is_told_that_there_is_no_end(write: Write) -> None:
    source = opened(write(numbers()))
    dataset = evaluation_dataset(source, Topology(), global_batch_size=4)
    assert dataset.element_spec[0] == tf.TensorSpec([4, 2], tf.float32)
    with pytest.raises(
        tf.errors.UnknownError, match="A stream has no end, so nothing can go through all of it"
    ):
        next(iter(dataset))
    assert "A stream has no end" in str(find_unreadable_example(source))
    assert calls(source) == []


def test_reading_keeps_no_example(write: Write) -> None:
    source = opened(write("def stream():\n  while True:\n    yield np.ones(1000), 1"), shape=[1000])
    reader = source.in_order(20_000)
    tracemalloc.start()
    for first in range(0, 20_000, 100):
        reader.read_arrays(np.arange(first, first + 100))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * 1000 * 8 * 4  # some copies of one batch, of 200 that were read


def test_of_a_stream_nothing_but_its_classes_is_known(write: Write) -> None:
    reference = write(numbers())
    assert opened(reference, num_classes=4).labels().tolist() == [0, 1, 2, 3]
    assert opened(reference).labels().shape == (0,)
    assert opened(reference).is_stream
    assert calls(opened(reference)) == []


def test_the_fingerprint_is_of_the_section(write: Write) -> None:
    reference = write(numbers())
    assert opened(reference).fingerprint == opened(reference).fingerprint
    options = [{"num_classes": 4}, {"num_classes": 5}, {"shape": [3]}, {"dtype": "uint8"}, {}]
    assert len({opened(reference, **one).fingerprint for one in options}) == len(options)


BAD = {
    "no pair": ("np.zeros(2)", "A stream yields pairs of features and label", "ndarray"),
    "a triple": ("(np.zeros(2), 0, 1.0)", "A stream yields pairs of features and label", "a tuple of 3"),
    "shape": ("(np.zeros(3), 0)", r"The features of an example are not of shape \(2,\)", (3,)),
    "ragged": ("([[1], [2, 3]], 0)", "An example is no array", ([[1], [2, 3]], 0)),
    "text": (
        "(np.array(['a', 'b']), 0)",
        "The features of an example do not become float32",
        "an array of <U1",
    ),
    "NaN": ("(np.array([0, np.nan]), 0)", "A feature is no finite float32", float("nan")),
    "too large": ("(np.array([0, 1e300]), 0)", "A feature is no finite float32", 1e300),
    "vector label": ("(np.zeros(2), [0, 1])", "The label of an example is not a finite number", [0, 1]),
    "NaN label": ("(np.zeros(2), np.nan)", "The label of an example is not a finite number", float("nan")),
    "text label": ("(np.zeros(2), 'cat')", "The label of an example is not a finite number", "cat"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_example_is_named_by_its_number(what: str, write: Write) -> None:
    example, problem, received = BAD[what]
    reference = write(f"""
        def stream():
            for n in range(100):
                yield {example} if n == 13 else (np.zeros(2), 0)
    """)
    source = opened(reference)
    reader = source.in_order(100)
    reader.read_arrays(np.arange(8))
    with pytest.raises(DataError, match=problem) as raised:
        reader.read_arrays(np.arange(8, 16))
    assert raised.value.place == f"example 13 of {reference}, counted from 0"
    assert str(raised.value.received) == str(received)
    assert find_unreadable_example(source) is raised.value


@pytest.mark.parametrize(
    ("options", "example", "problem", "received"),
    [
        ({"dtype": "uint8"}, "([1, 256], 0)", "A feature is no uint8", 256),
        ({"dtype": "int32"}, "([1, -2**40], 0)", "A feature is no int32", -(2**40)),
        ({"dtype": "uint8"}, "([1.0, 2.0], 0)", "do not become uint8", "an array of float64"),
        ({"num_classes": 3}, "([1, 2], 3)", r"is not a whole number in \[0, 3\)", 3),
        ({"num_classes": 3}, "([1, 2], -1)", r"is not a whole number in \[0, 3\)", -1),
        ({"num_classes": 3}, "([1, 2], 1.0)", r"is not a whole number in \[0, 3\)", 1.0),
    ],
)
def test_what_does_not_fit_the_section_is_refused(
    options: dict, example: str, problem: str, received: object, write: Write
) -> None:
    source = opened(write(f"def stream():\n  while True:\n    yield {example}"), **options)
    with pytest.raises(DataError, match=problem) as raised:
        source.read_arrays(np.array([5]))
    assert raised.value.received == received
    assert "example 5 of" in str(raised.value.place)


def test_a_function_that_raises_is_named_with_the_example_and_its_line(write: Write) -> None:
    reference = write("""
        def stream():
            for n in range(100):
                if n == 5:
                    raise OSError("the wire is cut")
                yield np.zeros(2), 0
    """)
    with pytest.raises(
        DataError, match="The function of the stream raised OSError: the wire is cut"
    ) as raised:
        opened(reference).in_order(100).read_arrays(np.array([8]))
    assert f"example 5 of {reference}, counted from 0" in str(raised.value.place)
    assert str(raised.value.place).endswith(f"{reference.partition(':')[0]}.py:7")
    assert isinstance(raised.value.__cause__, OSError)


@pytest.mark.parametrize("ids", [range(8, 16), range(50, 60)])
def test_a_stream_that_ends_early_says_where(ids: range, write: Write) -> None:
    source = opened(write("def stream():\n  for n in range(12):\n    yield [n, n], 0"))
    with pytest.raises(DataError, match=r"The stream ended after 12 examples; the run needs 1,600\."):
        source.in_order(1600).read_arrays(np.array(ids))


def test_a_stream_is_not_asked_for_more_than_is_read(write: Write) -> None:
    source = opened(write("def stream():\n  for n in range(12):\n    yield [n, n], n"))
    assert source.in_order(12).read_arrays(np.arange(12))[1].tolist() == list(range(12))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("stream = 3", "What is named as the function of the data is none"),
        ("def stream(path): yield", "The function of the data needs an argument 'path'"),
        ("def other(): yield", "The function of the data cannot be imported: AttributeError"),
        (
            "raise RuntimeError('no licence')",
            "The function of the data cannot be imported: RuntimeError: no licence",
        ),
    ],
)
def test_a_function_that_cannot_be_called_is_refused_at_once(
    content: str, problem: str, write: Write
) -> None:
    with pytest.raises(ConfigError, match=problem) as raised:
        opened(write(indent(content, "")))
    assert "data.source.function" in str(raised.value.place)


def test_a_function_that_yields_nothing_is_refused(write: Write) -> None:
    source = opened(write("def stream():\n  return None"))
    with pytest.raises(DataError, match="The function of a stream yields nothing") as raised:
        source.read_arrays(np.array([0]))
    assert "returned NoneType" in str(raised.value.received)
