"""What a result was measured on: the hardware, the commit, the versions, and the settings around them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distkeras.observability.environment import num_usable_cores

# What decides how many threads compute, and with what.
SETTINGS = (
    "CUDA_VISIBLE",
    "JAX_",
    "KERAS_BACKEND",
    "MALLOC_",
    "NPROC",
    "OMP_",
    "TF_ENABLE_",
    "TF_NUM_",
    "XLA_",
)

ROOT = Path(__file__).parents[1]
# Results are no part of it: after the first of a series every other one would count as of a changed tree.
_MEASURED = ("distkeras", "benchmarks", ":(exclude)benchmarks/results")


def hardware() -> str:
    """Returns processor, cores that may be used, memory and GPUs in one line."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = "unknown processor"
    cores = f"{num_usable_cores()} of {os.cpu_count()} cores"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{platform.machine()}, {model}, {cores}, {memory:.0f} GiB, {_gpus()}"


def file_suffix(date: str) -> str:
    """Returns how the names of result files end: `x86_64-2cpu_20261121`.

    Args:
        date: As in a result, `2026-11-21`.
    """
    return f"{platform.machine()}-{os.cpu_count()}cpu_{date.replace('-', '')}"


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """Returns the versions of Python and of packages; None: not installed."""
    return {"python": platform.python_version(), **{package: _version(package) for package in packages}}


def environment() -> dict[str, str]:
    """Returns the environment variables that change how something computes."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(SETTINGS)}


def threads() -> dict[str, Any]:
    """Returns the cores that may be used, and the environment variables that say how many threads use them."""
    variables = {
        name: value for name, value in sorted(os.environ.items()) if "THREAD" in name or name == "NPROC"
    }
    return {"cores": num_usable_cores(), "variables": variables}


def commit(root: Path = ROOT) -> dict[str, Any] | None:
    """Returns `{"revision", "dirty"}` of what is measured; None where it is in no git work tree.

    Args:
        root: The repository.
    """
    try:
        revision = _git(root, "rev-parse", "HEAD")
        changes = _git(root, "--no-optional-locks", "status", "--porcelain", "--", *_MEASURED)
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"revision": revision, "dirty": bool(changes)}


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _gpus() -> str:
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return "no GPU"
    return ", ".join(names)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
