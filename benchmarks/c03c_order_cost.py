"""C3c: what does the order cost, which is computed rather than stored?

    python benchmarks/c03c_order_cost.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]

Which ids a step reads is arithmetic (distkeras/data/permutation.py), for 64 steps at a time. Microseconds for a batch
of 64 ids out of 1,281,167, in one thread, and its share of what the whole pipeline takes for a batch that is read from
memory (64 float32 each: there is no cheaper one) or from JPEGs (those of C3). Fresh processes, interleaved.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import c03_jpeg_input as c03
import harness
import numpy as np
from harness import Benchmark, Mode
from input_layer import training_dataset
from measuring import scratch, taker
from photographs import folder_of_photographs
from ratios import Figures, Ratio

BATCH = 64
NUM_EXAMPLES = 1_281_167
NUM_BLOCKS, STEPS_PER_BLOCK = 200, 64
NUM_ROWS, NUM_FEATURES = 2**17, 64
CONFIG = f"""\
task: {{kind: tabular_classification}}
data:
  source: {{kind: arrays, path: {{path}}}}
  split: {{validation: 0, test: 0}}
model: {{builder: mlp}}
training: {{global_batch_size: {BATCH}}}
"""


def order() -> Figures:
    """Returns the cost of the ids alone, asked for in the blocks that the pipeline asks for."""
    from distkeras.data.batches import BatchPlan, batch_ids
    from distkeras.data.order import Shuffled

    plan, shuffled = BatchPlan(NUM_EXAMPLES, BATCH), Shuffled(NUM_EXAMPLES, "c03c", seed=0)
    batch_ids(plan, shuffled, range(STEPS_PER_BLOCK), range(1), 1)
    started = time.perf_counter()
    for block in range(NUM_BLOCKS):
        steps = range(block * STEPS_PER_BLOCK, (block + 1) * STEPS_PER_BLOCK)
        batch_ids(plan, shuffled, steps, range(1), 1)
    seconds = time.perf_counter() - started
    return {"microseconds_per_batch": 1e6 * seconds / (NUM_BLOCKS * STEPS_PER_BLOCK)}


def pipeline(config: str, num_warm_up: int, num_measured: int) -> Figures:
    """Returns the cost of a batch of the whole pipeline."""
    take = taker(iter(training_dataset(config.replace("{path}", str(_path(config))))))
    take(num_warm_up)
    started = time.perf_counter()
    take(num_measured)
    return {"microseconds_per_batch": 1e6 * (time.perf_counter() - started) / num_measured}


def array_folder() -> Path:
    """Returns a folder of arrays in memory-mapped files; writes it the first time."""

    def write(folder: Path) -> None:
        rng = np.random.default_rng(0)
        np.save(folder / "x.npy", rng.standard_normal((NUM_ROWS, NUM_FEATURES), np.float32))
        np.save(folder / "y.npy", rng.integers(0, 10, NUM_ROWS))

    return scratch(f"arrays-{NUM_ROWS}x{NUM_FEATURES}", write)


def _path(config: str) -> Path:
    return array_folder() if config == CONFIG else folder_of_photographs()


BENCHMARK = Benchmark(
    id="C3c",
    script=__file__,
    figure="microseconds_per_batch",
    unit="microseconds a batch",
    modes={
        "order": Mode(order),
        "arrays": Mode(partial(pipeline, CONFIG, 2000, 20_000)),
        "jpegs": Mode(partial(pipeline, c03.CONFIG, c03.NUM_WARM_UP, c03.NUM_MEASURED)),
    },
    subject="order",
    ratios={
        "share_of_jpegs": Ratio("order", "jpegs", target=0.01, better="less"),
        "share_of_arrays": Ratio("order", "arrays", better="less"),
    },
    settings={"examples": NUM_EXAMPLES, "steps_per_block": STEPS_PER_BLOCK, "configs": [CONFIG, c03.CONFIG]},
    prepare=lambda: (array_folder(), folder_of_photographs()),
)

if __name__ == "__main__":
    harness.main(BENCHMARK, __doc__)
