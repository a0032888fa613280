from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from distkeras.config.sections import InputSection
from distkeras.config.transform_sections import ImageSection
from distkeras.data import pipeline
from distkeras.data.batches import BatchPlan, Remainder, step_ids
from distkeras.data.changes import RandomChanges
from distkeras.data.images.augmentation import augmentation_from
from distkeras.data.order import Shuffled
from distkeras.data.permutation import order_key, uniforms
from distkeras.data.pipeline import evaluation_dataset, training_dataset
from distkeras.data.preparation import prepare
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.sources.base import Source, Subset
from distkeras.data.training_order import training_order
from distkeras.errors import ConfigError, DataError
from distkeras.topology import Topology

NO_CHANGES = ImageSection()
TOPOLOGIES = [(world_size, local) for world_size in (1, 2, 3, 4) for local in (1, 2, 4)]


def numbered(num_examples: int) -> ArraySource:
    """Examples whose features tell their ids."""
    ids = np.arange(num_examples)
    return ArraySource(np.stack([ids, ids + 1000], axis=1), ids)


class OneByOne(Source):
    """Pictures that are made one at a time, each of its own size, filled with its id."""

    def __init__(self, num_examples: int, *, size: tuple[int | None, int | None] = (None, None)) -> None:
        self.name = "pictures"
        self.num_examples = num_examples
        self.fingerprint = f"pictures {num_examples}"
        self.granularity = "example"
        self.feature_shape = (*size, 3)
        self.feature_dtype = "uint8"

    def labels(self) -> np.ndarray:
        return np.arange(self.num_examples)

    def read(self, ids: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        varied = self.feature_shape == (None, None, 3)
        height, width = (3 + ids % 3, 2 + ids % 4) if varied else self.feature_shape[:2]
        return tf.fill(tf.stack([height, width, 3]), tf.cast(ids, tf.uint8)), ids

    def locate(self, example_id: int) -> str:
        return f"picture {example_id}"


def train(
    source: Source,
    plan: BatchPlan,
    topology: Topology,
    *,
    seed: int = 5,
    shuffle: bool = True,
    start_step: int = 0,
    image: ImageSection = NO_CHANGES,
    num_parallel_calls: int | None = None,
) -> tf.data.Dataset:
    input = InputSection(shuffle=shuffle, image=image)
    prepared = prepare(input, source).apply(source)
    order, changes = training_order(prepared, input, seed), RandomChanges(image)
    return training_dataset(
        prepared,
        plan,
        order,
        topology,
        seed=seed,
        start_step=start_step,
        changes=changes,
        num_parallel_calls=num_parallel_calls,
    )


def shuffled(source: Source, seed: int) -> Shuffled:
    return Shuffled(source.num_examples, source.fingerprint, seed)


def evaluate(
    source: Source, topology: Topology, batch: int, image: ImageSection = NO_CHANGES
) -> tf.data.Dataset:
    prepared = prepare(InputSection(image=image), source).apply(source)
    return evaluation_dataset(prepared, topology, global_batch_size=batch)


def take(dataset: tf.data.Dataset, num: int) -> list[Any]:
    return list(islice(dataset.as_numpy_iterator(), num))


def workers(world_size: int, num_local_replicas: int) -> list[Topology]:
    return [
        Topology(world_size=world_size, rank=rank, num_local_replicas=num_local_replicas)
        for rank in range(world_size)
    ]


def global_batches(
    source: Source,
    plan: BatchPlan,
    world_size: int,
    num_local_replicas: int,
    num_steps: int,
    **arguments: Any,
) -> list[list[int]]:
    """The labels (that is, ids) of each step, put together from all workers."""
    steps: list[list[int]] = [[] for _ in range(num_steps)]
    for topology in workers(world_size, num_local_replicas):
        elements = take(train(source, plan, topology, **arguments), num_steps * num_local_replicas)
        for index, (_, labels) in enumerate(elements):
            steps[index // num_local_replicas].extend(labels.tolist())
    return steps


@pytest.mark.parametrize(("world_size", "num_local_replicas"), TOPOLOGIES)
def test_global_batches_are_the_same_for_any_topology(world_size: int, num_local_replicas: int):
    source, plan = numbered(37), BatchPlan(37, 16, "partial")
    expected = [step_ids(plan, shuffled(source, 5), step, 0, 1).tolist() for step in range(7)]
    assert global_batches(source, plan, world_size, num_local_replicas, 7) == expected


@pytest.mark.parametrize("remainder", ["drop", "partial", "wrap"])
@pytest.mark.parametrize("source", [numbered(37), OneByOne(37, size=(4, 5))], ids=["batch", "example"])
def test_each_replica_gets_its_ids_step_by_step(source: Source, remainder: Remainder):
    plan = BatchPlan(37, 10, remainder)
    for topology in workers(2, 2):
        elements = iter(take(train(source, plan, topology, start_step=2), 14))
        for step in range(2, 9):
            for replica in topology.local_replicas:
                features, labels = next(elements)
                ids = step_ids(plan, shuffled(source, 5), step, replica, 4)
                assert labels.tolist() == ids.tolist()
                assert features.reshape(len(ids), -1)[:, 0].tolist() == ids.tolist()


@pytest.mark.parametrize(
    ("remainder", "dropped", "repeated"), [("drop", 5, 0), ("partial", 0, 0), ("wrap", 0, 3)]
)
def test_an_epoch_visits_every_example_once_but_for_what_the_plan_counts(
    remainder: Remainder, dropped: int, repeated: int
):
    source, plan = numbered(37), BatchPlan(37, 8, remainder)
    for epoch in (0, 1):
        first = epoch * plan.steps_per_epoch
        steps = global_batches(source, plan, 2, 2, plan.steps_per_epoch, start_step=first)
        visits = np.bincount(np.concatenate(steps).astype(int), minlength=37)
        assert (visits == 0).sum() == plan.num_dropped == dropped
        assert (visits == 2).sum() == plan.num_repeated == repeated
        assert visits.max() <= 2


@pytest.mark.parametrize("source", [numbered(37), OneByOne(37, size=(4, 5))], ids=["batch", "example"])
def test_a_resumed_run_continues_identically_also_with_other_workers(source: Source):
    plan = BatchPlan(37, 8, "partial")
    straight = global_batches(source, plan, 1, 2, 12)
    for start in (1, 4, 5, 9):
        assert global_batches(source, plan, 1, 2, 12 - start, start_step=start) == straight[start:]
    assert global_batches(source, plan, 3, 1, 7, start_step=5) == straight[5:]


def test_a_step_of_the_far_future_is_reached_at_once():
    source, plan = numbered(37), BatchPlan(37, 8, "drop")
    step = 10**15
    ((_, labels),) = take(train(source, plan, Topology(), start_step=step), 1)
    assert labels.tolist() == step_ids(plan, shuffled(source, 5), step, 0, 1).tolist()


def test_epochs_and_seeds_differ_and_runs_of_one_seed_do_not():
    source, plan = numbered(64), BatchPlan(64, 64, "drop")
    epochs = [labels.tolist() for _, labels in take(train(source, plan, Topology()), 3)]
    again = [labels.tolist() for _, labels in take(train(source, plan, Topology()), 3)]
    other = [labels.tolist() for _, labels in take(train(source, plan, Topology(), seed=6), 3)]
    assert epochs == again
    assert len({tuple(order) for order in epochs + other}) == 6


def test_without_shuffling_every_epoch_goes_by_id():
    steps = global_batches(numbered(10), BatchPlan(10, 4, "partial"), 2, 1, 6, shuffle=False)
    assert steps == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]] * 2


