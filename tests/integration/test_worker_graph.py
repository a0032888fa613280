"""What crosses the network in a step of two workers: the buckets of gradients, and no metric."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from distkeras.distribution.ports import free_ports

SCRIPT = Path(__file__).with_name("worker_graph.py")


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, int]]:
    addresses = ",".join(f"127.0.0.1:{port}" for port in free_ports(2, "127.0.0.1"))
    workers = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), addresses],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [worker.communicate(timeout=150) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs[0][1][-2000:]
    zero, one = (json.loads(out) for out, _ in outputs)
    assert zero == one
    return zero


@pytest.mark.parametrize(
    ("what", "sums", "gathers"),
    [
        # What is short is summed by gathering it.
        ("equal batches, 5 metrics", 0, 1),
        ("unequal batches", 0, 2),  # one more number: how many examples there are
        ("10 MB of gradients", 2, 0),  # one tensor of 8 MB, and the rest
        ("embedding", 0, 2),  # the rows of the table that were used
        ("masked loss", 0, 3),  # one more number: how many tokens there are
        ("compiled", 0, 1),
        ("apart", 0, 0),
    ],
)
def test_a_step_sends_its_buckets_and_nothing_else(found, what: str, sums: int, gathers: int) -> None:
    assert found[what]["CollectiveReduceV2"] == sums
    assert found[what]["CollectiveGatherV2"] == gathers


@pytest.mark.parametrize(
    ("what", "compiled"), [("equal batches, 5 metrics", 0), ("compiled", 1), ("masked loss, compiled", 0)]
)
def test_xla_compiles_what_comes_before_the_sum(found, what: str, compiled: int) -> None:
    assert found[what]["compiled"] == compiled
