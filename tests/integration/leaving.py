"""One of two workers that meet and part: `leaving.py ENGINE RANK ADDRESS,ADDRESS FOLDER HOW`.

With `late` rank 0 comes two seconds later to the end, with `gone` it goes without a word.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from distkeras.config.settings import settings_from_mapping
from distkeras.runners.attempt import use_backend
from distkeras.topology import Worker

if __name__ == "__main__":
    engine, rank, addresses, folder, how = (
        sys.argv[1],
        int(sys.argv[2]),
        sys.argv[3],
        Path(sys.argv[4]),
        sys.argv[5],
    )
    use_backend("jax" if engine == "jax" else "tensorflow")
    from distkeras.training.session import place

    topology = {"topology.kind": "processes", "topology.workers": 2, "topology.devices": "cpu"}
    settings, _ = settings_from_mapping({"name": "leaving", "engine": engine, **topology})
    placement = place(settings, Worker(tuple(addresses.split(",")), rank, 1, ()))
    placement.exchange(rank)
    if rank == 0 and how == "gone":
        os._exit(0)
    if rank == 0:
        time.sleep(2)
        (folder / "late").touch()
    placement.leave()
    print("found" if (folder / "late").exists() else "nothing", flush=True)
    os._exit(0)
