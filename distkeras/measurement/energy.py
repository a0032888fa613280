"""Energy, as processors and GPUs count it themselves: of the whole machine, whoever uses it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Counts what the machine's processors and NVIDIA GPUs take from now on.

    Processors: the packages of Linux's powercap (https://docs.kernel.org/power/powercap/powercap.html), which may be
    root's to read. GPUs: NVML, where the package nvidia-ml-py is installed.

    Args:
        powercap: Where Linux shows the processors' counters.
    """

    def __init__(self, powercap: Path = POWERCAP) -> None:
        self._powercap = powercap
        self._first = {**_packages(powercap), **_gpus()}

    def read(self) -> float | None:
        """Returns the joules since the beginning; None where nothing counts them."""
        now = {**_packages(self._powercap), **_gpus()}
        taken = [_difference(before, now[name]) for name, before in self._first.items() if name in now]
        return sum(taken) if taken else None


# Joules, and where the counter begins again.
Counter = tuple[float, float]


def _difference(before: Counter, now: Counter) -> float:
    joules = now[0] - before[0]
    return joules if joules >= 0 else joules + now[1]


def _packages(powercap: Path) -> dict[str, Counter]:
    counters: dict[str, Counter] = {}
    # Domains inside a package, such as `intel-rapl:0:1`, are parts of it.
    for folder in sorted(powercap.glob("*-rapl:[0-9]")) + sorted(powercap.glob("*-rapl:[0-9][0-9]")):
        try:
            if (folder / "name").read_text().startswith("package"):
                joules, most = (
                    int((folder / name).read_text()) / 1e6 for name in ("energy_uj", "max_energy_range_uj")
                )
                counters[folder.name] = (joules, most)
        except (OSError, ValueError):
            continue
    return counters


def _gpus() -> dict[str, Counter]:
    if find_spec("pynvml") is None:
        return {}
    import pynvml  # pyright: ignore[reportMissingImports]

    nvml: Any = pynvml
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        # Millijoules since the driver was loaded, in 64 bits.
        joules = [nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000 for handle in handles]
        return {f"gpu-{index}": (value, 0.0) for index, value in enumerate(joules)}
    except nvml.NVMLError:  # no driver, or a GPU before Volta
        return {}
