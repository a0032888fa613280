"""docs/performance.md is what the results say, and the check that tells so can tell otherwise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "performance_page.py"
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "benchmarks" / "results"
RESULT = {
    "id": "C7",
    "date": "2026-01-31",
    "hardware": "a machine",
    "versions": {"python": "3.11", "ray": None},
    "load_average": {"before": 0.1, "after": 1.0},
    "command": "python benchmarks/c07_launched_by_ray.py --pairs 2",
    "unit": "milliseconds a step",
    "measured": 1.5,
    "peer": "processes",
    "ratios": {
        "ratio": {
            "of": "milliseconds_per_step: ray / processes",
            "median": 1.25,
            "interval": [1.2, 1.3],
            "better": "less",
            "target": 1.02,
            "reached": False,
        }
    },
    "reached": {"ratio": False},
    "medians": {"ray": {"milliseconds_per_step": 1.5}, "processes": {"milliseconds_per_step": None}},
    "skipped": {},
    "runs": {"ray": [{}, {}]},
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_page_is_what_the_results_say() -> None:
    done = run("--check")
    assert done.returncode == 0, done.stderr


def test_another_page_is_found_out(tmp_path: Path) -> None:
    other = tmp_path / "performance.md"
    other.write_text(PAGE.read_text().replace("not yet run", "twice as fast", 1))
    done = run("--check", "--out", str(other))
    assert done.returncode == 1
    assert "is not what" in done.stderr
    assert "run make performance" in done.stderr


def test_a_missed_target_is_shown_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "notes.yaml").write_text('C7: {ratio: "Ray was busy."}\n')
    name = "c07_launched_by_ray_x86_64-2cpu_{}.json"
    (tmp_path / name.format("20260131")).write_text(json.dumps(RESULT))
    (tmp_path / name.format("20260130")).write_text(json.dumps(RESULT | {"measured": 77.0}))
    done = run("--results", str(tmp_path), "--out", str(tmp_path / "page.md"))
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.md").read_text()
    assert "| 1.5 milliseconds a step | processes: 1.25 (1.2 to 1.3) |  | missed: ratio |" in page
    assert "ratio was missed: Ray was busy." in page
    assert "2 pairs are too few to rely on" in page
    assert "| processes | unknown |" in page
    assert "77" not in page
    assert "[C9](#c9)" in page


def test_a_note_of_no_ratio_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.yaml").write_text('C7: {speed: "no such ratio"}\n')
    done = run("--results", str(tmp_path), "--out", str(tmp_path / "page.md"))
    assert done.returncode == 1
    assert "C7.speed" in done.stderr
