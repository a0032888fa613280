"""Workers leave together: none ends while another may still wait for what it sent."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from distkeras.distribution.ports import free_ports

PROGRAM = Path(__file__).with_name("leaving.py")


@pytest.mark.parametrize("engine", ["tensorflow", "jax"])
@pytest.mark.parametrize(("how", "said"), [("late", "found"), ("gone", "nothing")])
def test_who_is_done_waits_for_the_others_unless_they_have_gone(
    tmp_path: Path, engine: str, how: str, said: str
) -> None:
    if engine == "jax" and find_spec("jax") is None:
        pytest.skip("JAX is not installed")
    addresses = ",".join(f"127.0.0.1:{port}" for port in free_ports(2, "127.0.0.1"))
    workers = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), engine, str(rank), addresses, str(tmp_path), how],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    ended = [(*worker.communicate(timeout=120), worker.returncode) for worker in workers]
    assert [code for _, _, code in ended] == [0, 0], ended[1][1][-2000:]
    assert ended[1][0].splitlines()[-1] == said
