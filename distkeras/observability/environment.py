"""env.json: the machine, the versions and the command, as far as they explain a result."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("distkeras", "keras", "tensorflow", "tensorflow-cpu", "jax", "ray", "numpy", "pyarrow")
_TIMEOUT_SECONDS = 10.0


def describe_environment(command: Sequence[str], working_directory: Path) -> dict[str, Any]:
    """Returns what env.json holds. The machine's name is left out: a run directory is made to be shared.

    Args:
        command: The command line, program first.
        working_directory: Where git is asked for its revision.
    """
    return {
        "command": list(command),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "num_cores": num_usable_cores(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": describe_gpus(),
        "versions": package_versions(),
        "git": git_state(working_directory),
    }


def this_program() -> list[str]:
    """Returns the words that start this program again, as a person in this shell would type them."""
    path = Path(sys.argv[0])
    if path.name == "__main__.py":
        return ["python", "-m", path.parent.name]
    if path.suffix == ".py":
        return ["python", str(path)]
    return [path.name if shutil.which(path.name) else str(path)]


def package_versions(packages: Sequence[str] = _PACKAGES) -> dict[str, str]:
    """Returns the versions of the packages that are installed, without importing any."""
    versions: dict[str, str] = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def git_state(directory: Path) -> dict[str, Any] | None:
    """Returns `{"revision", "dirty"}` of the git work tree around `directory`; None where there is none."""
    revision = _output_of("git", "-C", str(directory), "rev-parse", "HEAD")
    if not revision:
        return None
    changes = _output_of("git", "--no-optional-locks", "-C", str(directory), "status", "--porcelain")
    return {"revision": revision, "dirty": None if changes is None else bool(changes)}


def available_memory(root: Path = Path("/")) -> int:
    """Returns the bytes that could be had now: of the machine, or of the container that this process is limited to.

    Args:
        root: Where /proc and /sys are.
    """
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    info = root / "proc/meminfo"
    if info.is_file():  # counts what the page cache would give back, which the free pages do not
        values = dict(line.split(":") for line in info.read_text().splitlines())
        available = int(values["MemAvailable"].split()[0]) * 1024
    group = root / "sys/fs/cgroup"
    limit = group / "memory.max"
    if limit.is_file() and limit.read_text().strip() != "max":
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        used = int((group / "memory.current").read_text()) - int(statistics["inactive_file"])
        available = min(available, int(limit.read_text()) - used)
    return max(0, available)


def describe_gpus() -> list[dict[str, str]]:
    """Returns name, memory and driver of each NVIDIA GPU; empty where `nvidia-smi` is missing or silent."""
    lines = _output_of("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    rows = [line.split(", ") for line in (lines or "").splitlines()]
    return [dict(zip(("name", "memory", "driver"), row, strict=True)) for row in rows if len(row) == 3]


def _output_of(*command: str) -> str | None:
    """Returns what a command printed; None where it is missing, fails or takes too long."""
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def num_usable_cores() -> int:
    """Returns the cores that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
