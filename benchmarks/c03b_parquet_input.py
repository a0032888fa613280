"""C3b: how fast do the rows of a Parquet file become shuffled batches of numbers?

    python benchmarks/c03b_parquet_input.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]

2,097,152 rows of 16 float32 columns and a label, in one file with row groups of 65,536 rows, from a warm page cache;
batches of 1024 rows, shape (1024, 16). Rows a second. Fresh processes, interleaved:

- distkeras: row groups are read as they are needed; an epoch shuffles them, then the rows of a few of them;
- distkeras_in_memory: the columns are held in memory, and all rows are shuffled;
- generator: what is often written by hand, `tf.data.Dataset.from_generator` over `iter_batches`, in the file's order;
- pyarrow_scan, the bound: pyarrow reads the same columns of the same file, and nobody makes rows of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import Benchmark, Mode
from input_layer import training_dataset
from measuring import scratch, throughput
from ratios import Figures, Ratio

NUM_ROWS, ROW_GROUP = 2**21, 2**16
NUM_COLUMNS = 16
BATCH = 1024
NUM_WARM_UP, NUM_MEASURED = 512, 2048
COLUMNS = [f"x{index:02}" for index in range(NUM_COLUMNS)]
CONFIG = f"""\
task: {{kind: tabular_classification}}
data:
  source: {{kind: parquet, path: {{path}}, label: label, in_memory: {{in_memory}}}}
  split: {{validation: 0, test: 0}}
model: {{builder: mlp}}
training: {{global_batch_size: {BATCH}}}
"""


def parquet_file() -> Path:
    """Returns the file; writes it the first time."""
    return (
        scratch(f"parquet-{NUM_ROWS}-rows-{NUM_COLUMNS}-columns-groups-of-{ROW_GROUP}", _write)
        / "table.parquet"
    )


def _write(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    columns = {name: rng.standard_normal(NUM_ROWS, np.float32) for name in COLUMNS}
    table = pa.table({**columns, "label": rng.integers(0, 10, NUM_ROWS)})
    pq.write_table(table, folder / "table.parquet", row_group_size=ROW_GROUP)


def measure(batches_of: Callable[[], Iterator[Any]]) -> Figures:
    """Returns the rows a second of an endless iterator of batches that `batches_of` makes."""
    batches = batches_of()
    return throughput(batches, num_warm_up=NUM_WARM_UP, num_measured=NUM_MEASURED, batch_size=BATCH)


def distkeras_batches(in_memory: str) -> Iterator[Any]:
    return iter(
        training_dataset(CONFIG.replace("{path}", str(parquet_file())).replace("{in_memory}", in_memory))
    )


def generated_batches() -> Iterator[Any]:
    import pyarrow.parquet as pq
    import tensorflow as tf

    def rows() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for batch in pq.ParquetFile(parquet_file()).iter_batches(BATCH):
            yield np.stack([batch[name].to_numpy() for name in COLUMNS], axis=1), batch["label"].to_numpy()

    signature = (
        tf.TensorSpec((None, NUM_COLUMNS), tf.float32),
        tf.TensorSpec((None,), tf.int64),
    )
    batches = tf.data.Dataset.from_generator(rows, output_signature=signature)
    return iter(batches.repeat().prefetch(tf.data.AUTOTUNE))


def scan() -> Figures:
    """Returns the rows a second of pyarrow's scan of the whole file, the second time."""
    import pyarrow.parquet as pq

    def all_rows() -> int:
        batches = pq.ParquetFile(parquet_file()).iter_batches(ROW_GROUP, columns=[*COLUMNS, "label"])
        return sum(batch.num_rows for batch in batches)

    all_rows()
    started, cpu = time.perf_counter(), time.process_time()
    num_rows = all_rows()
    return {
        "examples_per_second": num_rows / (time.perf_counter() - started),
        "cpu_seconds_per_1000": 1000 * (time.process_time() - cpu) / num_rows,
    }


BENCHMARK = Benchmark(
    id="C3b",
    script=__file__,
    figure="examples_per_second",
    unit="rows a second",
    modes={
        "distkeras": Mode(partial(measure, partial(distkeras_batches, "false"))),
        "distkeras_in_memory": Mode(partial(measure, partial(distkeras_batches, "true"))),
        "generator": Mode(partial(measure, generated_batches)),
        "pyarrow_scan": Mode(scan),
    },
    subject="distkeras",
    peer="generator",
    bound="pyarrow_scan",
    ratios={
        "ratio": Ratio("distkeras", "generator"),
        "ratio_in_memory": Ratio("distkeras_in_memory", "generator"),
        "bound_ratio": Ratio("distkeras", "pyarrow_scan", target=0.7),
    },
    settings={"rows": NUM_ROWS, "row_group": ROW_GROUP, "columns": NUM_COLUMNS, "config": CONFIG},
    packages=("pyarrow",),
    prepare=parquet_file,
)

if __name__ == "__main__":
    harness.main(BENCHMARK, __doc__)
