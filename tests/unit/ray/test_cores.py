"""Workers of a run that has a host to itself are kept on cores of their own; others are left alone."""

from __future__ import annotations

import pytest

pytest.importorskip("ray")

from distkeras.ray.trainer import _Node, _with_cores


def node(host: str, num_threads: int, cores: int) -> _Node:
    return _Node(host, num_threads, False, tuple(range(cores)))


def test_a_host_that_is_all_ours_is_dealt_out() -> None:
    nodes = [node("a", 1, 4), node("b", 2, 2), node("a", 3, 4)]
    assert [one.cores for one in _with_cores(nodes)] == [(0,), (0, 1), (1, 2, 3)]


def test_on_a_shared_host_nobody_is_pinned() -> None:
    assert [one.cores for one in _with_cores([node("a", 1, 4), node("a", 1, 4)])] == [(), ()]
