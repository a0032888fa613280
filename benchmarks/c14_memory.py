"""C14: does memory grow with epochs, or with the number of examples?

    python benchmarks/c14_memory.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]

Mebibytes (MiB), in fresh processes, interleaved:

- epochs_10 and epochs_2: resident memory of `distkeras train` at the end, after ten epochs and after two, each of 1000
  steps and with its commit. `growth_mebibytes` is what it grew by after the second epoch, in one and the same process;
- parquet_1e6 and parquet_1e3: the input layer gave 10,000 batches of 100 rows, 16 features each, of a Parquet file with
  1,000,000 rows (one epoch) or 1,000 (1000 epochs), in row groups of 1000, read by row group. Memory
  of the process's own (anonymous);
- parquet_1e6_kept_8: as parquet_1e6, but decoded row groups are kept up to 8 MiB rather than up to 1 GiB, which is no
  setting: this benchmark changes `row_groups.CACHE_BYTES` in its own process. It tells what is kept on purpose from
  what grows besides;
- arrays_1e6 and arrays_1e3: the same of memory-mapped arrays. What is mapped of files, which the system takes back when
  it needs to, is `mapped_mebibytes`.

The bound is flat: no growth. 5% is noise, so a ratio of 1.05 is the target.
"""

from __future__ import annotations

import operator
from functools import partial
from pathlib import Path

import harness
import numpy as np
from harness import Benchmark, Derived, Mode
from input_layer import training_dataset
from measuring import scratch, throughput
from ratios import Figures, Ratio
from train_command import train_rows

from distkeras.measurement.comparison import NOISE

BATCH, NUM_BATCHES, NUM_COLUMNS = 100, 10_000, 16
# So small that the file of 1,000 rows has a whole one: what reading one group takes is the same for both.
ROWS_PER_GROUP = 1000
LITTLE_BYTES = 2**23
TRAIN = """\
task: {kind: tabular_classification}
data: {source: {kind: synthetic, num_examples: 64000, shape: [64]}, split: {validation: 0, test: 0}}
model: {builder: mlp, arguments: {hidden_units: [64, 64]}}
training: {epochs: {epochs}, global_batch_size: 64}
topology: {devices: cpu}
logging: {tensorboard: false}
"""
READ = f"""\
task: {{kind: tabular_classification}}
data: {{source: {{source}}, split: {{validation: 0, test: 0}}}}
model: {{builder: mlp}}
training: {{global_batch_size: {BATCH}}}
"""


def after_epochs(epochs: int) -> Figures:
    """Returns the memory at the end of a training, and its growth since the end of the second epoch."""
    rows = train_rows(TRAIN.replace("{epochs}", str(epochs)))
    second = [row["memory_bytes"] for row in rows if row["epoch"] == 1]
    last = rows[-1]["memory_bytes"]
    return {"mebibytes": last / 2**20, "growth_mebibytes": (last - second[-1]) / 2**20}


def after_reading(kind: str, num_rows: int, kept_bytes: int | None = None) -> Figures:
    """Returns the memory after so many batches of a source on the disk.

    Args:
        kind: `parquet` or `arrays`.
        num_rows: Rows of the source.
        kept_bytes: What decoded row groups may take together; None: what they may take.
    """
    if kept_bytes is not None:
        from distkeras.data.sources import row_groups

        row_groups.CACHE_BYTES = kept_bytes
    sources = {
        "parquet": f"{{kind: parquet, path: {table(num_rows)}, label: y, in_memory: false}}",
        "arrays": f"{{kind: arrays, path: {arrays(num_rows)}}}",
    }
    dataset = training_dataset(READ.replace("{source}", sources[kind]))
    throughput(iter(dataset), num_warm_up=1, num_measured=NUM_BATCHES, batch_size=BATCH)
    return {"mebibytes": _status_mebibytes("RssAnon"), "mapped_mebibytes": _status_mebibytes("RssFile")}


def _status_mebibytes(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def table(num_rows: int) -> Path:
    """Returns a Parquet file; writes it the first time."""

    def write(folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        rng = np.random.default_rng(0)
        columns = {f"x{index}": rng.standard_normal(num_rows, np.float32) for index in range(NUM_COLUMNS)}
        columns["y"] = rng.integers(0, 10, num_rows)
        pq.write_table(pa.table(columns), folder / "table.parquet", row_group_size=ROWS_PER_GROUP)

    return (
        scratch(f"memory-table-{num_rows}x{NUM_COLUMNS}-groups-of-{ROWS_PER_GROUP}", write) / "table.parquet"
    )


def arrays(num_rows: int) -> Path:
    """Returns a folder of arrays, which are opened memory-mapped; writes it the first time."""

    def write(folder: Path) -> None:
        rng = np.random.default_rng(0)
        np.save(folder / "x.npy", rng.standard_normal((num_rows, NUM_COLUMNS), np.float32))
        np.save(folder / "y.npy", rng.integers(0, 10, num_rows))

    return scratch(f"memory-arrays-{num_rows}x{NUM_COLUMNS}", write)


BENCHMARK = Benchmark(
    id="C14",
    script=__file__,
    figure="mebibytes",
    unit="MiB more after ten epochs than after two",
    modes={
        **{f"epochs_{epochs}": Mode(partial(after_epochs, epochs)) for epochs in (10, 2)},
        **{
            f"{kind}_{name}": Mode(partial(after_reading, kind, num_rows))
            for kind in ("parquet", "arrays")
            for name, num_rows in (("1e6", 10**6), ("1e3", 10**3))
        },
        "parquet_1e6_kept_8": Mode(partial(after_reading, "parquet", 10**6, LITTLE_BYTES)),
    },
    derived={
        "epochs_growth": Derived(operator.sub, ("epochs_10", "epochs_2")),
        "parquet_growth": Derived(operator.sub, ("parquet_1e6", "parquet_1e3")),
        "arrays_growth": Derived(operator.sub, ("arrays_1e6", "arrays_1e3")),
    },
    subject="epochs_growth",
    bound=0.0,
    ratios={
        "epochs": Ratio("epochs_10", "epochs_2", target=1 + NOISE, better="less"),
        "parquet": Ratio("parquet_1e6", "parquet_1e3", target=1 + NOISE, better="less"),
        "parquet_kept_8": Ratio("parquet_1e6_kept_8", "parquet_1e3", target=1 + NOISE, better="less"),
        "arrays": Ratio("arrays_1e6", "arrays_1e3", target=1 + NOISE, better="less"),
    },
    settings={"train": TRAIN, "read": READ, "rows_per_group": ROWS_PER_GROUP},
    packages=("pyarrow",),
    prepare=lambda: [make(num_rows) for make in (table, arrays) for num_rows in (10**6, 10**3)],
)

if __name__ == "__main__":
    harness.main(BENCHMARK, __doc__)
