"""Whether a Ray cluster has room for a group of workers, and for how many: decided from what its nodes have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distkeras.config.sections import TopologySection
from distkeras.errors import ResourceError

Resources = Mapping[str, float]


@dataclass(frozen=True)
class Group:
    """How many workers are started, and what each holds of the cluster.

    Attributes:
        num_workers: Number of workers.
        resources: What each holds, by Ray's names: CPUs and GPUs in pieces, memory in bytes.
    """

    num_workers: int
    resources: Resources


def resources_of(section: TopologySection, nodes: Sequence[Resources]) -> Resources:
    """Returns what each worker holds: one CPU, and one GPU where devices are GPUs, unless the section names them.

    Args:
        section: The run's topology; its devices `auto` are GPUs where the least number of workers finds one each.
        nodes: What each machine has.
    """
    on_gpu = section.devices == "gpu"
    if section.devices == "auto":
        least, _ = limits(section)
        on_gpu = sum(node.get("GPU", 0) for node in nodes) >= least
    return {"CPU": 1.0, **({"GPU": 1.0} if on_gpu else {}), **section.resources_per_worker}


def limits(section: TopologySection) -> tuple[int, int]:
    """Returns the least and the largest number of workers."""
    if isinstance(section.workers, int):
        return section.workers, section.workers
    return section.workers


def capacity(nodes: Sequence[Resources], resources: Resources, placement: str) -> int:
    """Returns how many workers with these resources the nodes can hold, as the placement allows."""
    counts = [int(min(node.get(name, 0) // amount for name, amount in resources.items())) for node in nodes]
    if placement == "STRICT_PACK":
        return max(counts, default=0)
    if placement == "STRICT_SPREAD":
        return sum(count > 0 for count in counts)
    return sum(counts)


def choose_group(
    section: TopologySection, nodes: Sequence[Resources], global_batch_size: int | None
) -> Group | None:
    """Returns the largest group within the section's limits that the nodes can hold; None where they cannot.

    Among several sizes only those count that divide the global batch, so that it stays the same on any of them.

    Raises:
        ResourceError: If no size within the limits divides the global batch.
    """
    resources = resources_of(section, nodes)
    least, most = limits(section)
    sizes = range(least, most + 1)
    if least < most and global_batch_size is not None:
        sizes = [size for size in sizes if global_batch_size % size == 0]
    if not sizes:
        raise ResourceError(
            f"No number of workers from {least} to {most} divides the global batch.",
            place="topology.workers",
            received=global_batch_size,
            remedy="use another training.global_batch_size, or a wider range of workers",
        )
    room = capacity(nodes, resources, section.placement)
    fitting = [size for size in sizes if size <= room]
    return Group(max(fitting), resources) if fitting else None


def no_room(section: TopologySection, nodes: Sequence[Resources]) -> ResourceError:
    """Returns the error of a request that the cluster can never meet."""
    resources = resources_of(section, nodes)
    least, _ = limits(section)
    room = capacity(nodes, resources, section.placement)
    each = ", ".join(f"{_amount(amount)} {name}" for name, amount in resources.items())
    there = "; ".join(
        ", ".join(f"{_amount(node.get(name, 0))} {name}" for name in resources) for node in nodes
    )
    return ResourceError(
        f"The Ray cluster has room for {room} of {least} workers with {each} each.",
        place="topology.workers",
        received=f"nodes with {there}" if nodes else "no nodes",
        remedy=f"use topology.workers: {room}" if room else _remedy(resources, nodes),
    )


def _remedy(resources: Resources, nodes: Sequence[Resources]) -> str:
    missing = [
        name for name, amount in resources.items() if all(node.get(name, 0) < amount for node in nodes)
    ]
    if missing == ["GPU"]:
        return "use topology.devices: cpu"
    return f"ask for less {' and '.join(missing or resources)} in topology.resources_per_worker"


def _amount(value: float) -> str:
    return f"{value:g}" if value < 1e6 else f"{value / 1e9:.1f}e9"
