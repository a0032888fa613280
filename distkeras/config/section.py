"""What every section of a config file is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


def whole_number(value: object) -> object:
    """Refuses what is equal to a whole number and is none; a validator in front of `Literal`."""
    # Strict mode does not reach into Literal: true and 1.0 pass for 1 (pydantic 2.14).
    if isinstance(value, bool | float):
        raise ValueError("not a whole number")
    return value


Scalar = bool | int | float | str | None
Argument = Scalar | list[Scalar]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]


class Section(BaseModel):
    """A part of the config: strict types, frozen, no unknown keys."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=()
    )
