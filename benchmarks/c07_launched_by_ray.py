"""C7: what does a step cost more when Ray started the workers?

    python benchmarks/c07_launched_by_ray.py [--pairs 5] [--out benchmarks/results]

The small MLP of C6 on two workers, started by Ray Train and as plain processes, fresh and interleaved. Only what comes
after the start counts. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
from pathlib import Path
from typing import Any

from c06_two_workers import MLP, ratio, step


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5, help="measurements of each mode")
    parser.add_argument("--out", type=Path, help="folder that gets the result as a file")
    arguments = parser.parse_args()
    result = compare(arguments.pairs)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out:
        name = (
            f"c07_launched_by_ray_{platform.machine()}-{os.cpu_count()}cpu_{result['date'].replace('-', '')}"
        )
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / f"{name}.json").write_text(text + "\n")


def compare(pairs: int) -> dict[str, Any]:
    """Runs both `pairs` times, forward and backward in turn, and returns medians and their ratio."""
    kinds = ("ray", "processes")
    runs: dict[str, list[float]] = {kind: [] for kind in kinds}
    for index in range(pairs):
        for kind in kinds if index % 2 == 0 else reversed(kinds):
            runs[kind].append(step(MLP, f"kind: {kind}, workers: 2"))
    against = ratio(runs["ray"], runs["processes"])
    return {
        "id": "C7",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "hardware": f"{platform.machine()}, {os.cpu_count()} CPUs, no GPU",
        "load_average": os.getloadavg()[0],
        "unit": "milliseconds a step, median",
        "measured": statistics.median(runs["ray"]),
        "peer": "plain processes",
        "peer_measured": statistics.median(runs["processes"]),
        "ratio": against["median"],
        "ratio_interval": against["range"],
        "bound": 1.0,
        "target": 1.02,
        "reached": against["median"] <= 1.02,
        "runs": runs,
    }


if __name__ == "__main__":
    main()
