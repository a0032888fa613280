"""Another method on one object, for as long as a block runs."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Generator[None]:
    """Gives an object an attribute of its own, past what its class says of setting attributes; blocks may nest."""
    own = vars(owner)
    had, before = name in own, own.get(name)
    object.__setattr__(owner, name, value)
    try:
        yield
    finally:
        if had:
            object.__setattr__(owner, name, before)
        else:
            object.__delattr__(owner, name)
