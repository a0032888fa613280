"""Makes the data sets of this folder, real ones from scikit-learn's copies; see README.md for their origin.

Usage: python configs/data/make.py [FOLDER]
"""

from __future__ import annotations

import csv
import sys
from datetime import date, timedelta
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


def make_wine(path: Path) -> None:
    """Writes 178 rows: 12 measurements of wines with empty cells among them, the colour as text, and the cultivar."""
    data = datasets.load_wine()
    names = [name.replace("/", "_") for name in data.feature_names]
    color = names.index("color_intensity")
    shades = np.array(["pale", "medium", "deep"])[np.digitize(data.data[:, color], [3.5, 5.5])]
    is_empty = np.random.default_rng(0).random(data.data.shape) < 0.06
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*("color" if name == "color_intensity" else name for name in names), "cultivar"])
        for values, shade, gaps, target in zip(
            data.data.tolist(), shades, is_empty, data.target, strict=True
        ):
            values[color] = shade
            cells = ["" if gap else value for value, gap in zip(values, gaps, strict=True)]
            writer.writerow([*cells, data.target_names[target]])


def make_weather(path: Path) -> None:
    """Writes 1096 days of weather that is made up: a year's wave, and what lasts from one day to the next."""
    draw = np.random.default_rng(0)
    num_days = 1096
    pressure, warmth = np.zeros(num_days), np.zeros(num_days)
    for day in range(1, num_days):
        pressure[day] = 0.8 * pressure[day - 1] + draw.normal(0, 4)
        # Low pressure brings warm air a day later in winter, and cool air in summer.
        season = np.cos(2 * np.pi * day / 365.25)
        warmth[day] = 0.7 * warmth[day - 1] - 0.15 * season * pressure[day - 1] + draw.normal(0, 1.5)
    days = np.arange(num_days)
    temperature = 10 - 9 * np.cos(2 * np.pi * (days - 20) / 365.25) + warmth
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["date", "temperature", "pressure"])
        for day in days.tolist():
            when = date(2021, 1, 1) + timedelta(days=day)
            writer.writerow([when.isoformat(), f"{temperature[day]:.1f}", f"{1013 + pressure[day]:.1f}"])


def main(folder: Path) -> None:
    """Writes all data sets into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    make_breast_cancer(folder / "breast_cancer.csv")
    make_diabetes(folder / "diabetes.parquet")
    make_digits(folder / "digits.npz")
    make_wine(folder / "wine_gaps.csv")
    make_weather(folder / "made_up_weather.csv")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
