"""Proves that a run reads every example exactly once an epoch, and measures with nothing that it trains on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from distkeras.config.sections import Config, TopologySection
from distkeras.data.batches import BatchPlan
from distkeras.data.order import ById
from distkeras.data.overlaps import Overlap
from distkeras.data.permutation import Int64Array
from distkeras.data.preparation import prepare
from distkeras.data.reading_check import BadRecord
from distkeras.data.readings import Advance, Count, count_readings
from distkeras.data.sources.base import Source
from distkeras.data.splits import Splits, open_splits
from distkeras.data.training_order import training_order
from distkeras.errors import ConfigError, DataError
from distkeras.topology import Topology

_NO_LIMIT = 2**62


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        num_workers: Workers that share an epoch.
        num_epochs: Epochs that were counted.
        counts: How often examples are read, by part.
        shared: Examples that are in two parts.
        num_in_no_part: Examples that are left out of all parts: windows that would leak, or outliers.
        bad: Examples that cannot be read; None: nothing was read.
        max_bad_records: How many of them the config allows.
    """

    num_workers: int
    num_epochs: int
    counts: Mapping[str, Count]
    shared: tuple[Overlap, ...]
    num_in_no_part: int
    bad: tuple[BadRecord, ...] | None
    max_bad_records: int

    @property
    def passed(self) -> bool:
        """Whether nothing is off."""
        return (
            all(count.passed for count in self.counts.values())
            and not self.shared
            and not self._has_too_many_bad
        )

    def as_mapping(self) -> dict[str, Any]:
        """Returns what `distkeras data audit --json` prints: the training part's numbers first."""
        others = {name: _as_mapping(count) for name, count in self.counts.items() if name != "train"}
        found: dict[str, Any] = {
            "passed": self.passed,
            "workers": self.num_workers,
            "epochs": self.num_epochs,
        }
        found |= _as_mapping(self.counts["train"]) | {"parts": others}
        found["overlaps"] = [vars(overlap) for overlap in self.shared]
        found["in_no_part"] = self.num_in_no_part
        if self.bad is not None:
            found["num_bad_records"] = len(self.bad)
            found["bad_records"] = [vars(record) for record in self.bad]
        return found

    def require_passed(self) -> None:
        """Refuses data that would not be trained on and measured as it must be.

        Raises:
            DataError: If something is off; with the remedy.
        """
        for overlap in self.shared[:1]:
            raise DataError(
                f"{overlap.num_examples:,} examples of the {overlap.first} data are {overlap.second} data, too.",
                place=", ".join(overlap.places),
                remedy=f"give data.{overlap.second} other data, or leave it out: then data.split divides the source",
            )
        for name, count in self.counts.items():
            if not count.passed:
                raise _unproved(name, count)
        if self.bad and self._has_too_many_bad:
            raise DataError(
                f"Bad records: {len(self.bad):,}; data.max_bad_records allows {self.max_bad_records:,}.",
                place=self.bad[0].place,
                received=self.bad[0].reason,
                remedy="repair or remove these records, or raise data.max_bad_records",
            )

    @property
    def _has_too_many_bad(self) -> bool:
        return self.bad is not None and len(self.bad) > self.max_bad_records


def open_for_audit(config: Config, *, with_bad: bool = False) -> Splits:
    """Opens the parts of a run's data, the training part without the rows that it leaves out.

    Args:
        config: The run's config.
        with_bad: Whether records that opening finds to be unreadable are kept, however many, so that a reading of all
            examples lists them; else more than `data.max_bad_records` are an error.

    Raises:
        ConfigError: If the data is a stream.
        DataError: If the data is missing, unreadable or not what the config says.
    """
    if config.data.source.kind == "generator":
        raise ConfigError(
            "A stream has no numbered examples, so nobody can prove that each is read exactly once.",
            place="data.source.kind",
            received="generator",
            remedy="audit sources that are stored; a stream is read at least once",
        )
    budget = {"max_bad_records": _NO_LIMIT} if with_bad else {}
    splits = open_splits(config.data.model_copy(update=budget))
    tabular = config.data.tabular
    if tabular is None or tabular.outliers != "drop":
        return splits
    train = prepare(config.data, splits.train).apply_to_training(splits.train)
    return Splits(train, splits.validation, splits.test)