def test_blocks_of_one_step_and_of_many_give_the_same(monkeypatch: pytest.MonkeyPatch):
    source, plan = numbered(37), BatchPlan(37, 8, "partial")
    many = global_batches(source, plan, 2, 2, 12)
    monkeypatch.setattr(pipeline, "MAX_STEPS_PER_BLOCK", 1)
    assert global_batches(source, plan, 2, 2, 12) == many


@pytest.mark.parametrize(
    ("source", "image"),
    [(numbered(37), NO_CHANGES), (OneByOne(37), ImageSection(size=(4, 4)))],
    ids=["batches", "examples"],
)
def test_how_many_examples_are_read_at_once_changes_no_batch(source: Source, image: ImageSection):
    plan = BatchPlan(37, 8, "partial")
    usual = global_batches(source, plan, 2, 1, 12, image=image)
    for number in (1, 3):
        assert global_batches(source, plan, 2, 1, 12, image=image, num_parallel_calls=number) == usual


def whole(source: Source, **settings: Any) -> tf.data.Dataset:
    plan, order = BatchPlan(source.num_examples, 8, "drop"), Shuffled(source.num_examples, "x", 0)
    return training_dataset(source, plan, order, Topology(), seed=0, start_step=0, **settings)


def test_no_thread_tunes_the_input_which_the_end_of_training_would_wait_for():
    source = numbered(37)
    for dataset in (whole(source), evaluation_dataset(source, Topology(), global_batch_size=8)):
        assert dataset.options().autotune.enabled is False
        assert dataset.repeat().options().autotune.enabled is False


