"""How many steps run inside one call into TensorFlow: arithmetic on integers, no TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

# Long enough that the call itself costs nothing, short enough that Ctrl-C and progress feel immediate.
CHUNK_SECONDS = 0.1
MOST_STEPS_BETWEEN_LOGS = 100


def logging_interval(steps_per_epoch: int, every_steps: int | Literal["auto"]) -> int:
    """Returns the steps between two logging points: never more than an epoch."""
    if every_steps == "auto":
        every_steps = (
            min(MOST_STEPS_BETWEEN_LOGS, -(-steps_per_epoch // 10))
            if steps_per_epoch > 200
            else steps_per_epoch
        )
    return min(every_steps, steps_per_epoch)


@dataclass
class ChunkSize:
    """Steps of the next chunk: doubled until a chunk is long enough, so that no step time must be known before.

    All workers run chunks of one size. What a worker learned from one chunk is its wish during the next, and counts
    for the one after that.

    Attributes:
        fixed: The user's own choice, or None for the automatic one.
        steps: The size that all workers agreed on.
        wish: The size that this worker would choose.
    """

    fixed: int | None = None
    steps: int = 1
    wish: int = field(init=False)

    def __post_init__(self) -> None:
        # Also with a size that was chosen: the first chunks, which trace and show the pace, have one step.
        self.wish = self.steps

    def observe(self, num_steps: int, seconds: float) -> None:
        """Learns from a chunk of `num_steps` that took `seconds`."""
        if self.fixed is not None:
            self.wish = self.fixed
        elif num_steps >= self.wish and seconds < CHUNK_SECONDS:
            self.wish *= 2
        elif seconds > 4 * CHUNK_SECONDS:
            self.wish = max(1, self.wish // 2)


@dataclass
class Cursor:
    """Where training stands, against the intervals that Keras asks for.

    Keras asks for one logging interval a call and counts from the start of an epoch. A run that resumes in the
    middle of an epoch answers the intervals that were trained before its commit without doing anything.

    Attributes:
        steps_per_epoch: Steps of an epoch.
        interval: Steps of one logging interval.
        commit_every: Steps between two commits inside an epoch, or None.
        meet_every: Steps between two meetings of workers that train apart, or None where every step is one.
        step: Complete optimizer steps of the run.
        asked: The step at the end of the interval that Keras asked for last.
        ran: Whether that interval had steps to run.
    """

    steps_per_epoch: int
    interval: int
    commit_every: int | None = None
    meet_every: int | None = None
    step: int = 0
    asked: int = field(init=False)
    ran: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.asked = self.step - self.step % self.steps_per_epoch

    @property
    def epoch(self) -> int:
        """The epoch that the next step belongs to, counted from 0."""
        return self.step // self.steps_per_epoch

    @property
    def has_steps_to_run(self) -> bool:
        """Whether the interval that Keras asks for next was not trained before."""
        return self._next_end() > self.step

    @property
    def at_epoch_end(self) -> bool:
        """Whether the last step of an epoch is the one just completed."""
        return self.step % self.steps_per_epoch == 0

    def next_interval(self) -> int:
        """Moves to the next interval and returns the step at its end."""
        self.ran = self.has_steps_to_run
        self.asked = self._next_end()
        return self.asked

    def _next_end(self) -> int:
        epoch_end = self.asked - self.asked % self.steps_per_epoch + self.steps_per_epoch
        return min(self.asked + self.interval, epoch_end)

    def chunk(self, end: int, size: int) -> int:
        """Returns the steps to run now: towards `end`, at most `size`, and never past a commit or a meeting."""
        in_epoch = self.step % self.steps_per_epoch
        stops = [
            every - in_epoch % every for every in (self.commit_every, self.meet_every) if every is not None
        ]
        return min(size, end - self.step, *stops)

    @property
    def workers_met(self) -> bool:
        """Whether all workers have the same weights after the step just completed."""
        return self.meet_every is None or self.step % self.steps_per_epoch % self.meet_every == 0

    @property
    def commit_due(self) -> bool:
        """Whether the step just completed is one that is committed inside its epoch (its end is committed apart)."""
        in_epoch = self.step % self.steps_per_epoch
        return self.commit_every is not None and in_epoch != 0 and in_epoch % self.commit_every == 0
