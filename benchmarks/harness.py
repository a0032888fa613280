"""How every benchmark here is measured, so that its ratios mean something on a machine that others use, too.

A benchmark compares modes, which are ways of doing one job: ours, a peer's, and the bound that nobody can beat.

1. Each measurement is a fresh process: `python benchmarks/cXX.py --run MODE` warms up, measures, and prints one line
   of JSON. A process that fails stops the benchmark with what it said; a mode whose packages are missing is skipped,
   and the result says so.
2. A pass runs every mode once. Passes alternate their direction (A B, B A, ...), so that what slows the machine down
   for a while, or from one run to the next, slows all modes alike.
3. A ratio is of two runs of one pass. Reported is the median over the passes, never the ratio of two medians.
4. Its interval is made of the ratios themselves (`shares.median_interval`): of five passes their range, in which the
   median lies with a probability of 94% if passes are independent. Under 5% is noise whatever the interval says.
5. Seconds come and go on a shared machine; CPU-seconds less so. Both are in the result for every single run, with the
   load, the versions and the settings that they belong to. A target that was missed stays in the result.

The command line is the same for all (`main`): `--pairs` passes, `--out` for a file, `--compare` with an older one. What
is printed is one JSON object; `--json` says so to those who ask every command for it.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import commit, environment, file_suffix, hardware, threads, versions
from older_result import read_result, refuse_incomparable
from ratios import Figures, Ratio, find_regressions, no_longer_measured, num_pairs

PACKAGES = ("distkeras", "keras", "tensorflow", "numpy")
CHECK_FAILED = 6


@dataclass(frozen=True)
class Mode:
    """One way of doing the job.

    Attributes:
        measure: Runs in a process of its own, and returns figures by name.
        needs: Packages, as they are imported ("orbax.checkpoint"), without which the mode is skipped.
    """

    measure: Callable[[], Figures]
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> str | None:
        """Why it cannot run here, if it cannot."""
        missing = [package for package in self.needs if not _is_installed(package)]
        return f"not installed: {', '.join(missing)}" if missing else None


@dataclass(frozen=True)
class Derived:
    """A mode that is computed from others, pass by pass, rather than run.

    Attributes:
        formula: Given the main figures of these others, in their order, returns its own.
        of: The others. Where one of them was skipped, so is this.
    """

    formula: Callable[..., float]
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """A question with its modes and the ratios that answer it.

    Attributes:
        id: Its name in the design: "C3".
        script: `__file__` of the script; its stem names the result.
        figure: Name of the figure that is `measured`.
        unit: What it counts.
        modes: The modes by name, in the order of a pass.
        subject: The mode that is ours.
        ratios: The ratios by name. "ratio" is the one with the peer.
        peer: The mode that ours is compared with, where there is one.
        bound: The mode that nobody can beat, or the figure.
        bound_ratio: Name of the ratio that says how far from the bound we are.
        derived: Modes that are computed.
        settings: What a reader needs to measure the same: configs, sizes, counts.
        packages: Distributions whose versions belong to the result, beside `PACKAGES`.
        prepare: Makes the data before anything is measured.
        timeout_seconds: Longest that one process may take.
    """

    id: str
    script: str
    figure: str
    unit: str
    modes: Mapping[str, Mode]
    subject: str
    ratios: Mapping[str, Ratio]
    peer: str | None = None
    bound: str | float | None = None
    bound_ratio: str = "bound_ratio"
    derived: Mapping[str, Derived] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    prepare: Callable[[], object] = lambda: None
    timeout_seconds: float = 900.0


def main(benchmark: Benchmark, description: str | None) -> None:
    """Runs a benchmark from the command line, or one mode of it in this process.

    Args:
        benchmark: The benchmark.
        description: The script's docstring, for `--help`.

    Raises:
        SystemExit: With 6 if a ratio got worse than in the result given by `--compare`; with a text if that is none
            that this one can be held against, or if a process fails.
    """
    arguments = _parse(benchmark, description)
    if arguments.run:
        print(json.dumps(benchmark.modes[arguments.run].measure()))
        return
    # Files first: what is wrong with them is found out before the measuring rather than after it.
    old = read_result(arguments.compare) if arguments.compare else None
    if old:
        refuse_incomparable(old, id=benchmark.id, hardware=hardware(), pairs=arguments.pairs)
    path = _path_of_result(benchmark, arguments.out, arguments.pairs) if arguments.out else None
    result = run(benchmark, arguments.pairs)
    if old:
        which = {"file": arguments.compare.name, "date": old["date"]}
        result["compared_with"] = which | _compare(result, old)
    text = json.dumps(result, indent=2)
    print(text)
    if path:
        path.write_text(text + "\n")
    if old and result["compared_with"]["worse"]:
        raise SystemExit(CHECK_FAILED)


def _compare(result: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what got worse and what is no longer measured, and tells of both."""
    worse = find_regressions(result["ratios"], old["ratios"])
    gone = no_longer_measured(result["ratios"], old["ratios"])
    for sentence in (*worse, *(f"{name} is no longer measured." for name in gone)):
        print(sentence, file=sys.stderr)
    return {"worse": worse, "no_longer_measured": gone}


