"""The benchmarks' harness: intervals, ratios, older results, and children that fail, are missing or hang."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from machine import commit, hardware  # noqa: E402 (not installed: found by its folder)
from ratios import Ratio, find_regressions, no_longer_measured, verdict  # noqa: E402

Span = tuple[float, float]
SCRIPT = f"""
import os, sys, time
sys.path.insert(0, {str(BENCHMARKS)!r})
import harness
from harness import Benchmark, Derived, Mode
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
         "absent": Mode(lambda: {{"rate": 1.0}}, needs=("no_such.package",)), "fail": Mode(fail), "hang": Mode(hang)}}
CHOSEN = os.environ.get("CHOSEN", "ours peer bound absent").split()
B = Benchmark(id="C0", script=__file__, figure="rate", unit="a second", modes={{n: MODES[n] for n in CHOSEN}},
    subject="ours", peer="peer", bound="bound", timeout_seconds=float(os.environ.get("LIMIT", 60)),
    bound_ratio="share",
    derived={{"half": Derived(lambda rate: rate / 2, ("ours",)), "ten": Derived(lambda: 10.0),
             "more": Derived(lambda *rates: sum(rates), ("peer", "absent"))}},
    ratios={{"ratio": Ratio("ours", "peer", target=5.0), "share": Ratio("ours", "bound"),
            "to_absent": Ratio("ours", "absent", target=2.0),
            "peers": Ratio("peer", "bound"), "to_half": Ratio("ours", "half", target=2, better="less")}})
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


@pytest.mark.parametrize(
    ("better", "target", "interval", "said"),
    [
        ("more", 1.0, (1.0, 3.0), "reached"),
        ("more", 1.5, (1.0, 3.0), "reached, within noise"),
        ("more", 2.5, (1.0, 3.0), "missed, within noise"),
        ("more", 3.5, (1.0, 3.0), "missed"),
        ("less", 3.5, (1.0, 3.0), "reached"),
        ("less", 2.5, (1.0, 3.0), "reached, within noise"),
        ("less", 1.5, (1.0, 3.0), "missed, within noise"),
        ("less", 0.5, (1.0, 3.0), "missed"),
    ],
)
def test_a_target_inside_the_interval_is_reached_or_missed_within_noise(
    better: Literal["more", "less"], target: float, interval: Span, said: str
) -> None:
    low, high = interval
    runs = {"a": [{"x": low}, {"x": 2.0}, {"x": high}], "b": [{"x": 1.0}] * 3}
    outcome = Ratio("a", "b", target=target, better=better).compare(runs, "x")
    assert verdict(outcome) == said


def test_ratios_that_only_the_older_result_has_are_named() -> None:
    old = {"kept": {}, "skipped": {"median": 1}, "dropped": {"median": 1}, "never": None}
    assert no_longer_measured({"kept": {"median": 1}, "skipped": None, "added": {}}, old) == [
        "skipped",
        "dropped",
    ]


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_a_commit_is_dirty_where_something_else_was_measured(tmp_path: Path) -> None:
    assert commit(tmp_path) is None
    for folder in ("distkeras", "benchmarks/results", "docs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "distkeras/loop.py").write_text("fast")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message", "fast")
    clean = {"revision": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    assert commit(tmp_path) == clean
    for path in ("benchmarks/results/c01.json", "docs/performance.md"):
        (tmp_path / path).write_text("says nothing of what was measured")
        assert commit(tmp_path) == clean
    (tmp_path / "distkeras/loop.py").write_text("slow")
    assert commit(tmp_path) == clean | {"dirty": True}


def run(
    tmp_path: Path,
    *arguments: str,
    chosen: str | None = None,
    limit: str = "60",
    threads: str | None = None,
) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "c00_some.py"
    script.write_text(SCRIPT)
    wanted = {"LIMIT": limit, "CHOSEN": chosen, "OMP_NUM_THREADS": threads}
    env = {name: value for name, value in wanted.items() if value}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", **env}, timeout=60
    )