@pytest.mark.parametrize(
    ("budget", "ahead"), [(None, pipeline.BATCHES_AHEAD), (3 * 8 * (16 + 8) + 1, 3), (1, 1)]
)
def test_as_many_batches_wait_as_there_is_memory_for(
    monkeypatch: pytest.MonkeyPatch, budget: int | None, ahead: int
):
    asked: list[int] = []
    prefetch = tf.data.Dataset.prefetch
    monkeypatch.setattr(
        tf.data.Dataset, "prefetch", lambda self, size: asked.append(size) or prefetch(self, size)
    )
    whole(numbered(37), ram_budget_bytes=budget)
    assert asked == [ahead]


@pytest.mark.parametrize(("world_size", "num_local_replicas"), TOPOLOGIES)
@pytest.mark.parametrize(("num_examples", "batch"), [(37, 16), (3, 8), (32, 16)])
def test_evaluation_sees_every_example_once_in_order(
    world_size: int, num_local_replicas: int, num_examples: int, batch: int
):
    num_steps = -(-num_examples // batch)
    seen: list[list[int]] = [[] for _ in range(num_steps)]
    for topology in workers(world_size, num_local_replicas):
        dataset = evaluate(numbered(num_examples), topology, batch)
        assert dataset.cardinality().numpy() == num_steps * num_local_replicas
        elements = list(dataset.as_numpy_iterator())
        assert len(elements) == num_steps * num_local_replicas
        for index, (features, labels) in enumerate(elements):
            assert features.shape == (len(labels), 2)
            seen[index // num_local_replicas].extend(labels.tolist())
    assert seen == [
        list(range(num_examples))[start : start + batch] for start in range(0, num_examples, batch)
    ]


def test_evaluation_of_examples_read_one_by_one():
    image = ImageSection(size=(4, 4), random_crop=2, random_flip="both")
    dataset = evaluate(OneByOne(11), Topology(num_local_replicas=2), 8, image)
    elements = list(dataset.as_numpy_iterator())
    assert [labels.tolist() for _, labels in elements] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [10]]
    for pictures, labels in elements:
        assert np.array_equal(pictures, np.broadcast_to(labels[:, None, None, None], pictures.shape))


@pytest.mark.parametrize(
    ("num_examples", "batch", "remainder", "expected"),
    [
        (37, 8, "drop", 4),
        (37, 8, "wrap", 4),
        (37, 8, "partial", None),
        (40, 8, "partial", 4),
        (37, 9, "drop", None),
    ],
)
@pytest.mark.parametrize("granularity", ["batch", "example"])
def test_the_batch_dimension_is_static_where_all_batches_are_equal(
    num_examples: int, batch: int, remainder: Remainder, expected: int | None, granularity: str
):
    source = numbered(num_examples) if granularity == "batch" else OneByOne(num_examples, size=(4, 5))
    features = (2,) if granularity == "batch" else (4, 5, 3)
    dataset = train(source, BatchPlan(num_examples, batch, remainder), Topology(num_local_replicas=2))
    specs = dataset.element_spec
    assert [spec.shape.as_list() for spec in specs] == [[expected, *features], [expected]]


def test_a_training_dataset_has_no_end_and_shards_and_orders_itself():
    dataset = train(numbered(37), BatchPlan(37, 8), Topology())
    options = dataset.options()
    assert dataset.cardinality().numpy() == tf.data.INFINITE_CARDINALITY
    assert options.experimental_distribute.auto_shard_policy == tf.data.experimental.AutoShardPolicy.OFF
    assert options.deterministic


def test_several_inputs_and_sample_weights_arrive_in_their_structure():
    ids = np.arange(10)
    source = ArraySource({"a": ids, "b": 2 * ids.reshape(10, 1)}, ids, ids / 10)
    ((features, labels, weights),) = take(train(source, BatchPlan(10, 4), Topology()), 1)
    assert features["a"].tolist() == labels.tolist()
    assert features["b"].tolist() == [[2 * label] for label in labels]
    assert weights.tolist() == (labels / 10).astype(np.float32).tolist()
    pair = ArraySource((ids, ids.reshape(10, 1)), ids)
    ((one, two), labels), *_ = take(train(pair, BatchPlan(10, 4, "partial"), Topology()), 3)
    assert one.tolist() == two[:, 0].tolist() == labels.tolist()


def test_a_subset_is_read_through_its_own_ids():
    part = Subset(numbered(100), np.arange(50, 60))
    dataset = evaluate(part, Topology(), 4)
    assert np.concatenate([labels for _, labels in dataset.as_numpy_iterator()]).tolist() == list(
        range(50, 60)
    )


def pictures(num_examples: int) -> ArraySource:
    values = np.random.default_rng(0).integers(0, 256, (num_examples, 6, 6, 1), np.uint8)
    return ArraySource(values, np.arange(num_examples))


@pytest.mark.parametrize("remainder", ["partial", "wrap"])
def test_an_example_is_augmented_alike_at_any_world_size_and_after_a_resume(remainder: Remainder):
    image = ImageSection(random_crop=2, random_flip="both")
    source, plan = pictures(21), BatchPlan(21, 8, remainder)

    def by_step_and_id(world_size: int, local: int, start: int) -> dict[tuple[int, int], bytes]:
        seen: dict[tuple[int, int], bytes] = {}
        for topology in workers(world_size, local):
            dataset = train(source, plan, topology, start_step=start, image=image)
            for index, (features, labels) in enumerate(take(dataset, (9 - start) * local)):
                for picture, label in zip(features, labels.tolist(), strict=True):
                    seen[start + index // local, label] = picture.tobytes()
        return seen

    straight = by_step_and_id(1, 1, 0)
    assert by_step_and_id(2, 2, 0) == straight
    assert by_step_and_id(3, 1, 4) == {key: value for key, value in straight.items() if key[0] >= 4}
    first, second = ({key[1]: value for key, value in straight.items() if key[0] // 3 == e} for e in (0, 1))
    assert sum(first[example] != second[example] for example in range(21)) > 15


def test_augmentation_draws_from_seed_epoch_and_id():
    image = ImageSection(size=(5, 5), random_crop=1, random_flip="horizontal")
    source, plan = OneByOne(12), BatchPlan(12, 4, "drop")
    augmentation = augmentation_from(image)
    elements = take(train(source, plan, Topology(), start_step=3, image=image), 3)
    for features, labels in elements:
        key = order_key("augmentation/pictures 12", 5, 1)
        plain = np.broadcast_to(labels[:, None, None, None], (4, 5, 5, 3)).astype(np.uint8)
        expected = augmentation(tf.constant(plain), tf.constant(uniforms(key, labels, 3)))
        assert np.array_equal(features, expected.numpy())


def test_augmentation_and_resizing_keep_uint8_and_give_static_shapes():
    image = ImageSection(size=(5, 7), random_crop=1)
    for source in (OneByOne(12), pictures(12)):
        channels = 3 if isinstance(source, OneByOne) else 1
        features, _ = train(source, BatchPlan(12, 4), Topology(), image=image).element_spec
        assert features == tf.TensorSpec((4, 5, 7, channels), tf.uint8)


def shape_of(source: Source, image: ImageSection) -> Any:
    return prepare(InputSection(image=image), source).apply(source).feature_shape


def test_the_input_shape_is_what_the_model_gets():
    assert shape_of(OneByOne(3), ImageSection(size=(5, 7))) == (5, 7, 3)
    assert shape_of(OneByOne(3, size=(4, 5)), NO_CHANGES) == (4, 5, 3)
    assert shape_of(numbered(3), NO_CHANGES) == (2,)
    inputs = ArraySource((np.zeros((3, 2)), np.zeros(3), np.zeros((3, 4))), np.zeros(3))
    assert shape_of(inputs, NO_CHANGES) == ((2,), (), (4,))


def test_images_of_different_sizes_need_a_size():
    with pytest.raises(ConfigError, match="The images differ in size, and a batch needs one size") as caught:
        train(OneByOne(12), BatchPlan(12, 4), Topology())
    assert caught.value.place == "data.image.size"
    assert caught.value.remedy == "set data.image.size to [height, width]"


@pytest.mark.parametrize(
    "image", [ImageSection(size=(4, 4)), ImageSection(random_crop=1), ImageSection(random_flip="both")]
)
def test_what_is_no_image_is_not_changed_as_one(image: ImageSection):
    three_inputs = ArraySource((np.zeros(3), np.zeros(3), np.zeros(3)), np.zeros(3))
    for source in (numbered(12), three_inputs):
        with pytest.raises(ConfigError, match=r"data\.image changes images, of shape"):
            prepare(InputSection(image=image), source)
    with pytest.raises(ConfigError, match=r"data\.image changes images, of shape"):
        evaluate(numbered(12), Topology(), 4, image)


def test_a_plan_for_another_number_of_examples_is_refused():
    with pytest.raises(DataError, match="The plan is for 12 examples; the order has 13"):
        train(numbered(13), BatchPlan(12, 4), Topology())


def test_fewer_examples_than_replicas_are_refused():
    with pytest.raises(DataError, match="There are 3 examples for 4 replicas"):
        train(numbered(3), BatchPlan(3, 8, "wrap"), Topology(num_local_replicas=4))