def topology_for(config: Config, num_workers: int | None) -> Topology:
    """Returns the workers whose reading is audited.

    Args:
        config: The run's config.
        num_workers: How many workers, of one replica each; None: as the config says. Of a range it is the most.
    """
    section = config.topology
    if num_workers is None and section.kind == "local":
        return Topology(num_local_replicas=1 if section.replicas == "auto" else section.replicas)
    num_workers = num_workers or _most_workers(section)
    # Workers that share one copy of the model read the same examples: to the order they are one.
    return Topology(world_size=max(1, num_workers // section.model_parallel))


def _most_workers(section: TopologySection) -> int:
    return section.workers if isinstance(section.workers, int) else section.workers[1]


def audit_training(
    config: Config, source: Source, topology: Topology, num_epochs: int, advance: Advance = lambda _: None
) -> Count:
    """Counts what all workers read of the training part in its first epochs.

    Args:
        config: The run's config.
        source: The training part.
        topology: How many workers there are, each with how many replicas; their ranks are gone through.
        num_epochs: Epochs to count.
        advance: Told after every chunk how many readings it counted.

    Raises:
        DataError: If there are fewer examples than one global batch, or than replicas.
    """
    order = training_order(source, config.data, config.seed)
    plan = BatchPlan(order.num_examples, config.training.global_batch_size, config.data.remainder)
    plan.check_replicas(topology.num_replicas)
    return count_readings(source, order, plan, topology, num_epochs, walked_groups(config, source), advance)


def audit_evaluation(
    config: Config, source: Source, topology: Topology, advance: Advance = lambda _: None
) -> Count:
    """Counts what all workers read of a part that is evaluated: by id, each example once."""
    plan = BatchPlan(source.num_examples, config.training.global_batch_size, "partial")
    return count_readings(source, ById(source.num_examples), plan, topology, 1, None, advance)


def walked_groups(config: Config, source: Source) -> Int64Array | None:
    """Returns the group of each example where groups are walked through at their own pace; None: all are one epoch's.

    They are the classes where `data.balance` asks for that, and the sources of a mixture.
    """
    if config.data.balance == "classes":
        return np.unique(source.labels(), return_inverse=True)[1]
    if source.parts is not None:
        return np.repeat(np.arange(len(source.parts)), [part.num_examples for part in source.parts])
    return None


def _as_mapping(count: Count) -> dict[str, Any]:
    return {
        "arithmetic": count.arithmetic,
        "examples": count.num_examples,
        "missing": count.num_missing,
        "duplicated": count.num_duplicated,
        "places": list(count.places),
        "steps_per_epoch": count.steps_per_epoch,
        "equal_steps": not count.uneven_steps,
        "dropped": count.num_dropped,
        "repeated": count.num_repeated,
        "unseen": count.num_unseen,
        "per_worker": [
            {
                "examples": worker.num_examples,
                "files": worker.num_files,
                "blocks": worker.num_blocks,
                "bytes": worker.num_bytes,
            }
            for worker in count.workers
        ],
        "imbalance": count.imbalance,
    }


def _unproved(name: str, count: Count) -> DataError:
    steps = "; workers differ in their number of steps" if count.uneven_steps else ""
    return DataError(
        f"The {name} data is not read exactly once: {count.num_missing:,} readings are missing and "
        f"{count.num_duplicated:,} are too many{steps}.",
        place=", ".join(count.places) or None,
        remedy="this is a fault of the order, not of the data: report it with the config",
    )
