"""C7: what does a step cost more when Ray started the workers?

    python benchmarks/c07_launched_by_ray.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]

The small MLP of C6 on two workers, started by Ray Train and as plain processes, fresh and interleaved. Only what comes
after the start counts; plain processes are the peer and the bound. Prints one JSON object.
"""

from __future__ import annotations

from functools import partial

import harness
from c06_two_workers import MLP, step
from harness import Benchmark, Mode
from ratios import Figures, Ratio


def measure(kind: str) -> Figures:
    """Returns the median milliseconds of a step after the warm-up."""
    return {"milliseconds_per_step": step(MLP, f"kind: {kind}, workers: 2")}


BENCHMARK = Benchmark(
    id="C7",
    script=__file__,
    figure="milliseconds_per_step",
    unit="milliseconds a step",
    modes={kind: Mode(partial(measure, kind)) for kind in ("ray", "processes")},
    subject="ray",
    peer="processes",
    bound="processes",
    bound_ratio="ratio",
    ratios={"ratio": Ratio("ray", "processes", target=1.02, better="less")},
    settings={"config": MLP},
    packages=("ray",),
)

if __name__ == "__main__":
    harness.main(BENCHMARK, __doc__)
