"""C2: does the automatic number of steps in one call into TensorFlow cost anything against the best fixed one?

    python benchmarks/c02_steps_per_execution.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]

The MLP and the data of C1, trained by `distkeras.Trainer` with `training.steps_per_execution` at `auto` and at 1, 4, 16
and 64, in fresh processes, interleaved. Microseconds a step, median of the epochs after the first, in which the
automatic number is found. A call never goes past a logging point: those are 100 steps apart here, so that 64 means 64
and 36 in turn, and the automatic number ends at 100. The peer is 1, which is what `fit` does by default; the bound is
the best of the four in the same pass. The best of four noisy figures is a little better than the best one is, so the
bound is a little too strict.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import Literal

import c01_step_overhead as c01
import harness
import numpy as np
from epochs import train_epochs
from harness import Benchmark, Derived, Mode
from ratios import Figures, Ratio

EPOCHS = 8
SWEEP = {f"steps_{steps}": steps for steps in (1, 4, 16, 64)}


def measure(steps: int | Literal["auto"]) -> Figures:
    """Returns the cost of a step with so many steps a call."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(c01.NUM_EXAMPLES, 64)).astype("float32")
    labels = rng.integers(0, 10, c01.NUM_EXAMPLES)
    marks = train_epochs(
        c01.build_model,
        (features, labels),
        epochs=EPOCHS,
        batch_size=c01.BATCH,
        settings={"training.steps_per_execution": steps},
    )
    seconds = statistics.median(marks.seconds[1:])
    return {"microseconds_per_step": 1e6 * seconds * c01.BATCH / c01.NUM_EXAMPLES}


BENCHMARK = Benchmark(
    id="C2",
    script=__file__,
    figure="microseconds_per_step",
    unit="microseconds a step",
    modes={name: Mode(partial(measure, steps)) for name, steps in {"auto": "auto", **SWEEP}.items()},
    derived={"best": Derived(min, tuple(SWEEP))},
    subject="auto",
    peer="steps_1",
    bound="best",
    ratios={
        "ratio": Ratio("steps_1", "auto"),
        "bound_ratio": Ratio("best", "auto", target=0.95),
    },
    settings={"num_examples": c01.NUM_EXAMPLES, "global_batch_size": c01.BATCH, "epochs": EPOCHS},
)

if __name__ == "__main__":
    harness.main(BENCHMARK, __doc__)
