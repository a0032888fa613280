"""Writes docs/performance.md: what benchmarks/results says, and nothing else.

    python benchmarks/performance_page.py             # writes the page
    python benchmarks/performance_page.py --check     # exits with 1 if the page is not what the results say
    python benchmarks/performance_page.py --results bench-results --out bench-results/performance.md

Numbers come from the results, questions and targets from the scripts. Why a target was missed, or what follows from a
ratio without one, comes from a file beside the results, notes.yaml: `C6: {efficiency: "why"}`, by benchmark and ratio.
Of several results of one benchmark on one machine the newest is shown that has enough pairs, and the newest of all
where none has.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from harness import Benchmark
from ratios import num_pairs, verdict

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
PAGE = FOLDER.parent / "docs" / "performance.md"
# Those without a script, and what they wait for.
WITHOUT_SCRIPT = {
    "C12": ("how much of a tuning budget does ASHA save?", "waits for tuning", "half of it, or more"),
    "C13": (
        "how many requests a second does a server answer at a fixed p95?",
        "waits for serving",
        "at least 0.8 of what whole batches give",
    ),
}
# Those with a script and without a result, and why.
NOT_RUN = {"GPU": "no GPU was at hand so far"}
# What the design asks for and a script does not measure.
NOT_MEASURED = {
    "GPU": "Not in the script: random changes of images on the GPU, which `engine: jax` refuses, and training from"
    " JPEGs, which TensorFlow decodes."
}
ENOUGH_PAIRS = 5
INTRODUCTION = f"""\
# Performance

<!-- Written by benchmarks/performance_page.py from {{results}}: do not edit it. -->

What distkeras costs, measured against what it takes the place of and against what nobody can beat. Each figure has its
hardware, its date and the command that measures it again. Targets that were missed stay here, with the reason.

