"""Random access to the records of TFRecord files, through an index of their offsets.

A record is framed by its length (8 bytes), the length's masked CRC (4), the payload, and the payload's
masked CRC (4), all little-endian: https://www.tensorflow.org/tutorials/load_data/tfrecord.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distkeras.errors import DataError

HEADER_BYTES = 12
FOOTER_BYTES = 4
_CRC32C_POLYNOMIAL = 0x82F63B78
_CRC_MASK_DELTA = 0xA282EAD8


@dataclass(frozen=True)
class Frames:
    """Where the payloads of one file are.

    Attributes:
        offsets: Position of each payload in the file in bytes, int64, shape (num_records,).
        lengths: Length of each payload in bytes, int64, shape (num_records,).
    """

    offsets: np.ndarray
    lengths: np.ndarray


def _crc32c_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_CRC32C_POLYNOMIAL), table >> 1)
    return table.astype(np.uint32)


_CRC32C_TABLE = _crc32c_table()


def masked_crc32c(rows: np.ndarray) -> np.ndarray:
    """Returns the masked CRC-32C that TFRecord files carry, one for each row.

    Args:
        rows: uint8, shape (num_rows, num_bytes).

    Returns:
        uint32, shape (num_rows,).
    """
    crc = np.full(len(rows), 0xFFFFFFFF, dtype=np.uint32)
    for column in rows.T:
        crc = _CRC32C_TABLE[(crc ^ column) & 0xFF] ^ (crc >> 8)
    crc = ~crc
    return ((crc >> 15) | (crc << 17)) + np.uint32(_CRC_MASK_DELTA)


def _walk(content: mmap.mmap | bytes) -> tuple[np.ndarray, np.ndarray, int]:
    """Hops from header to header; returns headers, their positions, and where the hopping ended."""
    headers: list[bytes] = []
    positions: list[int] = []
    position = 0
    while position + HEADER_BYTES <= len(content):
        header = content[position : position + HEADER_BYTES]
        headers.append(header)
        positions.append(position)
        position += HEADER_BYTES + struct.unpack_from("<Q", header)[0] + FOOTER_BYTES
    table = np.frombuffer(b"".join(headers), dtype=np.uint8).reshape(-1, HEADER_BYTES)
    return table, np.array(positions, dtype=np.int64), position


def _check_frames(path: Path, headers: np.ndarray, positions: np.ndarray, end: int, size: int) -> None:
    # The lengths' checksums come first: a flipped bit in a length also looks like a file that ends too early.
    stored = np.ascontiguousarray(headers[:, 8:]).view("<u4")[:, 0]
    damaged = np.flatnonzero(masked_crc32c(headers[:, :8]) != stored)
    if damaged.size:
        raise DataError(
            "A TFRecord file is damaged: the checksum of a record's length does not match.",
            place=f"{path} record {damaged[0] + 1}, byte {positions[damaged[0]]}",
            remedy="Write the file again; if it is compressed, write it without compression.",
        )
    if end != size:
        # `end` is past the file when the last payload is cut, and before it when the last header is.
        torn, record = (positions[-1], len(positions)) if end > size else (end, len(positions) + 1)
        raise DataError(
            "A TFRecord file ends in the middle of a record.",
            place=f"{path} record {record}, byte {torn}",
            received=f"{size} bytes",
            remedy="Copy or write the file again; it was cut off.",
        )


def scan_frames(path: Path) -> Frames:
    """Finds the records of a TFRecord file, reading only their headers.

    Raises:
        DataError: If the file cannot be read, is torn, or a length does not match its checksum. Checksums
            of payloads are not checked: that would read the whole file.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # An empty file is a shard without records, and cannot be mapped.
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    except OSError as error:
        raise DataError(
            "A TFRecord file cannot be read.",
            place=str(path),
            received=error.strerror,
            remedy="Check that the file exists and may be read.",
        ) from error
    headers, positions, end = _walk(content)
    _check_frames(path, headers, positions, end, size)
    lengths = np.ascontiguousarray(headers[:, :8]).view("<i8")[:, 0]
    return Frames(positions + HEADER_BYTES, lengths)


class TFRecordFiles:
    """The records of TFRecord files, numbered through in the order of the files.

    Args:
        paths: The files.

    Raises:
        DataError: As `scan_frames`.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        frames = [scan_frames(path) for path in paths]
        self._paths = tuple(paths)
        self._offsets = np.concatenate([frame.offsets for frame in frames])
        self._lengths = np.concatenate([frame.lengths for frame in frames])
        self._first_ids = np.cumsum([0, *(len(frame.offsets) for frame in frames)])

    @property
    def num_records(self) -> int:
        """Number of records in all files."""
        return len(self._offsets)

    def read_records(self, ids: np.ndarray) -> list[bytes]:
        """Reads payloads by record id, in the order of `ids`; may be called from several threads.

        Raises:
            DataError: If a file no longer holds a record where the index says.
        """
        records: list[bytes] = [b""] * len(ids)
        files = self._file_of(ids)
        for file in np.unique(files):
            # Opened for each call: data sets have more shards than a process may hold open files.
            with self._paths[file].open("rb", buffering=0) as stream:
                for place in np.flatnonzero(files == file):
                    records[place] = self._read_one(stream.fileno(), int(ids[place]))
        return records

    def locate(self, record_id: int) -> str:
        """Returns the file and the record's number in it, counted from 1."""
        file = int(self._file_of(np.array([record_id]))[0])
        return f"{self._paths[file].name} record {record_id - self._first_ids[file] + 1}"

    def _file_of(self, ids: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._first_ids, ids, side="right") - 1

    def _read_one(self, descriptor: int, record_id: int) -> bytes:
        length = int(self._lengths[record_id])
        payload = os.pread(descriptor, length, int(self._offsets[record_id]))
        if len(payload) != length:
            raise DataError(
                "A TFRecord file has become shorter since it was opened.",
                place=self.locate(record_id),
                remedy="Do not change data files during a run; start again.",
            )
        return payload
