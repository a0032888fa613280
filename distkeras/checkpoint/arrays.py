"""Named arrays in one file: exact bits, no pickle, and nothing in the file is believed before it is checked.

The file is an `.npz`, which `numpy.load` opens too: an uncompressed zip with an `.npy` for each array. Its
first member `arrays.json` gives type and shape of each one. What a reader takes from the file follows from
that list alone: a header of an `.npy` is compared with the one the list implies, and never parsed.
"""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np

from distkeras.checkpoint.streams import Writable
from distkeras.errors import CheckpointError

_LIST_MEMBER = "arrays.json"
_CHUNK_BYTES = 16 * 2**20
_MAX_NAME_CHARACTERS = 1000

# An `.npy` cannot name these: they are stored as unsigned integers of their width, bit for bit.
_STORED_AS_INTEGERS = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
_STORED_AS_THEMSELVES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
_DTYPES: dict[str, np.dtype[Any]] = {
    **{name: np.dtype(name) for name in _STORED_AS_THEMSELVES},
    **{name: np.dtype(getattr(ml_dtypes, name)) for name in _STORED_AS_INTEGERS},
}

# What the zip reader raises for a file that is torn, flipped or made up (found by the fuzz test).
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    OverflowError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True, slots=True)
class _Layout:
    """Type and shape of one array, and with them every byte of its member but the values."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        if self.dtype.name in _STORED_AS_INTEGERS:
            return np.dtype(f"<u{self.dtype.itemsize}")
        return self.dtype.newbyteorder("<")

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def header(self) -> bytes:
        stream = io.BytesIO()
        fields = {"descr": self.stored_dtype.str, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(stream, fields)
        return stream.getvalue()


def dump_arrays(arrays: Mapping[str, np.ndarray], stream: Writable) -> None:
    """Writes arrays into one file, so that `load_arrays` gives back the same names, types and bits.

    An array that is contiguous in memory is not copied, and none is held as a whole besides.

    Args:
        arrays: By name, such as `dense/kernel`. Booleans, numbers, bfloat16 and float8 of any shape; other
            byte orders become little-endian.
        stream: Where the file goes; it need not seek. To commit it: `partial(dump_arrays, arrays)`.

    Raises:
        CheckpointError: An array has a type that cannot be stored without pickle (objects, strings), or a
            name that is no path.
    """
    layouts = {name: _layout_of(name, array) for name, array in arrays.items()}
    listing = {
        name: {"dtype": layout.dtype.name, "shape": list(layout.shape)} for name, layout in layouts.items()
    }
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(_LIST_MEMBER), json.dumps(listing))
        for name, layout in layouts.items():
            with archive.open(zipfile.ZipInfo(_member(name)), "w", force_zip64=True) as member:
                member.write(layout.header())
                _write_values(np.asarray(arrays[name], order="C"), layout, member)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads a file of `dump_arrays`.

    Nothing is unpacked, and no more memory is taken than the file has bytes.

    Raises:
        CheckpointError: The file is missing, torn, or not what `dump_arrays` writes.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            layouts = _read_listing(archive, path.stat().st_size)
            return {name: _read_values(archive, name, layout) for name, layout in layouts.items()}
    except _UNREADABLE as error:
        raise CheckpointError(
            f"The file of arrays cannot be read: {error}.",
            place=str(path),
            remedy="Give a file that distkeras wrote, as it was written.",
        ) from error


def _member(name: str) -> str:
    return f"{name}.npy"


def _layout_of(name: str, array: np.ndarray) -> _Layout:
    if not _is_name(name):
        raise CheckpointError(
            "The name of an array must be a relative path such as dense/kernel.",
            received=name,
            remedy=f"Use printable characters, at most {_MAX_NAME_CHARACTERS:,}, and no `.` or `..` parts.",
        )
    if array.dtype.name not in _DTYPES:
        raise CheckpointError(
            f"The array {name!r} cannot be stored: its type is not a plain number.",
            received=array.dtype.name,
            remedy="Store booleans, integers, floats or complex numbers; put other values into the metadata.",
        )
    return _Layout(array.dtype, array.shape)


def _is_name(name: str) -> bool:
    # A tool that unpacks the file must not be led outside its folder.
    is_path = name.isprintable() and "\\" not in name and not {"", ".", ".."} & set(name.split("/"))
    return is_path and len(name) <= _MAX_NAME_CHARACTERS


def _bytes_of(array: np.ndarray) -> memoryview:
    """Returns the values of a contiguous array as bytes, without a copy."""
    return array.reshape(-1).view(np.uint8).data


def _write_values(array: np.ndarray, layout: _Layout, member: IO[bytes]) -> None:
    values = array.view(layout.stored_dtype) if layout.dtype.name in _STORED_AS_INTEGERS else array
    data = _bytes_of(values.astype(layout.stored_dtype, copy=False))
    for start in range(0, layout.num_bytes, _CHUNK_BYTES):
        member.write(data[start : start + _CHUNK_BYTES])


def _read_listing(archive: zipfile.ZipFile, file_bytes: int) -> dict[str, _Layout]:
    """Returns the layout of each array, after checking that the members are these arrays and nothing else."""
    members = archive.infolist()
    if any(one.compress_type != zipfile.ZIP_STORED or one.file_size != one.compress_size for one in members):
        raise ValueError("a member is compressed")
    # Members may not share bytes: together they would unpack to more than the file has.
    if sum(one.file_size for one in members) > file_bytes:
        raise ValueError("its members are larger than the file")
    layouts = _parse_listing(archive.read(_LIST_MEMBER))
    expected = {_member(name): len(one.header()) + one.num_bytes for name, one in layouts.items()}
    sizes = [(one.filename, one.file_size) for one in members if one.filename != _LIST_MEMBER]
    if sorted(sizes) != sorted(expected.items()):
        raise ValueError(f"its members are not the arrays that {_LIST_MEMBER} lists")
    return layouts


def _parse_listing(data: bytes) -> dict[str, _Layout]:
    listing = json.loads(data)
    if not isinstance(listing, dict):
        raise ValueError(f"{_LIST_MEMBER} is not a mapping")
    return {name: _parse_layout(name, entry) for name, entry in listing.items()}


def _parse_layout(name: str, entry: object) -> _Layout:
    if not _is_name(name):
        raise ValueError(f"{_LIST_MEMBER} has an array {name!r}")
    match entry:
        case {"dtype": str(dtype), "shape": list(shape)} if _is_shape(shape) and dtype in _DTYPES:
            return _Layout(_DTYPES[dtype], tuple(shape))
        case _:
            raise ValueError(f"{_LIST_MEMBER} gives no type and shape of {name!r}")


def _is_shape(values: list[Any]) -> bool:
    return all(type(one) is int and one >= 0 for one in values)


def _read_values(archive: zipfile.ZipFile, name: str, layout: _Layout) -> np.ndarray:
    array = np.empty(layout.shape, layout.stored_dtype)
    data = _bytes_of(array)
    with archive.open(_member(name)) as member:
        header = layout.header()
        if member.read(len(header)) != header:
            raise ValueError(f"the header of {name!r} does not fit its type and shape")
        for start in range(0, layout.num_bytes, _CHUNK_BYTES):
            chunk = member.read(_CHUNK_BYTES)
            data[start : start + len(chunk)] = chunk
    return array.view(layout.dtype)
