"""How the workers of a JAX run meet, and what they compare."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("jax", reason="the extra `jax` is not installed")

from distkeras.distribution.ports import free_ports
from distkeras.errors import ConfigError, InterruptedRunError, ResourceError
from distkeras.topology import Worker
from distkeras.training.differences import first_difference
from distkeras.training.jax import group
from distkeras.training.jax.group import Group, PeersGoneError, meet


def workers(count: int) -> list[Worker]:
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(count, "127.0.0.1"))
    return [Worker(addresses, rank) for rank in range(count)]


def test_workers_that_all_come_meet() -> None:
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda worker: meet(worker, 10.0), workers(3))) == [None] * 3


def test_rank_zero_names_the_workers_that_do_not_come() -> None:
    first, second, _ = workers(3)
    with ThreadPoolExecutor(2) as pool:
        alone = pool.submit(meet, second, 1.5)
        with pytest.raises(ResourceError, match=r"Not all of the 3 workers came within 0\.5 s") as refusal:
            meet(first, 0.5)
        assert refusal.value.received == "nothing from rank 2"
        assert refusal.value.exit_code == 4
        # The one that came is not let go: the others would wait for it inside JAX, which has no error for that.
        with pytest.raises(ResourceError, match=r"within 1\.5 s"):
            alone.result()


def test_a_worker_that_nobody_calls_says_so() -> None:
    with pytest.raises(ResourceError) as refusal:
        meet(workers(2)[1], 0.3)
    assert refusal.value.place == "rank 1"


def test_a_stranger_who_connects_is_not_rank_zero() -> None:
    first, second = workers(2)
    host, port = second.addresses[1].split(":")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(meet, second, 10.0)
        for _ in range(100):
            try:
                socket.create_connection((host, int(port)), timeout=0.1).close()
                break
            except OSError:
                continue
        meet(first, 10.0)
        assert waiting.result() is None


def test_a_fact_that_differs_is_named_with_both_values() -> None:
    everyone = [{"a": 1, "b": [1, 2]}, {"a": 1, "b": [1, 3]}]
    error = first_difference(everyone, ["a", "b"])
    assert error is not None
    assert error.problem == "The workers differ in b."
    assert error.received == {"rank 0": 2, "rank 1": 3}
    assert first_difference([everyone[0]] * 2, ["a", "b"]) is None
    with pytest.raises(ConfigError):
        raise error


def test_one_worker_has_no_one_to_differ_from() -> None:
    Group().require_same({"a": 1})
    assert Group().exchange({"a": 1}) == [{"a": 1}]


@pytest.fixture
def exit_codes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    codes: list[int] = []
    monkeypatch.setattr(group, "_exit_codes", codes)
    return codes


@pytest.mark.parametrize(
    ("error", "raised", "codes"),
    [
        (ConfigError("wrong"), ConfigError, [2]),
        (ZeroDivisionError("here"), ZeroDivisionError, [1]),
        # Gloo's words where the other end was killed (jaxlib 0.10.2).
        (ValueError("Gloo AllGather failed: Connection reset by peer"), PeersGoneError, [1]),
        # All workers agree on a stop, and come to its end.
        (InterruptedRunError("stop"), InterruptedRunError, []),
    ],
)
def test_a_worker_that_fails_leaves_at_once(
    error: Exception, raised: type[Exception], codes: list[int], exit_codes: list[int]
) -> None:
    with pytest.raises(raised), Group(2, 1).guarded():
        raise error
    assert exit_codes == codes


def test_a_process_alone_is_left_to_end_as_it_does(exit_codes: list[int]) -> None:
    with pytest.raises(ValueError, match="Gloo"), Group().guarded():
        raise ValueError("Gloo")
    assert exit_codes == []
