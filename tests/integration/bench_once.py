"""One short pass of a bench, without some of its trials: each takes seconds to start.

`python bench_once.py CONFIG [ABLATION ...]` prints the result without these as JSON: a program, so that it can be
started where the network is another.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from distkeras.config import load_config
from distkeras.measurement.ablation import measure
from distkeras.measurement.plan import make_plan
from distkeras.measurement.result import machine_and_versions, make_result
from distkeras.observability.progress import Progress


def measured(path: Path, *left_out: str) -> dict[str, Any]:
    """Returns the result of one short pass."""
    config = load_config(path, [f"output_dir={path.parent / 'runs'}"])
    plan = make_plan(config, num_passes=1, seconds=0.5)
    plan = replace(plan, ablations=[ablation for ablation in plan.ablations if ablation not in left_out])
    progress = Progress(sys.stderr, quiet=True)
    return make_result(config, plan, list(measure(config, plan, progress)), machine_and_versions([]))


if __name__ == "__main__":
    print(json.dumps(measured(Path(sys.argv[1]), *sys.argv[2:])))
