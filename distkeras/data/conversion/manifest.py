"""What a conversion has finished: a JSON file beside the data, by which it goes on after it was killed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distkeras.errors import ConfigError
from distkeras.observability.atomic_files import read_json, write_json

FILE_NAME = "conversion.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Shard:
    """A finished piece of the result.

    Attributes:
        name: Its file; of arrays, the two arrays' names.
        first: Id of its first example.
        records: How many it has.
        bytes: Length of the file; of arrays, of these rows.
        sha256: Of its content, in hexadecimal.
    """

    name: str
    first: int
    records: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A conversion and how far it is.

    Attributes:
        identity: What is converted to what: two conversions with one identity write the same files.
        num_shards: Pieces that there will be.
        shards: Pieces that are finished, by their place.
        class_names: Names of the classes by index, for those who read the result.
    """

    identity: Mapping[str, Any]
    num_shards: int
    shards: Mapping[int, Shard]
    class_names: Sequence[str] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all pieces are finished."""
        return len(self.shards) == self.num_shards

    def write(self, folder: Path) -> None:
        """Writes it beside the data, whole or not at all."""
        value = {
            "format": FORMAT_VERSION,
            "identity": dict(self.identity),
            "num_shards": self.num_shards,
            "class_names": self.class_names and list(self.class_names),
            "shards": {str(place): vars(shard) for place, shard in sorted(self.shards.items())},
        }
        write_json(folder / FILE_NAME, value)


def open_manifest(
    folder: Path, identity: Mapping[str, Any], num_shards: int, class_names: Sequence[str] | None
) -> Manifest:
    """Returns the manifest of a folder, or a new one where the folder is empty or new.

    Raises:
        ConfigError: If something else is in the folder, or another conversion.
        DataError: If the manifest is damaged.
    """
    if not (folder / FILE_NAME).exists():
        if folder.is_dir() and any(folder.iterdir()):
            raise ConfigError(
                "There are files in the folder already, and they are not of a conversion.",
                place=str(folder),
                remedy="name a new folder as --out",
            )
        return Manifest(identity, num_shards, {}, class_names)
    found = read_json(folder / FILE_NAME)
    before = {**found.get("identity", {}), "num_shards": found.get("num_shards")}
    now = {**identity, "num_shards": num_shards}
    different = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if different or found.get("format") != FORMAT_VERSION:
        raise ConfigError(
            "In this folder is another conversion.",
            place=str(folder / FILE_NAME),
            received={key: before.get(key) for key in different},
            remedy=f"name a new folder as --out; other here: {', '.join(different) or 'the format'}",
        )
    shards = {int(place): Shard(**shard) for place, shard in found["shards"].items()}
    return Manifest(identity, num_shards, shards, class_names)
