"""Parquet files behind URIs: fsspec's own file systems stand in for S3 and its like."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from distkeras.config.source_sections import ParquetSource
from distkeras.data.sources import open_source
from distkeras.data.sources.base import Source
from distkeras.data.sources.file_systems import find_files
from distkeras.data.sources.row_groups import RowGroupSource
from distkeras.errors import ConfigError, DataError


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    file_system = fsspec.filesystem("memory")
    file_system.mkdir("/bucket/plants")
    yield file_system
    file_system.store.clear()
    file_system.pseudo_dirs[:] = [""]


def write(file_system: Any, path: str, **columns: object) -> None:
    with file_system.open(path, "wb") as stream:
        pq.write_table(pa.table(columns), stream, row_group_size=2)


def opened(location: str, *, in_memory: bool = False) -> Source:
    return open_source(
        ParquetSource(kind="parquet", path=location, label="kind", in_memory=in_memory), labelled=True
    )


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("scheme", ["memory", "file", "local"])
def test_a_folder_is_read_in_the_order_of_names(
    memory: MemoryFileSystem, tmp_path: Path, scheme: str, in_memory: bool
) -> None:
    file_system, root = (
        (memory, "/bucket/plants") if scheme == "memory" else (fsspec.filesystem("file"), tmp_path)
    )
    # Written in this order, and listed in this order by fsspec's memory.
    write(file_system, f"{root}/2.parquet", x=[3.0, 4.0, 5.0], kind=["c", "a", "c"])
    write(file_system, f"{root}/1.parquet", x=[1.0, 2.0], kind=["b", "a"])
    file_system.touch(f"{root}/_SUCCESS")
    file_system.touch(f"{root}/._1.parquet")
    file_system.mkdir(f"{root}/deeper.parquet")
    write(file_system, f"{root}/deeper.parquet/3.parquet", x=[9.0], kind=["z"])
    source = opened(f"{scheme}://{root}", in_memory=in_memory)
    features, labels = source.read_arrays(np.array([4, 0, 1, 2, 3]))
    assert features.tolist() == [[5], [1], [2], [3], [4]]
    assert labels.tolist() == [2, 1, 0, 2, 0]
    assert source.class_names == ("a", "b", "c")
    assert source.locate(4) == "2.parquet row 3"
    assert source.name == f"{scheme}://{root}"


def test_one_file(memory: MemoryFileSystem) -> None:
    write(memory, "/bucket/p.parquet", x=[1.0, 2.0, 3.0], kind=[0, 1, 0])
    assert opened("memory://bucket/p.parquet").read_arrays(np.array([2]))[0].tolist() == [[3]]


def test_the_fingerprint_does_not_depend_on_the_place(memory: MemoryFileSystem, tmp_path: Path) -> None:
    write(memory, "/bucket/p.parquet", x=[1.0, 2.0, 3.0], kind=[0, 1, 0])
    (tmp_path / "p.parquet").write_bytes(memory.cat("/bucket/p.parquet"))
    places = ["memory://bucket/p.parquet", f"file://{tmp_path}/p.parquet", str(tmp_path / "p.parquet")]
    assert len({opened(place).fingerprint for place in places}) == 1


def test_a_local_uri_is_a_local_file(tmp_path: Path) -> None:
    (tmp_path / "p.parquet").touch()
    (file,) = find_files(f"file://{tmp_path}", ".parquet", "Parquet")
    assert (file.path, file.name, file.file_system) == (str(tmp_path / "p.parquet"), "p.parquet", None)


def test_only_wanted_ranges_are_read(memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content of a column and of a row group that are not wanted can be damaged."""
    rng = np.random.default_rng(0)
    write(memory, "/p.parquet", x=rng.random(4), note=["long", "text"] * 2, kind=[0, 1, 0, 1])
    content = bytearray(memory.cat("/p.parquet"))
    metadata = pq.read_metadata(pa.BufferReader(bytes(content)))
    for group, column in ((0, 1), (1, 1), (1, 0)):
        chunk = metadata.row_group(group).column(column)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        content[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    memory.pipe("/p.parquet", bytes(content))
    section = ParquetSource(
        kind="parquet", path="memory://p.parquet", label="kind", features=["x"], in_memory=False
    )
    source = RowGroupSource(section)
    assert source.read_arrays(np.array([0, 1]))[0].shape == (2, 1)
    with pytest.raises(DataError, match="A Parquet file cannot be read"):
        source.read_arrays(np.array([2]))


def test_a_file_that_changes_after_it_was_opened(memory: MemoryFileSystem) -> None:
    write(memory, "/bucket/p.parquet", x=[1.0, 2.0], kind=[0, 1])
    source = opened("memory://bucket/p.parquet")
    write(memory, "/bucket/p.parquet", x=[1.0, 3.0], kind=[0, 1])
    with pytest.raises(DataError, match=r"A data file has changed since it was opened\.") as caught:
        source.read_arrays(np.array([0]))
    assert caught.value.place == "/bucket/p.parquet"


def test_a_file_that_goes_away(memory: MemoryFileSystem) -> None:
    write(memory, "/bucket/p.parquet", x=[1.0, 2.0], kind=[0, 1])
    source = opened("memory://bucket/p.parquet")
    memory.rm("/bucket/p.parquet")
    with pytest.raises(DataError, match="A data file or folder cannot be read") as caught:
        source.read_arrays(np.array([0]))
    assert "FileNotFoundError" in str(caught.value)


@pytest.mark.parametrize("location", ["memory://bucket/none", "memory://none"])
def test_nothing_there(memory: MemoryFileSystem, location: str) -> None:
    with pytest.raises(DataError, match="There is no such Parquet file or folder") as caught:
        opened(location)
    assert caught.value.place == location


def test_a_folder_without_parquet_files(memory: MemoryFileSystem) -> None:
    memory.touch("/bucket/plants/a.csv")
    with pytest.raises(DataError, match=r"A folder has no \.parquet files"):
        opened("memory://bucket/plants")


def test_a_torn_file(memory: MemoryFileSystem) -> None:
    write(memory, "/bucket/p.parquet", x=[1.0, 2.0], kind=[0, 1])
    memory.pipe("/bucket/p.parquet", memory.cat("/bucket/p.parquet")[:-5])
    with pytest.raises(DataError, match="A Parquet file cannot be read"):
        opened("memory://bucket/p.parquet")


def test_a_file_system_whose_package_is_not_installed() -> None:
    # Nobody has Dropbox's: fsspec knows of it, and names it.
    with pytest.raises(ConfigError, match="What opens dropbox:// locations is not installed") as caught:
        opened("dropbox://folder/p.parquet")
    assert caught.value.remedy == "pip install dropboxdrivefs"
    assert caught.value.place == "dropbox://folder/p.parquet"


def test_a_scheme_that_nobody_knows() -> None:
    with pytest.raises(ConfigError, match="No file system is known for s4:// locations") as caught:
        opened("s4://bucket/p.parquet")
    assert "as in s3://bucket/folder" in str(caught.value)


def test_a_file_system_that_refuses(tmp_path: Path) -> None:
    """An archive that is none: what its file system raises is told in a sentence."""
    (tmp_path / "a.zip").write_bytes(b"no archive")
    with pytest.raises(DataError, match="A data file or folder cannot be read") as caught:
        opened(f"zip://p.parquet::file://{tmp_path}/a.zip")
    assert "BadZipFile: File is not a zip file" in str(caught.value)
