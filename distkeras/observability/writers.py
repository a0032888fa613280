"""Where metrics go: a file of JSON lines, TensorBoard, or both."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from distkeras.errors import MissingDependencyError
from distkeras.observability.atomic_files import explained
from distkeras.observability.metrics_file import Kind, append_row, metric_row, open_for_append


class MetricWriter(ABC):
    """A place that takes metrics. Rank zero writes; the values are already reduced over the workers."""

    @abstractmethod
    def write(
        self, step: int, epoch: int, kind: Kind, metrics: Mapping[str, float], **throughput: float
    ) -> None:
        """Writes the metrics of one logging point.

        Args:
            step: Steps completed.
            epoch: The epoch, counted from 0.
            kind: `train`, `epoch` or `evaluation`.
            metrics: Values by name; NaN and infinities are kept apart, never lost.
            **throughput: Numbers of the interval, see `IntervalSummary.throughput`.
        """

    @abstractmethod
    def close(self) -> None:
        """Writes what is pending and closes the place. Harmless when repeated."""


class JsonLinesWriter(MetricWriter):
    """Appends rows to metrics.jsonl.

    A last line torn by a crash is removed. Rows after the checkpoint that a run resumes from are removed by
    `RunDirectory.truncate_metrics`, before.

    Args:
        path: The file.
        clock: Gives the rows' time, in seconds since 1970.

    Raises:
        ResourceError: If the file cannot be written.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._descriptor = open_for_append(path)

    def write(
        self, step: int, epoch: int, kind: Kind, metrics: Mapping[str, float], **throughput: float
    ) -> None:
        """Appends one row; see `MetricWriter.write`."""
        row = metric_row(step, epoch, kind, metrics, time=self._clock(), throughput=throughput)
        with explained(f"append to {self._path.name}", self._path):
            append_row(self._descriptor, row)

    def close(self) -> None:
        """Closes the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class TensorBoardWriter(MetricWriter):
    """Writes TensorBoard event files without TensorFlow.

    tensorboard's own `EventFileWriter` imports TensorFlow for its file access and writes from a thread, so
    the records go to a plain file here. Tags are `<kind>/<metric>` and `throughput/<name>`.

    Args:
        directory: Where the event files lie.
        start_step: The step that the run starts or resumes at. TensorBoard hides older events from there on.

    Raises:
        MissingDependencyError: If `tensorboard` is not installed.
        ResourceError: If the file cannot be written.
    """

    def __init__(self, directory: Path, *, start_step: int = 0) -> None:
        if find_spec("tensorboard") is None:
            raise MissingDependencyError("tensorboard", "track")
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._events: Any = event_pb2
        self._summaries: Any = summary_pb2
        self._path = directory / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        with explained("open the TensorBoard event file", self._path):
            directory.mkdir(parents=True, exist_ok=True)
            # Unbuffered: each record is one write, so a killed run shows all of its points.
            self._records = RecordWriter(self._path.open("xb", buffering=0))
        start = self._events.SessionLog(status=self._events.SessionLog.START)
        self._add(file_version="brain.Event:2")
        self._add(step=start_step, session_log=start)

    def write(
        self, step: int, epoch: int, kind: Kind, metrics: Mapping[str, float], **throughput: float
    ) -> None:
        """Writes one event with a scalar for each number; see `MetricWriter.write`."""
        scalars = {f"{kind}/{name}": value for name, value in metrics.items()}
        scalars |= {f"throughput/{name}": value for name, value in throughput.items()}
        value = self._summaries.Summary.Value
        values = [value(tag=tag, simple_value=float(number)) for tag, number in scalars.items()]
        self._add(step=step, summary=self._summaries.Summary(value=values))

    def close(self) -> None:
        """Closes the event file."""
        self._records.close()

    def _add(self, **fields: Any) -> None:
        event = self._events.Event(wall_time=time.time(), **fields)
        with explained("append to the TensorBoard event file", self._path):
            self._records.write(event.SerializeToString())


class Writers(MetricWriter):
    """Passes everything to several writers; with none it drops it, as ranks above zero want.

    Args:
        writers: The places, in the order they are written.
    """

    def __init__(self, writers: Sequence[MetricWriter] = ()) -> None:
        self._writers = tuple(writers)

    def write(
        self, step: int, epoch: int, kind: Kind, metrics: Mapping[str, float], **throughput: float
    ) -> None:
        """Writes to each of the places; see `MetricWriter.write`."""
        for writer in self._writers:
            writer.write(step, epoch, kind, metrics, **throughput)

    def close(self) -> None:
        """Closes every place, also when closing one of them fails."""
        with ExitStack() as stack:
            for writer in self._writers:
                stack.callback(writer.close)
