"""The page of benchmarks: which result it shows, what it says of targets and bounds, and where its links lead."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import performance_page

RESULT: dict[str, Any] = {
    "date": "2026-01-31",
    "hardware": "a machine",
    "versions": {"python": "3.11"},
    "load_average": {"before": 0.1, "after": 1.0},
    "command": "python benchmarks/some.py --pairs 5",
    "unit": "units",
    "measured": 1.5,
    "peer": "processes",
    "bound": 1.0,
    "ratios": {},
    "reached": {},
    "medians": {},
    "skipped": {},
    "runs": {"some": [{}] * 5},
}


def ratio(target: float | None, *, reached: bool | None) -> dict[str, Any]:
    """Returns a ratio of 2, more of which is better."""
    span = {"of": "x: a / b", "median": 2.0, "interval": [1.0, 3.0], "better": "more"}
    return {**span, "target": target, "reached": reached}


def written(folder: Path, stem: str, date: str = "20260131", **changes: Any) -> None:
    """Writes a result as the harness does."""
    (folder / f"{stem}_x86_64-2cpu_{date}.json").write_text(json.dumps(RESULT | changes))


def row(page: str, id: str) -> str:
    """Returns the cells of a benchmark in the table of all."""
    [line] = (line for line in page.splitlines() if line.startswith(f"| [{id}]"))
    return line.split(" | ", 2)[2]


def test_a_result_with_enough_pairs_goes_before_a_newer_one(tmp_path: Path) -> None:
    two = {"some": [{}, {}]}
    written(tmp_path, "c07_launched_by_ray", "20260130", measured=5.0)
    written(tmp_path, "c07_launched_by_ray", "20260131", measured=6.0)
    written(tmp_path, "c07_launched_by_ray", "20260201", measured=2.0, runs=two)
    written(tmp_path, "c02_steps_per_execution", "20260130", measured=3.0, runs=two)
    written(tmp_path, "c02_steps_per_execution", "20260131", measured=4.0, runs=two)
    page = performance_page.page(tmp_path)
    assert row(page, "C7").startswith("6 units")
    assert row(page, "C2").startswith("4 units")


def test_a_target_inside_the_interval_is_marked(tmp_path: Path) -> None:
    ratios = {
        "far": ratio(0.5, reached=True),
        "near": ratio(1.5, reached=True),
        "short": ratio(2.5, reached=False),
        "missed": ratio(4.0, reached=False),
        "untold": ratio(None, reached=None),
        "gone": None,
    }
    reached = {name: one and one["reached"] for name, one in ratios.items() if name != "untold"}
    written(tmp_path, "c07_launched_by_ray", ratios=ratios, reached=reached)
    page = performance_page.page(tmp_path)
    said = "missed: missed; missed, within noise: short; not measured: gone; reached, within noise: near |"
    assert row(page, "C7").endswith(said)
    assert "| near | x: a / b | 2 | 1 to 3 | at least 1.5 | reached, within noise |" in page
    assert "| far | x: a / b | 2 | 1 to 3 | at least 0.5 | reached |" in page
    assert "| untold | x: a / b | 2 | 1 to 3 |  |  |" in page


@pytest.mark.parametrize(
    ("id", "stem", "name", "cell"),
    [
        ("C2", "c02_steps_per_execution", "bound_ratio", "best: 2 (1 to 3)"),
        ("C6", "c06_two_workers", "efficiency", "cnn_1: 2 (1 to 3)"),
        ("C7", "c07_launched_by_ray", "ratio", "processes: 2 (1 to 3)"),
        ("C14", "c14_memory", "epochs", "0"),
        ("C3c", "c03c_order_cost", "share_of_arrays", "none"),
    ],
)
def test_a_bound_is_shown_or_said_to_be_none(
    tmp_path: Path, id: str, stem: str, name: str, cell: str
) -> None:
    written(tmp_path, stem, ratios={name: ratio(None, reached=None)})
    assert row(performance_page.page(tmp_path), id).split(" | ")[2] == cell


@pytest.mark.parametrize(
    ("commit", "said"),
    [
        ({"revision": "0123456789abcdef", "dirty": False}, "2026-01-31, commit 0123456789: a machine"),
        ({"revision": "0123456789abcdef", "dirty": True}, "2026-01-31, commit 0123456789 and changes: a m"),
        (None, "2026-01-31: a machine"),
    ],
)
def test_the_commit_is_shown_where_it_is_known(
    tmp_path: Path, commit: dict[str, Any] | None, said: str
) -> None:
    written(tmp_path, "c07_launched_by_ray", **({"commit": commit} if commit else {}))
    assert said in performance_page.page(tmp_path)


def test_a_page_elsewhere_links_to_its_own_results(tmp_path: Path) -> None:
    written(tmp_path, "c07_launched_by_ray", runs={})
    name = "c07_launched_by_ray_x86_64-2cpu_20260131.json"
    page = performance_page.page(tmp_path, tmp_path / "page.md")
    assert f"[{name}]({name}) has every run" in page
    assert "**0 pairs are too few to rely on.**" in page
    published = performance_page.page()
    assert "](../benchmarks/results/c01_step_overhead_" in published
    assert "[benchmarks/](../benchmarks/README.md)" in published


def test_what_no_script_measures_is_said() -> None:
    assert "Not in the script: random changes of images on the GPU" in performance_page.page()


def test_the_readme_says_what_was_measured_last() -> None:
    readme = (performance_page.FOLDER.parent / "README.md").read_text()
    [(_, result)] = performance_page._newest(performance_page.RESULTS.glob("c01_*.json"))
    said = [result["date"]]
    for mode in ("bound", "distkeras", "fit_50_steps", "fit"):
        said.append(f"| {result['medians'][mode]['microseconds_per_step']:.0f} |")
    for name, text in (
        ("bound_ratio", "{:.2f} of it ({:.2f} to {:.2f})"),
        ("ratio_to_fit_50_steps", "{:.1f} times as fast ({:.1f} to {:.1f})"),
        ("ratio", "{:.1f} times as fast ({:.1f} to {:.1f})"),
    ):
        ratio = result["ratios"][name]
        said.append(text.format(ratio["median"], *ratio["interval"]))
    assert [one for one in said if one not in readme] == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "unknown"), (0.1234, "0.123"), (999.4, "999"), (999.6, "1,000"), (5e6, "5,000,000")],
)
def test_a_number_has_three_digits_and_no_exponent(value: float | None, text: str) -> None:
    assert performance_page._number(value) == text


def test_what_follows_from_a_ratio_is_said_beside_it(tmp_path: Path) -> None:
    (tmp_path / "notes.yaml").write_text("C11: {cnn_xla: It is so., cnn_jax: It is not measured.}")
    written(tmp_path, "c11_precision_and_xla", ratios={"cnn_xla": ratio(None, reached=None), "cnn_jax": None})
    page = performance_page.page(tmp_path)
    assert "\ncnn_xla: It is so.\n" in page
    assert "It is not measured." not in page
