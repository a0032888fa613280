"""C3e: does it take longer to go on late in an epoch than early in it?

    python benchmarks/c03e_resume.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]

Milliseconds from making the pipeline to its first batch at 1% and at 99% of an epoch, in fresh processes, interleaved:
a Parquet table of 1,048,576 rows read by row groups (block order), and JPEGs (those of C3, ten links to each). A loader
that replays the epoch would take about a hundred times as long at 99%.
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
from measuring import scratch
from photographs import large_folder_of_photographs
from ratios import Figures, Ratio

NUM_ROWS, NUM_COLUMNS, ROWS_PER_GROUP = 2**20, 16, 2**16
TABLE = """\
task: {kind: tabular_classification}
data:
  source: {kind: parquet, path: {path}, label: y, in_memory: false}
  split: {validation: 0, test: 0}
model: {builder: mlp}
training: {global_batch_size: 256}
"""


def first_batch(kind: str, at: float) -> Figures:
    """Returns how long the first batch takes, the opening of the data apart."""
    if kind == "rows":
        config = TABLE.replace("{path}", str(table()))
    else:
        config = c03.CONFIG.replace("{path}", str(large_folder_of_photographs(10)))
    dataset = training_dataset(config, at=at)
    started = time.perf_counter()
    next(iter(dataset))
    return {"milliseconds": 1000 * (time.perf_counter() - started)}


def table() -> Path:
    """Returns a Parquet file; writes it the first time."""

    def write(folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rng = np.random.default_rng(0)
        columns = {f"x{index}": rng.standard_normal(NUM_ROWS, np.float32) for index in range(NUM_COLUMNS)}
        columns["y"] = rng.integers(0, 10, NUM_ROWS)
        pq.write_table(pa.table(columns), folder / "table.parquet", row_group_size=ROWS_PER_GROUP)

    return scratch(f"table-{NUM_ROWS}x{NUM_COLUMNS}", write) / "table.parquet"


BENCHMARK = Benchmark(
    id="C3e",
    script=__file__,
    figure="milliseconds",
    unit="milliseconds to the first batch",
    modes={
        "rows_late": Mode(partial(first_batch, "rows", 0.99)),
        "rows_early": Mode(partial(first_batch, "rows", 0.01)),
        "jpegs_late": Mode(partial(first_batch, "jpegs", 0.99)),
        "jpegs_early": Mode(partial(first_batch, "jpegs", 0.01)),
    },
    subject="rows_late",
    ratios={
        "rows": Ratio("rows_late", "rows_early", target=1.2, better="less"),
        "jpegs": Ratio("jpegs_late", "jpegs_early", target=1.2, better="less"),
    },
    settings={"rows": NUM_ROWS, "rows_per_group": ROWS_PER_GROUP},
    prepare=lambda: (table(), large_folder_of_photographs(10)),
)

if __name__ == "__main__":
    harness.main(BENCHMARK, __doc__)