How to read it. A ratio is of two fresh processes of one pass; shown is its median over {ENOUGH_PAIRS} passes or more.
The interval holds the true median with a probability of at least 90%. Under 5% is noise, whatever the interval says.
Where a target lies inside the interval, it was reached or missed within noise. These are shared machines, whose speed
comes and goes: trust ratios, not seconds. How it is measured: [benchmarks/]({{readme}}).
"""


@dataclass(frozen=True)
class Entry:
    """One benchmark on the page.

    Attributes:
        id: Its name: "C3b".
        question: What it asks.
        benchmark: What its script declares; None: there is no script yet.
        targets: What its ratios should reach.
        waiting: Why there is no result yet, where there is a reason.
        results: Its results, one a machine.
        notes: Why a ratio missed its target, or what follows from one without a target, by the ratio's name.
    """

    id: str
    question: str
    benchmark: Benchmark | None
    targets: str
    waiting: str | None
    results: Sequence[Mapping[str, Any]]
    notes: Mapping[str, str]

    @property
    def command(self) -> str:
        """How it is measured."""
        return f"python benchmarks/{Path(self.benchmark.script).name}" if self.benchmark else ""


def page(results: Path = RESULTS, out: Path = PAGE) -> str:
    """Returns the whole page.

    Args:
        results: Folder of results.
        out: Where the page will be: links start there.

    Raises:
        SystemExit: If a note is of a benchmark or a ratio that does not exist.
    """
    entries = read_entries(results, out)
    folder, readme = os.path.relpath(results, FOLDER.parent), _link_to(FOLDER / "README.md", out)
    introduction = INTRODUCTION.format(results=folder, readme=readme)
    parts = [introduction, "\n".join(_summary(entries)), *("\n".join(_section(entry)) for entry in entries)]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def read_entries(results: Path, out: Path) -> list[Entry]:
    """Returns all benchmarks in the order of their numbers, with their results; see `page`."""
    written = results / "notes.yaml"
    notes = yaml.safe_load(written.read_text()) or {} if written.exists() else {}
    waiting = [
        Entry(id, question, None, targets, why, [], {})
        for id, (question, why, targets) in WITHOUT_SCRIPT.items()
    ]
    stems = sorted([*(path.stem for path in FOLDER.glob("c[0-9][0-9]*.py")), "gpu", "scaling_model"])
    entries = [*waiting, *(_entry(stem, results, out, notes) for stem in stems)]
    _check_notes(notes, entries)
    return sorted(entries, key=lambda entry: _order(entry.id))


def _entry(stem: str, results: Path, out: Path, notes: Mapping[str, Any]) -> Entry:
    module = importlib.import_module(stem)
    benchmark: Benchmark = module.BENCHMARK
    first_line = (ast.get_docstring(ast.parse(Path(benchmark.script).read_text())) or "").partition("\n")[0]
    question = first_line.partition(": ")[2]
    found = [
        {**result, "link": f"[{path.name}]({_link_to(path, out)})"}
        for path, result in _newest(results.glob(f"{stem}_*.json"))
    ]
    return Entry(
        benchmark.id,
        question,
        benchmark,
        _targets_text(benchmark),
        NOT_RUN.get(benchmark.id),
        found,
        notes.get(benchmark.id, {}),
    )


def _newest(paths: Iterable[Path]) -> Iterable[tuple[Path, Mapping[str, Any]]]:
    """Returns a result of each machine, the newest of those with enough pairs; names end in machine and date."""
    found = [(path, json.loads(path.read_text())) for path in sorted(paths)]
    by_rank = sorted(found, key=lambda one: _is_of_harness(one[1]) and num_pairs(one[1]) >= ENOUGH_PAIRS)
    return {path.stem.rpartition("_")[0]: (path, result) for path, result in by_rank}.values()


def _link_to(path: Path, page: Path) -> str:
    return os.path.relpath(path, page.absolute().parent)


def _order(id: str) -> tuple[int, str]:
    number = re.search(r"\d+", id)
    return (int(number.group()) if number else sys.maxsize), id


def _check_notes(notes: Mapping[str, Any], entries: Sequence[Entry]) -> None:
    known = {(entry.id, name) for entry in entries if entry.benchmark for name in entry.benchmark.ratios}
    strange = [f"{id}.{name}" for id, about in notes.items() for name in about if (id, name) not in known]
    if strange:
        raise SystemExit(f"notes.yaml has notes of ratios that no script has: {', '.join(strange)}")


def _summary(entries: Sequence[Entry]) -> Iterator[str]:
    yield "| | question | measured | against the peer | against the bound | targets |"
    yield "|---|---|---|---|---|---|"
    for entry in entries:
        link = f"[{entry.id}](#{entry.id.lower()})"
        rows = [_summary_cells(entry, result) for result in entry.results] or [_cells_not_run(entry)]
        for cells in rows:
            yield f"| {' | '.join([link, entry.question, *cells])} |"


def _cells_not_run(entry: Entry) -> list[str]:
    state = f"not yet run: {entry.waiting}" if entry.waiting else "not yet run"
    return [state, "", "", entry.targets]


def _summary_cells(entry: Entry, result: Mapping[str, Any]) -> list[str]:
    if not _is_of_harness(result):
        return [_old_text(result), "", "", entry.targets]
    ratios = result["ratios"]
    return [
        f"{_number(result['measured'])} {result['unit']}",
        _ratio_text(ratios.get("ratio"), result["peer"]),
        _bound_text(entry.benchmark, result),
        _outcome(result),
    ]


def _is_of_harness(result: Mapping[str, Any]) -> bool:
    return "ratios" in result


def _old_text(result: Mapping[str, Any]) -> str:
    return f"measured on {result['date']} by an older harness: {result['link']}"


def _bound_text(benchmark: Benchmark | None, result: Mapping[str, Any]) -> str:
    """Returns the ratio with the bound; the bound itself where none can be made, as with a bound of zero."""
    if benchmark is None or benchmark.bound is None:
        return "none"
    if isinstance(benchmark.bound, str):
        measured = result.get("bound") is not None
        return _ratio_text(result["ratios"].get(benchmark.bound_ratio), benchmark.bound) if measured else ""
    return _number(benchmark.bound)


def _ratio_text(ratio: Mapping[str, Any] | None, name: str | None) -> str:
    if not ratio:
        return ""
    return f"{name}: {_number(ratio['median'])} ({_interval(ratio)})"


def _outcome(result: Mapping[str, Any]) -> str:
    """Returns which ratios did not simply reach their targets."""
    names: dict[str, list[str]] = {}
    for name in result["reached"]:
        ratio = result["ratios"].get(name)
        names.setdefault(verdict(ratio) if ratio else "not measured", []).append(name)
    if not names:
        return "none"
    names.pop("reached", None)
    return "; ".join(f"{said}: {', '.join(names[said])}" for said in sorted(names)) or "reached"


def _targets_text(benchmark: Benchmark) -> str:
    texts = [
        f"{name} {_target(ratio.target, ratio.better)}"
        for name, ratio in benchmark.ratios.items()
        if ratio.target is not None
    ]
    return "; ".join(texts) or "none"


def _section(entry: Entry) -> Iterator[str]:
    yield f"## {entry.id}"
    yield ""
    yield entry.question[:1].upper() + entry.question[1:]
    if not entry.results:
        yield f"\nNot yet run{f': {entry.waiting}' if entry.waiting else ''}."
        if entry.benchmark:
            yield f"`{entry.command} --out benchmarks/results` measures it. Targets: {entry.targets}."
    if entry.id in NOT_MEASURED:
        yield f"\n{NOT_MEASURED[entry.id]}"
    for result in entry.results:
        yield ""
        if _is_of_harness(result):
            yield from _measured(entry, result)
        else:
            yield f"{_old_text(result)[:1].upper()}{_old_text(result)[1:]}. `{entry.command}` measures it again."


def _measured(entry: Entry, result: Mapping[str, Any]) -> Iterator[str]:
    load = result["load_average"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version)
    load_text = f"load {load['before']:.1f} before, {load['after']:.1f} after"
    facts = f"{result['date']}{_commit_text(result)}: {result['hardware']}; {versions}; {load_text}"
    yield f"`{result['command']}`, {facts}. {result['link']} has every run."
    pairs = num_pairs(result)
    if pairs < ENOUGH_PAIRS:
        yield f"\n**{pairs} pairs are too few to rely on.**"
    for mode, why in result["skipped"].items():
        yield f"\n{mode} was left out: {why}."
    yield ""
    yield "| ratio | of | median | interval | target | |"
    yield "|---|---|---|---|---|---|"
    for name, ratio in result["ratios"].items():
        if ratio:
            yield f"| {' | '.join([name, *_ratio_cells(ratio)])} |"
    for name, note in entry.notes.items():
        ratio = result["ratios"].get(name)
        if ratio and not ratio["reached"]:
            yield f"\n{name}{' was missed' if ratio['target'] is not None else ''}: {note}"
    yield ""
    yield from _modes(result)


def _commit_text(result: Mapping[str, Any]) -> str:
    """Returns of which commit a result is, where it says so."""
    commit = result.get("commit")
    if not commit:
        return ""
    return f", commit {commit['revision'][:10]}{' and changes' if commit['dirty'] else ''}"


def _ratio_cells(ratio: Mapping[str, Any]) -> list[str]:
    cells = [ratio["of"], _number(ratio["median"]), _interval(ratio)]
    if ratio["target"] is None:
        return [*cells, "", ""]
    return [*cells, _target(ratio["target"], ratio["better"]), verdict(ratio)]


def _modes(result: Mapping[str, Any]) -> Iterator[str]:
    medians = result["medians"]
    names = list(dict.fromkeys(name for figures in medians.values() for name in figures))
    yield f"| medians | {' | '.join(name.replace('_', ' ') for name in names)} |"
    yield "|---" * (len(names) + 1) + "|"
    for mode, figures in medians.items():
        cells = [_number(figures[name]) if name in figures else "" for name in names]
        yield f"| {' | '.join([mode, *cells])} |"


def _target(target: float, better: str) -> str:
    return f"{'at least' if better == 'more' else 'at most'} {target:g}"


def _interval(ratio: Mapping[str, Any]) -> str:
    low, high = ratio["interval"]
    return f"{_number(low)} to {_number(high)}"


def _number(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def main() -> None:
    """Writes the page, or compares it.

    Raises:
        SystemExit: With 1 if `--check` finds another page.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing, exit with 1 if the page is another"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page")
    arguments = parser.parse_args()
    text = page(arguments.results, arguments.out)
    if not arguments.check:
        arguments.out.parent.mkdir(exist_ok=True)
        arguments.out.write_text(text)
        print(f"The page is {arguments.out}.")
    elif not arguments.out.exists() or arguments.out.read_text() != text:
        raise SystemExit(f"{arguments.out} is not what {arguments.results} says: run make performance.")


if __name__ == "__main__":
    main()
