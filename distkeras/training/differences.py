"""Which worker differs from the others, and in what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distkeras.errors import ConfigError


def first_difference(everyone: Sequence[Mapping[str, Any]], names: Sequence[str]) -> ConfigError | None:
    """Returns what to raise where the workers differ in a fact; None where they do not.

    Args:
        everyone: The facts of each worker, by rank.
        names: The facts' names, those that explain others first.
    """
    for name in names:
        values = [of_rank.get(name) for of_rank in everyone]
        different = [rank for rank, value in enumerate(values) if value != values[0]]
        if different:
            return _not_the_same(name, values, different[0])
    return None


def _not_the_same(name: str, values: Sequence[Any], rank: int) -> ConfigError:
    first, other = values[0], values[rank]
    if isinstance(first, list) and isinstance(other, list):
        index = next((i for i, pair in enumerate(zip(first, other, strict=False)) if pair[0] != pair[1]), -1)
        first, other = (part[index] if part else part for part in (first, other))
    if isinstance(first, dict) and isinstance(other, dict):
        keys = [key for key in {**first, **other} if first.get(key) != other.get(key)]
        first, other = ({key: part.get(key) for key in keys} for part in (first, other))
    return ConfigError(
        f"The workers differ in {name}.",
        place=f"ranks 0 and {rank}",
        received={"rank 0": first, f"rank {rank}": other},
        remedy="give every worker the same code, packages, config and data",
    )
