"""`distkeras train` as users run it, and what it wrote down about its speed."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def train_rows(config_text: str, *, cores: str | None = None) -> list[dict[str, Any]]:
    """Trains a config and returns the rows of its logging points, without those of evaluations and epochs.

    Args:
        config_text: A whole config. Its paths are absolute.
        cores: What the run may use, as taskset writes it; None: all.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "run.yaml").write_text(config_text)
        command = [sys.executable, "-m", "distkeras", "train", "--config", "run.yaml", "--quiet"]
        pinned = ["taskset", "-c", cores, *command] if cores else command
        subprocess.run(pinned, cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=300)
        rows = map(json.loads, Path(folder, "runs/run/metrics.jsonl").read_text().splitlines())
        return [row for row in rows if row["kind"] == "train"]
