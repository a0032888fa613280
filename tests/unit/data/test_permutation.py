from __future__ import annotations

import math
from collections import Counter
from functools import cache
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distkeras.data.permutation import MAX_EXAMPLES, global_order, order_key, permute, uniforms
from distkeras.errors import DataError


def chi_square_z(counts: np.ndarray, expected: float, degrees_of_freedom: int) -> float:
    """A chi-square statistic as a standard normal deviate (Wilson and Hilferty, 1931)."""
    ratio = float(((counts - expected) ** 2 / expected).sum()) / degrees_of_freedom
    spread = 2 / (9 * degrees_of_freedom)
    return (ratio ** (1 / 3) - (1 - spread)) / math.sqrt(spread)


@given(num_examples=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_every_order_is_a_permutation(num_examples: int, key: int):
    order = permute(np.arange(num_examples), num_examples, key)
    assert np.array_equal(np.sort(order), np.arange(num_examples))


@pytest.mark.parametrize("num_examples", range(1, 70))
def test_every_small_size_is_a_permutation(num_examples: int):
    order = global_order("small", 0, 0, num_examples)
    assert sorted(order.tolist()) == list(range(num_examples))


@given(
    num_examples=st.integers(1, MAX_EXAMPLES),
    key=st.integers(0, 2**64 - 1),
    data=st.data(),
)
def test_ids_of_any_size_are_in_range_and_distinct(num_examples: int, key: int, data: st.DataObject):
    positions = data.draw(st.lists(st.integers(0, num_examples - 1), max_size=50, unique=True))
    ids = permute(np.array(positions, np.int64), num_examples, key)
    assert ids.dtype == np.int64
    assert all(0 <= example_id < num_examples for example_id in ids.tolist())
    assert len(set(ids.tolist())) == len(positions)


@given(num_examples=st.integers(1, 500), key=st.integers(0, 2**64 - 1))
@settings(max_examples=30)
def test_part_of_an_order_is_computed_alone(num_examples: int, key: int):
    whole = permute(np.arange(num_examples), num_examples, key)
    half = np.arange(num_examples // 2, num_examples)
    assert np.array_equal(permute(half, num_examples, key), whole[half])


def test_the_shape_of_the_positions_is_kept():
    positions = np.arange(12).reshape(3, 4)
    ids = permute(positions, 20, 7)
    assert ids.shape == (3, 4)
    assert np.array_equal(ids.ravel(), permute(positions.ravel(), 20, 7))


def test_the_order_is_the_same_for_ever():
    """Saved runs resume by step number: another order here would repeat and skip examples there."""
    assert order_key("digits", 1, 2) == 0x344F4AB814E0F931
    assert global_order("digits", 0, 0, 10).tolist() == [9, 0, 3, 4, 7, 1, 2, 6, 5, 8]
    assert permute(np.arange(4), 1_281_167, 2**64 - 1).tolist() == [511391, 503215, 554731, 1190746]
    assert permute(np.array([0, 2**62 - 1]), 2**62, 5).tolist() == [3774144176075263433, 968539211592935214]
    numbers = uniforms(3, np.array([0, 1, 2**40]), 2) * 2**24
    assert numbers.tolist() == [[13679494, 7299587], [1150674, 13091294], [11346639, 4692229]]


def test_the_order_depends_on_fingerprint_seed_and_epoch():
    orders = [
        global_order(fingerprint, seed, epoch, 100).tolist()
        for fingerprint in ("a", "b")
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len({tuple(order) for order in orders}) == 8


def test_keys_of_long_runs_do_not_repeat():
    keys = {order_key("digits", seed, epoch) for seed in range(100) for epoch in range(100)}
    assert len(keys) == 10_000
    assert all(0 <= key < 2**64 for key in keys)


@cache
def many_orders(num_examples: int) -> np.ndarray:
    return np.stack([global_order("f", 0, epoch, num_examples) for epoch in range(2000)])


@pytest.mark.parametrize("num_examples", [7, 16, 30, 101])
def test_every_example_stands_equally_often_in_every_place(num_examples: int):
    orders = many_orders(num_examples)
    places = np.zeros((num_examples, num_examples))
    np.add.at(places, (np.broadcast_to(np.arange(num_examples), orders.shape), orders), 1)
    assert abs(chi_square_z(places, len(orders) / num_examples, (num_examples - 1) ** 2)) < 4


@pytest.mark.parametrize("num_examples", [7, 16, 30, 101])
def test_every_pair_of_examples_follows_each_other_equally_often(num_examples: int):
    orders = many_orders(num_examples)
    pairs = np.zeros((num_examples, num_examples))
    np.add.at(pairs, (orders[:, :-1], orders[:, 1:]), 1)
    assert pairs.diagonal().sum() == 0
    different = pairs[~np.eye(num_examples, dtype=bool)]
    assert abs(chi_square_z(different, len(orders) / num_examples, different.size - 1)) < 4


@pytest.mark.parametrize("num_examples", [2, 3, 4, 5])
def test_every_order_of_few_examples_comes_equally_often(num_examples: int):
    num_orders = 4000
    seen = Counter(tuple(global_order("f", 1, epoch, num_examples)) for epoch in range(num_orders))
    counts = np.array([seen[order] for order in permutations(range(num_examples))], float)
    assert counts.sum() == num_orders
    assert abs(chi_square_z(counts, num_orders / counts.size, counts.size - 1)) < 4


@pytest.mark.parametrize("num_examples", [2**16, 2**16 + 1, 100_003, 1_281_167])
def test_orders_of_many_examples_look_random(num_examples: int):
    """Fewer rounds make them: places against ids, ids that follow each other, and ids by their last bits."""
    places = np.arange(num_examples)
    by_place, by_step, by_parity = np.zeros((32, 32)), np.zeros(64), np.zeros((4, 4))
    num_orders = 20
    for epoch in range(num_orders):
        ids = global_order("many", 0, epoch, num_examples)
        np.add.at(by_place, (places * 32 // num_examples, ids * 32 // num_examples), 1)
        np.add.at(by_step, np.diff(ids) % num_examples * 64 // num_examples, 1)
        np.add.at(by_parity, (places % 4, ids % 4), 1)
    for counts in (by_place, by_step, by_parity):
        assert abs(chi_square_z(counts, counts.sum() / counts.size, counts.size - 1)) < 4.5


def test_neighbouring_epochs_have_unrelated_orders():
    places = [np.argsort(global_order("f", 0, epoch, 2000)) for epoch in range(8)]
    for one, other in pairwise(places):
        # The correlation of two random orders has a standard deviation of 1 / sqrt(2000) = 0.022.
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.1


@pytest.mark.parametrize("num_examples", [0, -1, MAX_EXAMPLES + 1])
def test_an_impossible_size_is_refused(num_examples: int):
    with pytest.raises(DataError, match=r"between 1 and 2\*\*62 examples"):
        permute(np.array([0]), num_examples, 0)


@pytest.mark.parametrize("position", [-1, 10])
def test_a_position_outside_the_order_is_refused(position: int):
    with pytest.raises(DataError, match="outside the order of 10 examples") as caught:
        permute(np.array([3, position]), 10, 0)
    assert caught.value.received == position


@given(key=st.integers(0, 2**64 - 1), num=st.integers(1, 5))
@settings(max_examples=30)
def test_random_numbers_belong_to_their_example(key: int, num: int):
    ids = np.array([5, 0, 2**40, 5])
    numbers = uniforms(key, ids, num)
    assert numbers.dtype == np.float32
    assert numbers.shape == (4, num)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert np.array_equal(numbers[0], numbers[3])
    assert np.array_equal(uniforms(key, ids[::-1], num), numbers[::-1])
    assert np.array_equal(uniforms(key, ids, num + 1)[:, :num], numbers)


def test_random_numbers_are_uniform_and_independent():
    numbers = uniforms(order_key("f", 0, 0), np.arange(100_000), 3)
    for column in numbers.T:
        counts = np.histogram(column, bins=100, range=(0, 1))[0].astype(float)
        assert abs(chi_square_z(counts, 1000, 99)) < 4
    correlations = np.corrcoef(numbers.T) - np.eye(3)
    neighbours = np.corrcoef(numbers[:-1, 0], numbers[1:, 0])[0, 1]
    # Standard deviation 1 / sqrt(100,000) = 0.003.
    assert np.abs(correlations).max() < 0.013
    assert abs(neighbours) < 0.013


def test_random_numbers_change_with_the_key():
    ids = np.arange(1000)
    one, other = (uniforms(order_key("f", 0, epoch), ids, 1)[:, 0] for epoch in (0, 1))
    assert (one == other).mean() < 0.01
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.13


def test_no_numbers_for_no_examples():
    assert uniforms(1, np.empty(0, np.int64), 2).shape == (0, 2)
    assert uniforms(1, np.arange(3), 0).shape == (3, 0)
    assert permute(np.empty(0, np.int64), 5, 1).shape == (0,)