def test_a_result_has_what_the_design_asks_for(tmp_path: Path) -> None:
    done = run(tmp_path, "--pairs", "3", "--json", "--out", str(tmp_path / "out"), threads="3")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    [path] = (tmp_path / "out").iterdir()
    assert json.loads(path.read_text()) == result
    assert path.name.startswith("c00_some_x86_64-")
    assert (result["measured"], result["peer_measured"], result["bound"]) == (8, 2, 16)
    assert (result["ratio"], result["ratio_interval"], result["bound_ratio"]) == (4, [4, 4], 0.5)
    assert result["reached"] == {"ratio": False, "to_absent": None, "to_half": True}
    assert result["skipped"] == {"absent": "not installed: no_such.package", "more": "computed from absent"}
    assert result["medians"]["half"] == {"rate": 4}
    assert result["medians"]["ten"] == {"rate": 10}
    assert result["commit"] == commit()
    assert result["threads"] == {
        "cores": len(os.sched_getaffinity(0)),
        "variables": {"OMP_NUM_THREADS": "3"},
    }
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


def test_where_nothing_can_run_all_is_skipped(tmp_path: Path) -> None:
    done = run(tmp_path, "--pairs", "1", chosen="absent")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert list(result["skipped"]) == ["absent", "half", "more"]
    assert (result["measured"], result["ratios"]["ratio"]) == (None, None)


def test_the_median_of_unknown_figures_is_unknown(tmp_path: Path) -> None:
    done = run(tmp_path, "--pairs", "2", chosen="ours unknown")
    assert done.returncode == 0, done.stderr
    medians = json.loads(done.stdout)["medians"]
    assert (medians["unknown"]["share"], medians["unknown"]["rate"]) == (None, 1)


def older_result(tmp_path: Path, **changes: Any) -> Path:
    """Returns an older result that the same script may have written here, with changes."""
    common = {"id": "C0", "date": "2026-01-31", "hardware": hardware(), "runs": {"peer": [{}, {}, {}]}}
    path = tmp_path / "old.json"
    path.write_text(json.dumps({**common, "ratios": {}, **changes}))
    return path


@pytest.mark.parametrize(("share", "code"), [(0.5, 6), (0.125, 0)])
def test_a_regression_is_exit_6(tmp_path: Path, share: float, code: int) -> None:
    ratios = {"peers": {"median": share, "interval": [share, share]}, "gone": {"median": 1.0}}
    old = older_result(tmp_path, ratios=ratios)
    done = run(tmp_path, "--pairs", "3", "--compare", str(old), chosen="peer bound")
    assert done.returncode == code, done.stderr
    sentences = ["peers got worse: 0.125 (0.125 to 0.125); it was 0.5 (0.5 to 0.5)."] if code else []
    assert done.stderr.splitlines()[6:] == [*sentences, "gone is no longer measured."]
    compared = json.loads(done.stdout)["compared_with"]
    assert (compared["worse"], compared["no_longer_measured"]) == (sentences, ["gone"])


@pytest.mark.parametrize(
    ("changes", "pairs", "reason"),
    [
        ({"id": "C7"}, "3", "The older result is of C7, and this is C0"),
        ({"hardware": "an abacus"}, "3", "was measured on other hardware: an abacus. This is "),
        (
            {"runs": {"ours": [{}, {}]}},
            "3",
            "has 2 pairs, and this will have 3: with fewer than 3 there is no",
        ),
        ({}, "2", "has 3 pairs, and this will have 2: with fewer than 3 there is no"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_it_is_measured(
    tmp_path: Path, changes: dict[str, Any], pairs: str, reason: str
) -> None:
    old = older_result(tmp_path, **changes)
    done = run(tmp_path, "--pairs", pairs, "--compare", str(old))
    assert done.returncode == 1
    assert reason in done.stderr
    assert "pass 1" not in done.stderr


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read as a result: [Errno 2]"),
        (b"{", "cannot be read as a result: Expecting"),
        (b"\xff", "cannot be read as a result: 'utf-8'"),
        (b"7", "was not written by benchmarks/harness.py: it has no id."),
        (b'{"id": "C0"}', "was not written by benchmarks/harness.py: it has no date."),
    ],
)
def test_a_file_that_is_no_result_gets_a_sentence(tmp_path: Path, content: bytes | None, reason: str) -> None:
    old = tmp_path / "old.json"
    if content is not None:
        old.write_bytes(content)
    done = run(tmp_path, "--compare", str(old))
    assert done.returncode == 1
    assert f"{old} {reason}" in done.stderr
    assert "Traceback" not in done.stderr


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
