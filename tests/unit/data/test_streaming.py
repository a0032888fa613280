"""A stream's batches: the same at any number of workers and from any step on, and read no further than the run goes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest

from distkeras.config.sections import RunSettings
from distkeras.config.settings import settings_from_mapping
from distkeras.config.source_sections import GeneratorSource as GeneratorSection
from distkeras.config.source_sections import SyntheticSource as SyntheticSection
from distkeras.config.transform_sections import ImageSection
from distkeras.data.changes import RandomChanges
from distkeras.data.pipeline import STREAM_STEPS_AHEAD
from distkeras.data.sources.generator import GeneratorSource
from distkeras.data.sources.synthetic import SyntheticSource
from distkeras.data.streaming import AsItComes, stream_order
from distkeras.errors import ConfigError, DataError
from distkeras.topology import Topology
from distkeras.training.feeding import TrainingData, batch_plan, training_batches

BATCH, STEPS, EPOCHS = 12, 6, 2
TOPOLOGIES = [(1, 1), (1, 3), (2, 1), (3, 2)]
MODULE = """
import numpy as np
passed = 0
def stream(start=0):
    global passed
    for n in range(start, 7200):
        passed = n + 1
        yield np.full((4, 4, 1), n), n
def without_start():
    yield from stream()
"""


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., GeneratorSource]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "endless_pictures.py").write_text(MODULE)

    def make(function: str = "stream") -> GeneratorSource:
        reference = f"endless_pictures:{function}"
        return GeneratorSource(GeneratorSection(kind="generator", function=reference, shape=[4, 4, 1]))

    yield make
    sys.modules.pop("endless_pictures", None)


def settings(**changes: object) -> RunSettings:
    training = {"training.epochs": EPOCHS, "training.global_batch_size": BATCH, "training.num_steps": STEPS}
    return settings_from_mapping({"name": "a", "seed": 3, **training, **changes})[0]


def batches_of(
    source: GeneratorSource, topology: Topology, start: int = 0, changes: RandomChanges | None = None
) -> list[np.ndarray]:
    data = TrainingData(source, changes=changes or RandomChanges())
    plan = batch_plan(settings(), data)
    found = training_batches(settings(), data, plan, topology, start).as_numpy_iterator()
    number = (STEPS - start) * topology.num_local_replicas
    return [features for features, _ in islice(found, number)]


def ids_of(batches: list[np.ndarray]) -> list[list[int]]:
    return [batch[:, 0, 0, 0].astype(int).tolist() for batch in batches]


@pytest.mark.parametrize(("function", "start"), [("stream", 0), ("stream", 4), ("without_start", 4)])
@pytest.mark.parametrize(("world_size", "num_local"), TOPOLOGIES)
def test_workers_share_each_step_whatever_their_number(
    stream, world_size: int, num_local: int, start: int, function: str
) -> None:
    source, steps = stream(function), []
    for rank in range(world_size):
        ids = ids_of(batches_of(source, Topology(world_size, rank, num_local), start))
        steps.append([list(chain(*ids[i : i + num_local])) for i in range(0, len(ids), num_local)])
    whole = [list(chain(*parts)) for parts in zip(*steps, strict=True)]
    assert whole == [list(range(step * BATCH, (step + 1) * BATCH)) for step in range(start, STEPS)]


def test_jax_does_not_evaluate_a_stream(stream) -> None:
    feed = pytest.importorskip("distkeras.training.jax.feed", exc_type=ImportError)
    with pytest.raises(DataError, match="A stream has no end"):
        feed.num_steps(stream(), BATCH)


@pytest.mark.parametrize("start", [0, 4])
def test_jax_is_fed_the_same(stream, start: int) -> None:
    feed = pytest.importorskip("distkeras.training.jax.feed", exc_type=ImportError)
    found = []
    for rank in range(2):
        data, topology = TrainingData(stream()), Topology(2, rank)
        rows = list(feed.training_rows(settings(), data, batch_plan(settings(), data), topology, start))
        found.append(ids_of([one.arrays[0] for one in rows]))
    whole = [first + second for first, second in zip(*found, strict=True)]
    assert whole == [list(range(step * BATCH, (step + 1) * BATCH)) for step in range(start, STEPS)]


def test_what_chance_does_to_an_example_depends_on_its_number_alone(stream) -> None:
    changes = RandomChanges(ImageSection.model_validate({"augment": [{"kind": "translation", "width": 0.5}]}))
    alone = np.stack(batches_of(stream(), Topology(), 0, changes))
    assert (alone != np.stack(batches_of(stream(), Topology()))).any()
    assert np.array_equal(alone[3:], np.stack(batches_of(stream(), Topology(), 3, changes)))
    second = np.stack(batches_of(stream(), Topology(2, 1), 0, changes))
    assert np.array_equal(alone[:, BATCH // 2 :], second)


def test_no_example_beyond_the_last_step_is_taken(stream) -> None:
    source = stream()
    batches_of(source, Topology(2, 0))
    module = sys.modules["endless_pictures"]
    time.sleep(0.2)  # reading ahead would go on
    assert module.passed == STEPS * BATCH - BATCH // 2
    assert source.unreadable == {}


def test_reading_ahead_is_bounded(stream) -> None:
    source = stream()
    data, long = TrainingData(source), settings(**{"training.num_steps": 600})
    batches = iter(training_batches(long, data, batch_plan(long, data), Topology(), 0))
    for _ in range(50):  # faster than the stream, so that a buffer that grows would have grown
        next(batches)
    module, passed = sys.modules["endless_pictures"], -1
    while passed != module.passed:
        passed = module.passed
        time.sleep(0.2)
    # Besides the steps that were taken, some are ready, and one waits for room.
    assert passed <= (50 + STREAM_STEPS_AHEAD + 1) * BATCH


def test_the_plan_of_a_stream_is_its_steps(stream) -> None:
    plan = batch_plan(settings(), TrainingData(stream()))
    assert (plan.steps_per_epoch, plan.num_examples, plan.num_dropped) == (3, 36, 0)


def test_epochs_go_on_where_the_one_before_ended() -> None:
    visits = AsItComes(10).visits(3, np.arange(10))
    assert visits.ids.tolist() == list(range(30, 40))
    assert not visits.passes.any()


def test_the_manifest_counts_no_examples_of_a_stream(stream) -> None:
    assert TrainingData(stream()).facts() == {"fingerprint": stream().fingerprint}


@pytest.mark.parametrize(("num_steps", "fits"), [(7, "6 or 8"), (1, "2")])
def test_epochs_of_a_stream_are_equal(num_steps: int, fits: str) -> None:
    changed = settings(**{"training.num_steps": num_steps}).training
    with pytest.raises(ConfigError, match="The steps do not divide by 2 epochs") as raised:
        stream_order(changed)
    assert raised.value.remedy == f"use {fits}"


def test_a_stream_needs_its_steps() -> None:
    with pytest.raises(ConfigError, match="A stream has no length") as raised:
        stream_order(settings(**{"training.num_steps": None}).training)
    assert raised.value.place == "training.num_steps"


def test_stored_examples_are_not_cut_into_steps() -> None:
    section = SyntheticSection(kind="synthetic", num_examples=100, shape=[4])
    with pytest.raises(ConfigError, match="Only a stream is trained on for a number of steps") as raised:
        batch_plan(settings(), TrainingData(SyntheticSource(section)))
    assert "training.epochs" in str(raised.value.remedy)
