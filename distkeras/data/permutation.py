"""The order of examples as arithmetic: which example stands where in which epoch, without storing anything.

Everything here is a pure function of its arguments: not of the number of workers, of timing, or of a
generator's state. That makes resume one integer and lets a run change its number of workers. The values are
part of the contract with saved runs: changing a constant changes the meaning of every checkpoint's step.
"""

from __future__ import annotations

import hashlib
from math import isqrt

import numpy as np
import numpy.typing as npt

from distkeras.errors import DataError

Int64Array = npt.NDArray[np.int64]
UInt64Array = npt.NDArray[np.uint64]

# Each round changes one half. Eight look random where a half has many values; of as few as five or six
# examples all orders come equally often only from sixteen on (chi-square over 20,000 orders).
NUM_ROUNDS = 16
NUM_ROUNDS_OF_MANY = 8
MANY_EXAMPLES = 2**16
MAX_EXAMPLES = 2**62

_MASK = 2**64 - 1
# The constants of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15
_MULTIPLIER_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = np.uint64(0x94D049BB133111EB)
_SHIFT_1, _SHIFT_2, _SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)
_HALF = np.uint64(32)


def order_key(fingerprint: str, seed: int, epoch: int) -> int:
    """Returns the 64-bit key of one epoch's order.

    Args:
        fingerprint: The source's; other data gets another order.
        seed: The run's seed.
        epoch: Index of the epoch, from 0.
    """
    text = f"{seed}/{epoch}/{fingerprint}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def permute(positions: npt.ArrayLike, num_examples: int, key: int) -> Int64Array:
    """Returns the example ids at these positions of the order that `key` names.

    The whole order is a pseudo-random permutation of `range(num_examples)`; only what is asked for is
    computed. It is a Feistel network over pairs (left, right) whose halves need not be powers of two (Black
    and Rogaway, "Ciphers with arbitrary finite domains", 2002). Such a domain is at most about
    `sqrt(num_examples)` too large, so hardly a value has to walk on to get inside the range; in a power of
    four up to three of four values have to, some dozens of times.

    Args:
        positions: int64, any shape, values in [0, num_examples).
        num_examples: Size of the order, in [1, 2**62].
        key: From `order_key`.

    Returns:
        int64 ids, the shape of `positions`.

    Raises:
        DataError: If `num_examples` or a position is out of range.
    """
    places = np.asarray(positions, dtype=np.int64)
    if not 1 <= num_examples <= MAX_EXAMPLES:
        raise DataError("An order needs between 1 and 2**62 examples.", received=num_examples)
    if places.size and (places.min() < 0 or places.max() >= num_examples):
        raise DataError(
            f"A position lies outside the order of {num_examples} examples.",
            received=int(places.min() if places.min() < 0 else places.max()),
        )
    num_left = isqrt(num_examples - 1) + 1
    halves = (num_left, -(-num_examples // num_left))
    keys = _round_keys(key, NUM_ROUNDS if num_examples < MANY_EXAMPLES else NUM_ROUNDS_OF_MANY)
    ids = _feistel(places.ravel().astype(np.uint64), halves, keys)
    outside = np.flatnonzero(ids >= num_examples)
    while outside.size:
        ids[outside] = _feistel(ids[outside], halves, keys)
        outside = outside[ids[outside] >= num_examples]
    return ids.astype(np.int64).reshape(places.shape)


def global_order(fingerprint: str, seed: int, epoch: int, num_examples: int) -> Int64Array:
    """Returns all example ids in the order that an epoch visits them, shape (num_examples,)."""
    return permute(np.arange(num_examples), num_examples, order_key(fingerprint, seed, epoch))


def uniforms(key: int, ids: npt.ArrayLike, num: int) -> npt.NDArray[np.float32]:
    """Returns random numbers that belong to example ids, whoever asks and however often.

    Args:
        key: Names the stream of numbers, 64 bits.
        ids: int64, any shape.
        num: Numbers for each id; number j does not depend on `num`.

    Returns:
        float32, shape (*ids.shape, num), multiples of 2**-24 in [0, 1).
    """
    words = np.asarray(ids, dtype=np.int64).astype(np.uint64)
    words += np.uint64(key & _MASK)
    columns = np.arange(1, num + 1, dtype=np.uint64) * np.uint64(_GOLDEN_GAMMA)
    bits = _mix(_mix(words)[..., np.newaxis] + columns)
    return (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def _feistel(values: UInt64Array, halves: tuple[int, int], keys: list[np.uint64]) -> UInt64Array:
    """One application of the network to values in [0, halves[0] * halves[1])."""
    num_right = np.uint64(halves[1])
    left = values // num_right
    right = values - left * num_right
    for left_key, right_key in zip(keys[::2], keys[1::2], strict=True):
        _add_hash(left, right, left_key, halves[0])
        _add_hash(right, left, right_key, halves[1])
    left *= num_right
    left += right
    return left


def _add_hash(target: UInt64Array, other: UInt64Array, key: np.uint64, modulus: int) -> None:
    """Adds a keyed hash of `other` to `target` in place, modulo `modulus`."""
    hashed = other + key
    hashed *= _MULTIPLIER_1
    hashed ^= hashed >> _HALF
    hashed *= _MULTIPLIER_2
    hashed >>= _HALF
    # (32 random bits * modulus) >> 32 is uniform in [0, modulus) without a division: modulus <= 2**31.
    hashed *= np.uint64(modulus)
    hashed >>= _HALF
    target += hashed
    # What is below the modulus wraps round to a huge number, so the smaller one is the remainder.
    np.minimum(target, target - np.uint64(modulus), out=target)


def _mix(words: UInt64Array) -> UInt64Array:
    """The finalizer of splitmix64, in place: every input bit changes every output bit."""
    words ^= words >> _SHIFT_1
    words *= _MULTIPLIER_1
    words ^= words >> _SHIFT_2
    words *= _MULTIPLIER_2
    words ^= words >> _SHIFT_3
    return words


def _round_keys(key: int, num_rounds: int) -> list[np.uint64]:
    states = np.arange(1, num_rounds + 1, dtype=np.uint64) * np.uint64(_GOLDEN_GAMMA)
    return list(_mix(states + np.uint64(key & _MASK)))
