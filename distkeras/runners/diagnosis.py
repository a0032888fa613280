"""What this machine has of what training needs: each finding with what to do about it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement

from distkeras.observability.environment import available_memory, describe_environment
from distkeras.observability.formats import memory_text

Level = Literal["ok", "warn", "fail"]

IMPORT_TIMEOUT_SECONDS = 120.0
LITTLE_MEMORY_BYTES = 2 * 1024**3
LITTLE_DISK_BYTES = 2 * 1024**3
EXTRAS = {
    "report": "reports and test metrics",
    "track": "TensorBoard event files",
    "jax": "training on the JAX engine",
}
# The CPU build is a distribution of its own, of the same module and versions.
STAND_INS = {"tensorflow": ("tensorflow-cpu",)}
_IMPORT = """
import json, tensorflow as tf
print(json.dumps({"version": tf.__version__, "gpus": [d.name for d in tf.config.list_physical_devices("GPU")]}))
"""


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        subject: What was looked at.
        level: `ok`; `warn`: training works, something is slower or left out; `fail`: it does not.
        text: What was found.
        remedy: What to do where it is not ok.
    """

    subject: str
    level: Level
    text: str
    remedy: str | None = None


def diagnose(output_dir: Path, announce: Callable[[str], None]) -> Iterator[Finding]:
    """Yields findings, quick ones first.

    Args:
        output_dir: Where runs are to be written.
        announce: Told what happens before something that takes long.
    """
    requirements = _requirements()
    environment = describe_environment([], Path.cwd())
    yield _python()
    yield from _packages(requirements)
    yield Finding("cpu", "ok", f"{environment['num_cores']} cores, {environment['cpu']}")
    yield _memory()
    yield _disk(output_dir)
    for extra, purpose in EXTRAS.items():
        yield _extra(extra, purpose, requirements)
    announce("importing TensorFlow")
    yield from _tensorflow(environment["gpus"])


def _python() -> Finding:
    supported = (3, 11) <= sys.version_info[:2] < (3, 14)
    return Finding(
        "python",
        "ok" if supported else "fail",
        platform.python_version(),
        None if supported else "use Python 3.11, 3.12 or 3.13",
    )


def _requirements() -> list[Requirement]:
    """What pyproject.toml asks for, from the installed package or from the source tree beside it."""
    try:
        lines = requires("distkeras") or []
    except PackageNotFoundError:
        project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
        extras = project["optional-dependencies"].items()
        lines = project["dependencies"] + [
            f'{line}; extra == "{extra}"' for extra, asked in extras for line in asked
        ]
    return [Requirement(line) for line in lines]


def _packages(requirements: Sequence[Requirement]) -> Iterator[Finding]:
    core = [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    problems = [problem for problem in map(_problem, core) if problem is not None]
    yield from problems
    if not problems:
        shown = [f"{one.name} {_installed(one)}" for one in core if one.name in ("keras", "ray", "numpy")]
        yield Finding("packages", "ok", f"all {len(core)} as required: {', '.join(shown)}")


def _problem(requirement: Requirement) -> Finding | None:
    found = _installed(requirement)
    wanted = f"{requirement.name}{requirement.specifier}"
    if found is None:
        return Finding(requirement.name, "fail", "is not installed", f'pip install "{wanted}"')
    if not requirement.specifier.contains(found, prereleases=True):
        return Finding(requirement.name, "fail", f"{found} does not fit {wanted}", f'pip install "{wanted}"')
    return None


def _installed(requirement: Requirement) -> str | None:
    for name in (requirement.name, *STAND_INS.get(requirement.name, ())):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def _memory() -> Finding:
    available = available_memory()
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    text = f"{memory_text(available)} of {memory_text(total)} available"
    if available < LITTLE_MEMORY_BYTES:
        return Finding(
            "memory", "warn", text, "end other programs, or use a small training.global_batch_size"
        )
    return Finding("memory", "ok", text)


def _disk(output_dir: Path) -> Finding:
    place = output_dir.absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        remedy = "change its permissions, or choose another output_dir"
        return Finding("output", "fail", f"{place} cannot be written: {error.strerror}", remedy)
    text = f"{memory_text(free)} free for {output_dir}"
    if free < LITTLE_DISK_BYTES:
        return Finding("output", "warn", text, "free some space, or choose another output_dir")
    return Finding("output", "ok", text)


def _extra(extra: str, purpose: str, requirements: Sequence[Requirement]) -> Finding:
    asked = [
        one
        for one in requirements
        if one.marker and one.marker.evaluate({"extra": extra}) and not one.marker.evaluate({"extra": ""})
    ]
    missing = [one.name for one in asked if _installed(one) is None]
    if missing:
        remedy = f'pip install "distkeras[{extra}]"'
        return Finding(f"extra {extra}", "warn", f"no {purpose}: {', '.join(missing)} missing", remedy)
    return Finding(f"extra {extra}", "ok", purpose)


def _tensorflow(gpus: Sequence[dict[str, str]]) -> Iterator[Finding]:
    """Imports TensorFlow in a process of its own: it prints, takes seconds, and may crash or hang."""
    command = [sys.executable, "-c", _IMPORT]
    try:
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=IMPORT_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        text = f"is not imported after {IMPORT_TIMEOUT_SECONDS:.0f} s"
        yield Finding("tensorflow", "fail", text, f'try it: {sys.executable} -c "import tensorflow"')
        return
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        yield Finding("tensorflow", "fail", f"cannot be imported: {lines[-1]}", "install it again")
        return
    seen: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    yield Finding("tensorflow", "ok", seen["version"])
    yield _gpus(seen["gpus"], gpus)


def _gpus(seen: Sequence[str], there: Sequence[dict[str, str]]) -> Finding:
    names = ", ".join(f"{gpu['name']} ({gpu['memory']})" for gpu in there)
    if len(seen) < len(there):
        text = f"TensorFlow sees {len(seen)} of {len(there)}: {names}"
        return Finding(
            "gpus", "warn", text, 'pip install "tensorflow[and-cuda]", and check CUDA_VISIBLE_DEVICES'
        )
    if seen:
        return Finding("gpus", "ok", f"{len(seen)}: {names}" if names else ", ".join(seen))
    return Finding("gpus", "ok", "none; training runs on the CPU")