def run(benchmark: Benchmark, pairs: int) -> dict[str, Any]:
    """Measures every mode in `pairs` passes and returns the result object."""
    benchmark.prepare()
    load_before, measured_commit = os.getloadavg()[0], commit()
    skipped = {name: mode.missing for name, mode in benchmark.modes.items() if mode.missing}
    runs = _passes(benchmark, [name for name in benchmark.modes if name not in skipped], pairs)
    for name, derived in benchmark.derived.items():
        if absent := [mode for mode in derived.of if mode not in runs]:
            skipped[name] = f"computed from {', '.join(absent)}"
        else:
            passes = ([runs[mode][index][benchmark.figure] for mode in derived.of] for index in range(pairs))
            runs[name] = [{benchmark.figure: derived.formula(*values)} for values in passes]
    return {
        "id": benchmark.id,
        "date": _today(),
        "commit": measured_commit,
        "hardware": hardware(),
        "threads": threads(),
        "versions": versions((*PACKAGES, *benchmark.packages)),
        "load_average": {"before": load_before, "after": os.getloadavg()[0]},
        "environment": environment(),
        "command": f"python benchmarks/{Path(benchmark.script).name} --pairs {pairs}",
        "settings": dict(benchmark.settings),
        **summarise(benchmark, runs),
        "skipped": skipped,
        "runs": runs,
    }


def _passes(benchmark: Benchmark, names: Sequence[str], pairs: int) -> dict[str, list[Figures]]:
    """Measures some modes pass by pass, and returns their figures by mode and pass."""
    runs: dict[str, list[Figures]] = {name: [] for name in names}
    for index in range(pairs):
        for name in names if index % 2 == 0 else reversed(names):
            print(f"pass {index + 1} of {pairs}: {name}", file=sys.stderr)
            runs[name].append(measure_in_child(benchmark, name))
    return runs


def summarise(benchmark: Benchmark, runs: Mapping[str, Sequence[Figures]]) -> dict[str, Any]:
    """Returns what the runs say: medians of the figures, ratios with their intervals, targets.

    Args:
        benchmark: Whose runs.
        runs: Figures by mode and pass; modes that were skipped are missing.
    """
    medians = {
        mode: {name: _median([figures[name] for figures in rows]) for name in rows[0]}
        for mode, rows in runs.items()
    }
    ratios = {name: ratio.compare(runs, benchmark.figure) for name, ratio in benchmark.ratios.items()}
    with_target = {name: ratio.target for name, ratio in benchmark.ratios.items() if ratio.target is not None}

    def measured(mode: str | None) -> float | None:
        return medians.get(mode or "", {}).get(benchmark.figure)

    def of_ratio(name: str, key: str) -> Any:
        return (ratios.get(name) or {}).get(key)

    return {
        "unit": benchmark.unit,
        "measured": measured(benchmark.subject),
        "peer": benchmark.peer,
        "peer_measured": measured(benchmark.peer),
        "ratio": of_ratio("ratio", "median"),
        "ratio_interval": of_ratio("ratio", "interval"),
        "bound": measured(benchmark.bound) if isinstance(benchmark.bound, str) else benchmark.bound,
        "bound_ratio": of_ratio(benchmark.bound_ratio, "median"),
        "target": with_target,
        "reached": {name: of_ratio(name, "reached") for name in with_target},
        "ratios": ratios,
        "medians": medians,
    }


def measure_in_child(benchmark: Benchmark, mode: str) -> Figures:
    """Runs one mode in a fresh process and returns its figures.

    To them it adds what the kernel counted (`os.wait4`) for the process and for those that it, and they in turn,
    waited for: import, warm-up and all.

    Raises:
        SystemExit: If the process fails, says nothing, or takes too long.
    """
    command = [sys.executable, benchmark.script, "--run", mode]
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        started = time.perf_counter()
        # A session of its own: what a stopped process started is stopped with it.
        process = subprocess.Popen(command, stdout=output, stderr=errors, start_new_session=True)
        alarm = threading.Timer(benchmark.timeout_seconds, os.killpg, (process.pid, signal.SIGKILL))
        alarm.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            alarm.cancel()
            if process.returncode != 0:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        seconds = time.perf_counter() - started
        lines, said = _text(output).splitlines(), _text(errors)
    if process.returncode or not lines:
        ending = f"ended with {process.returncode} after {seconds:.0f} s, without a result"
        raise SystemExit(
            f"{said}\n{' '.join(command)} {ending}. {benchmark.timeout_seconds:.0f} s are allowed."
        )
    return {
        **json.loads(lines[-1]),
        "process_seconds": seconds,
        "process_cpu_seconds": usage.ru_utime + usage.ru_stime,
        "process_peak_mebibytes": usage.ru_maxrss / 1024,
    }


def _parse(benchmark: Benchmark, description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=_positive, default=5, help="passes: measurements of each mode")
    parser.add_argument("--out", type=Path, help="folder that gets the result as a file")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="exit with 6 if a ratio got worse")
    parser.add_argument("--json", action="store_true", help="print one JSON object, as is done without it")
    parser.add_argument("--run", choices=list(benchmark.modes), help="measure one mode once, in this process")
    return parser.parse_args()


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"at least 1, received {text}")
    return int(text)


def _path_of_result(benchmark: Benchmark, folder: Path, pairs: int) -> Path:
    """Returns the file of today's result; a better one of today is not overwritten."""
    path = folder / f"{Path(benchmark.script).stem}_{file_suffix(_today())}.json"
    if path.exists():
        before = num_pairs(read_result(path))
        if before > pairs:
            raise SystemExit(
                f"{path} holds {before} pairs, and these are {pairs}: give another folder as --out."
            )
    folder.mkdir(parents=True, exist_ok=True)
    return path


def _median(values: Sequence[float | None]) -> float | None:
    """Returns the median; None where a figure is unknown."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if len(known) == len(values) else None


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # not even the package around it is
        return False


def _text(stream: Any) -> str:
    stream.seek(0)
    return stream.read()
