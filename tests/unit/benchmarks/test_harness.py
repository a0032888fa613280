"""The benchmarks' harness: intervals, ratios, regressions, and children that fail, are missing or hang."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from ratios import Ratio, find_regressions  # noqa: E402 (not installed: found by its folder)

Span = tuple[float, float]
SCRIPT = f"""
import os, sys, time
sys.path.insert(0, {str(BENCHMARKS)!r})
import harness
from harness import Benchmark, Mode
from ratios import Ratio

def spend():
    children = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            end = time.process_time() + 0.3
            while time.process_time() < end: pass
            os._exit(0)
        children.append(pid)
    for pid in children: os.waitpid(pid, 0)
    return {{"rate": 8.0}}

def fail():
    print("what it said", file=sys.stderr)
    raise ValueError("no good")

def hang():
    time.sleep(100)

MODES = {{"ours": Mode(spend), "peer": Mode(lambda: {{"rate": 2.0}}), "bound": Mode(lambda: {{"rate": 16.0}}),
         "unknown": Mode(lambda: {{"rate": 1.0, "share": None}}),
         "absent": Mode(lambda: {{"rate": 1.0}}, needs=("no_such_package",)), "fail": Mode(fail), "hang": Mode(hang)}}
CHOSEN = os.environ.get("CHOSEN", "ours peer bound absent").split()
B = Benchmark(id="C0", script=__file__, figure="rate", unit="a second", modes={{n: MODES[n] for n in CHOSEN}},
    subject="ours", peer="peer", bound="bound", timeout_seconds=float(os.environ.get("LIMIT", 60)),
    derived={{"half": lambda f: f["ours"] / 2}},
    ratios={{"ratio": Ratio("ours", "peer", target=5.0), "bound_ratio": Ratio("ours", "bound"),
            "to_absent": Ratio("ours", "absent", target=2.0),
            "to_half": Ratio("ours", "half", target=2, better="less")}})
if __name__ == "__main__":
    harness.main(B, "doc")
"""


def test_a_ratio_is_of_pairs() -> None:
    runs = {"a": [{"x": 2.0}, {"x": 30.0}, {"x": 5.0}], "b": [{"x": 1.0}, {"x": 10.0}, {"x": 1.0}]}
    outcome = Ratio("a", "b", target=4).compare(runs, "x")
    assert (outcome["median"], outcome["interval"], outcome["reached"]) == (3.0, [2.0, 5.0], False)
    assert Ratio("a", "b", target=4, better="less").compare(runs, "x")["reached"] is True
    assert Ratio("a", "c").compare(runs, "x") is None


@pytest.mark.parametrize(
    ("better", "new", "old", "worse"),
    [
        ("more", (0.5, 0.6), (0.9, 1.1), True),
        ("more", (0.5, 0.95), (0.9, 1.1), False),
        ("more", (1.5, 1.6), (0.9, 1.1), False),
        ("more", (0.96, 0.98), (0.99, 1.01), False),
        ("less", (1.5, 1.6), (0.9, 1.1), True),
        ("less", (0.5, 0.6), (0.9, 1.1), False),
        ("less", (1.02, 1.04), (0.99, 1.01), False),
    ],
)
def test_worse_is_beyond_both_intervals_and_beyond_noise(
    better: str, new: Span, old: Span, worse: bool
) -> None:
    def ratio(span: Span) -> dict[str, Any]:
        return {"median": sum(span) / 2, "interval": list(span), "better": better}

    later = {"r": ratio(new), "x": None, "n": ratio(new)}
    found = find_regressions(later, {"r": ratio(old), "x": ratio(old), "n": None})
    assert bool(found) == worse


def run(
    tmp_path: Path, *arguments: str, chosen: str | None = None, limit: str = "60"
) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "c00_some.py"
    script.write_text(SCRIPT)
    env = {"LIMIT": limit, **({"CHOSEN": chosen} if chosen else {})}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", **env}, timeout=60
    )


def test_a_result_has_what_the_design_asks_for(tmp_path: Path) -> None:
    done = run(tmp_path, "--pairs", "3", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    [path] = (tmp_path / "out").iterdir()
    assert json.loads(path.read_text()) == result
    assert path.name.startswith("c00_some_x86_64-")
    assert (result["measured"], result["peer_measured"], result["bound"]) == (8, 2, 16)
    assert (result["ratio"], result["ratio_interval"], result["bound_ratio"]) == (4, [4, 4], 0.5)
    assert result["reached"] == {"ratio": False, "to_absent": None, "to_half": True}
    assert result["skipped"] == {"absent": "not installed: no_such_package"}
    assert result["ratios"]["to_absent"] is None
    assert len(result["runs"]["ours"]) == 3
    # Both children of the child are counted.
    assert result["runs"]["ours"][0]["process_cpu_seconds"] >= 0.6
    order = [line.split(": ")[1] for line in done.stderr.splitlines()]
    assert order == ["ours", "peer", "bound", "bound", "peer", "ours", "ours", "peer", "bound"]
    less = run(tmp_path, "--pairs", "2", "--out", str(tmp_path / "out"))
    assert less.returncode == 1
    assert "holds 3 pairs, and these are 2: give another folder as --out." in less.stderr
    assert less.stdout == ""


def test_the_median_of_unknown_figures_is_unknown(tmp_path: Path) -> None:
    done = run(tmp_path, "--pairs", "2", chosen="ours unknown")
    assert done.returncode == 0, done.stderr
    medians = json.loads(done.stdout)["medians"]
    assert (medians["unknown"]["share"], medians["unknown"]["rate"]) == (None, 1)


def test_a_regression_is_exit_6(tmp_path: Path) -> None:
    run(tmp_path, "--pairs", "1", "--out", str(tmp_path / "out"))
    [old] = (tmp_path / "out").iterdir()
    assert run(tmp_path, "--pairs", "1", "--compare", str(old)).returncode == 0
    result = json.loads(old.read_text())
    result["ratios"]["ratio"] |= {"median": 8.0, "interval": [7.0, 9.0]}
    old.write_text(json.dumps(result))
    done = run(tmp_path, "--pairs", "1", "--compare", str(old))
    assert done.returncode == 6
    assert "ratio got worse: 4 (4 to 4); it was 8 (7 to 9)." in done.stderr
    assert json.loads(done.stdout)["compared_with"]["worse"]
    old.write_text("{}")
    done = run(tmp_path, "--compare", str(old))
    assert done.returncode == 1
    assert "was not written by benchmarks/harness.py" in done.stderr


def test_a_child_that_fails_stops_the_benchmark_with_its_words(tmp_path: Path) -> None:
    done = run(tmp_path, "--pairs", "1", chosen="ours fail")
    assert done.returncode == 1
    assert "what it said" in done.stderr
    assert "ValueError: no good" in done.stderr
    assert "--run fail ended with 1" in done.stderr


def test_a_child_that_hangs_is_ended(tmp_path: Path) -> None:
    done = run(tmp_path, "--pairs", "1", chosen="hang", limit="2")
    assert done.returncode == 1
    assert "--run hang ended with -9 after 2 s" in done.stderr
