"""Makes the data sets of this folder from scikit-learn's copies; see README.md for their origin.

Usage: python configs/data/make.py [FOLDER]
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn import datasets


def make_breast_cancer(path: Path) -> None:
    """Writes 569 rows: 30 measurements of cell nuclei, and the diagnosis as text."""
    data = datasets.load_breast_cancer()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*(name.replace(" ", "_") for name in data.feature_names), "diagnosis"])
        for values, target in zip(data.data.tolist(), data.target, strict=True):
            writer.writerow([*values, data.target_names[target]])


def make_diabetes(path: Path) -> None:
    """Writes 442 rows: 10 measurements in their own units, and the disease's progression after a year."""
    data = datasets.load_diabetes(scaled=False)
    columns = dict(zip(data.feature_names, data.data.T, strict=True))
    pq.write_table(pa.table({**columns, "progression": data.target}), path, compression="zstd")


def make_digits(path: Path) -> None:
    """Writes 1797 images of handwritten digits: x uint8 (1797, 8, 8, 1), values 0 to 16; y int64."""
    data = datasets.load_digits()
    images = data.images[..., np.newaxis].astype(np.uint8)
    np.savez_compressed(path, x=images, y=data.target.astype(np.int64))


def main(folder: Path) -> None:
    """Writes all data sets into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    make_breast_cancer(folder / "breast_cancer.csv")
    make_diabetes(folder / "diabetes.parquet")
    make_digits(folder / "digits.npz")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
