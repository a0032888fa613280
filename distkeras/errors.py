"""What a user is told when something is wrong, and the exit code that goes with it."""

from __future__ import annotations

import re
from typing import ClassVar

MAX_RECEIVED_CHARACTERS = 200
# Colours of Keras, and names of nodes and operations of TensorFlow.
_ORNAMENTS = re.compile(r"\x1b\[\d+m|\{\{.*?\}\}|\[Op:.*")
_HEADINGS = ("Graph execution error:", "Detected at node", "Exception encountered when")


class DistkerasError(Exception):
    """An error a user can act on: what is wrong, where, what was received and what to do.

    Args:
        problem: One sentence: what is wrong.
        place: Where: a dotted config key, a file and record, a rank and step.
        received: The offending value, shown through `repr` and shortened.
        remedy: What to do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        problem: str,
        *,
        place: str | None = None,
        received: object = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(problem)
        self.problem = problem
        self.place = place
        self.received = received
        self.remedy = remedy

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """Returns the message as the console prints it, one fact a line."""
        lines = [self.problem]
        if self.place is not None:
            lines.append(f"  where: {self.place}")
        if self.received is not None:
            text = repr(self.received)
            if len(text) > MAX_RECEIVED_CHARACTERS:
                text = text[: MAX_RECEIVED_CHARACTERS - 3] + "..."
            lines.append(f"  received: {text}")
        if self.remedy is not None:
            lines.append(f"  fix: {self.remedy}")
        return lines


class ConfigError(DistkerasError):
    """The command line or the config is wrong."""

    exit_code = 2


class MissingDependencyError(ConfigError):
    """An optional package that this call needs is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"Missing optional dependency {package!r}.",
            remedy=f'Install it with: pip install "distkeras[{extra}]"',
        )
        self._arguments = (package, extra)

    def __reduce__(self) -> tuple[type[MissingDependencyError], tuple[str, str]]:
        # Errors cross process boundaries; the default would call __init__ with the sentence alone.
        return type(self), self._arguments


class DataError(DistkerasError):
    """The data is missing, unreadable, or not what the config says."""

    exit_code = 3


class ResourceError(DistkerasError):
    """The machine or cluster lacks what the run needs: devices, memory, disk, permission."""

    exit_code = 4


class TrainingError(DistkerasError):
    """Training failed or diverged."""

    exit_code = 5


class CheckpointError(TrainingError):
    """No committed checkpoint can be trusted, or one could not be committed."""


class CheckError(DistkerasError):
    """A check that was asked for did not pass: parity, a gate, drift, an export."""

    exit_code = 6


class PreemptedError(DistkerasError):
    """The run was told to go; it committed and resumes with the same command."""

    exit_code = 75


class InterruptedRunError(DistkerasError):
    """The user pressed Ctrl-C; the run committed and resumes with the same command."""

    exit_code = 130


def error_text(error: BaseException) -> str:
    """Returns any library's error as one line: its type, and what it says of itself.

    TensorFlow puts the call stack before the message, indented or introduced by lines of its own; Keras puts a heading
    above it.
    """
    lines = [line for line in _ORNAMENTS.sub("", str(error)).splitlines() if line.strip()]
    if lines and lines[0].startswith("in user code:"):
        return lines[-1].strip()
    said = [line for line in lines if not line.startswith((" ", "\t", *_HEADINGS))]
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__
