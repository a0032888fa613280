"""What an audit found, as lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distkeras.cli.tables import aligned

if TYPE_CHECKING:
    from distkeras.data.audit import Audit
    from distkeras.data.reading_check import BadRecord
    from distkeras.data.readings import Count

MAX_LISTED = 20


def audit_lines(result: Audit) -> list[str]:
    """Returns what `distkeras data audit` prints."""
    lines = [f"train: {result.counts['train'].arithmetic}"]
    for name, count in result.counts.items():
        if name != "train":
            lines.append(f"{name}: {count.arithmetic}")
    lines += aligned(_worker_rows(result.counts["train"]), indent=2)
    return [*lines, *_findings(result)]


def _worker_rows(count: Count) -> list[tuple[str, ...]]:
    """What each worker reads in an epoch; columns that are not known are left out."""
    from distkeras.data.sizes import size_text
    from distkeras.observability.formats import count_text

    first = count.workers[0]
    titles = ["worker", "examples"]
    titles += ["files"] * (first.num_files is not None) + ["row groups"] * (first.num_blocks is not None)
    titles += ["size"] * (first.num_bytes is not None)
    rows: list[tuple[str, ...]] = [tuple(titles)]
    for rank, worker in enumerate(count.workers[:MAX_LISTED]):
        cells = [str(rank), count_text(worker.num_examples)]
        cells += [
            count_text(number) for number in (worker.num_files, worker.num_blocks) if number is not None
        ]
        cells += [size_text(worker.num_bytes)] if worker.num_bytes is not None else []
        rows.append(tuple(cells))
    hidden = len(count.workers) - MAX_LISTED
    return [*rows, (f"and {hidden} more",)] if hidden > 0 else rows


def _findings(result: Audit) -> list[str]:
    from distkeras.observability.formats import count_text

    epochs = "1 epoch" if result.num_epochs == 1 else f"{result.num_epochs} epochs"
    lines: list[str] = []
    for name, count in result.counts.items():
        policy = [
            f"{count_text(number)} {what}"
            for number, what in (
                (count.num_dropped, "dropped"),
                (count.num_repeated, "repeated"),
                (count.num_unseen, "left for later epochs"),
            )
            if number
        ]
        but = f", but for {' and '.join(policy)} by the config" if policy else ""
        missed = f"{count_text(count.num_missing)} missing, {count_text(count.num_duplicated)} too many"
        once = f"each example exactly once{but}" if count.passed else f"NOT each example once: {missed}"
        lines.append(f"{name}, {epochs if name == 'train' else 'every pass'}: {once}")
    shared = [f"{count_text(one.num_examples)} in {one.first} and {one.second}" for one in result.shared]
    lines.append(
        f"parts: examples shared: {', '.join(shared)}" if shared else "parts: no example is in two of them"
    )
    if result.num_in_no_part:
        lines.append(
            f"parts: {count_text(result.num_in_no_part)} examples are in none of them, as the config asks"
        )
    if len(result.counts["train"].workers) > 1:
        more = 100 * result.counts["train"].imbalance
        lines.append(f"imbalance: the busiest worker reads {more:.1f}% more than the mean")
    return lines + _bad_lines(result.bad)


def _bad_lines(bad: Sequence[BadRecord] | None) -> list[str]:
    if bad is None:
        return []
    if not bad:
        return ["read: every example can be read and decoded"]
    rows = [(record.place, record.stage, record.reason) for record in bad[:MAX_LISTED]]
    hidden = len(bad) - MAX_LISTED
    more = [f"  and {hidden} more"] if hidden > 0 else []
    noun = "record" if len(bad) == 1 else "records"
    return [f"read: {len(bad)} bad {noun}", *aligned(rows, indent=2), *more]
