"""Random access to the records of TFRecord files, through an index of their offsets.

A record is framed by its length (8 bytes), the length's masked CRC (4), the payload, and the payload's
masked CRC (4), all little-endian: https://www.tensorflow.org/tutorials/load_data/tfrecord.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distkeras.data.sources.file_systems import local_file
from distkeras.errors import DataError

HEADER_BYTES = 12
FOOTER_BYTES = 4
# Headers of small records are found in chunks; behind each record above this size a new read is cheaper.
CHUNK_BYTES = 2**22
LARGE_RECORD_BYTES = 2**14
# Records so close together are read at once: a page more costs less than a call more.
MAX_GAP_BYTES = 2**12
CHECK_BYTES = 2**26
RECORDS_PER_CHECK = 4096
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

    @staticmethod
    def of_lengths(lengths: np.ndarray) -> Frames:
        """Returns where records of these lengths are: they follow one another without a gap."""
        ends = np.cumsum(lengths + HEADER_BYTES + FOOTER_BYTES)
        return Frames(ends - lengths - FOOTER_BYTES, lengths)


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


def _walk(descriptor: int, size: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Hops from header to header; returns headers, their positions, and where the hopping ended."""
    headers: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    position, num_bytes = 0, CHUNK_BYTES
    while position + HEADER_BYTES <= size:
        chunk = os.pread(descriptor, num_bytes, position)
        places, end = _hop(chunk)
        if not places.size:  # The file has become shorter.
            break
        headers.append(np.frombuffer(chunk, np.uint8)[places[:, np.newaxis] + np.arange(HEADER_BYTES)])
        positions.append(position + places)
        position += end
        # Small records are read with their headers, many at once; large ones are leapt over.
        num_bytes = CHUNK_BYTES if end < LARGE_RECORD_BYTES * len(places) else HEADER_BYTES
    if not headers:
        return np.empty((0, HEADER_BYTES), np.uint8), np.empty(0, np.int64), position
    return np.concatenate(headers), np.concatenate(positions), position


def _hop(chunk: bytes) -> tuple[np.ndarray, int]:
    """Returns where headers are in a chunk that begins with one, and where the next one is."""
    length_at = struct.Struct("<Q").unpack_from
    places: list[int] = []
    place, last = 0, len(chunk) - HEADER_BYTES
    while place <= last:
        places.append(place)
        place += length_at(chunk, place)[0] + HEADER_BYTES + FOOTER_BYTES
    return np.array(places, dtype=np.int64), place


def _compression_of(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(3)
    if start == b"\x1f\x8b\x08":
        return "GZIP"
    return "ZLIB" if start[:1] == b"\x78" and int.from_bytes(start[:2], "big") % 31 == 0 else None


def _check_frames(path: Path, headers: np.ndarray, positions: np.ndarray, end: int, size: int) -> None:
    # The lengths' checksums come first: a flipped bit in a length also looks like a file that ends too early.
    stored = np.ascontiguousarray(headers[:, 8:]).view("<u4")[:, 0]
    damaged = np.flatnonzero(masked_crc32c(headers[:, :8]) != stored)
    if damaged.size:
        compression = _compression_of(path) if damaged[0] == 0 else None
        if compression:
            raise DataError(
                "A TFRecord file is compressed.",
                place=str(path),
                received=compression,
                remedy="Write it without compression: records cannot be found in it without reading all before.",
            )
        raise DataError(
            "A TFRecord file is damaged: the checksum of a record's length does not match.",
            place=f"{path} record {damaged[0] + 1}, byte {positions[damaged[0]]}",
            remedy="Copy or write the file again.",
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
    """Finds the records of a TFRecord file by their headers; files of large records are not read whole.

    Raises:
        DataError: If the file cannot be read, is compressed or torn, or a length does not match its checksum.
            Checksums of payloads are not checked (see `TFRecordFiles.check_payloads`).
    """
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            headers, positions, end = _walk(file.fileno(), size)
    except OSError as error:
        raise DataError(
            "A TFRecord file cannot be read.",
            place=str(path),
            received=error.strerror,
            remedy="Check that the file exists and may be read.",
        ) from error
    _check_frames(path, headers, positions, end, size)
    return Frames.of_lengths(np.ascontiguousarray(headers[:, :8]).view("<i8")[:, 0])


class TFRecordFiles:
    """The records of TFRecord files, numbered through in the order of the files.

    Args:
        paths: The files.
        frames: Where their records are, where that is known already.

    Raises:
        DataError: As `scan_frames`.
    """

    def __init__(self, paths: Sequence[Path], frames: Sequence[Frames] | None = None) -> None:
        self._files = tuple(local_file(path) for path in paths)
        found = [scan_frames(path) for path in paths] if frames is None else frames
        self._offsets = np.concatenate([frame.offsets for frame in found])
        self._lengths = np.concatenate([frame.lengths for frame in found])
        self._first_ids = np.cumsum([0, *(len(frame.offsets) for frame in found)])

    @property
    def num_records(self) -> int:
        """Number of records in all files."""
        return len(self._offsets)

    def read_records(self, ids: np.ndarray) -> list[bytes]:
        """Reads payloads by record id, in the order of `ids`; may be called from several threads.

        Raises:
            DataError: If a file has changed since it was opened.
        """
        records: list[bytes] = [b""] * len(ids)
        by_id = np.argsort(ids, kind="stable")
        files = self._file_of(ids[by_id])
        for file in np.unique(files).tolist():
            self._read_file(file, ids, by_id[files == file], records)
        return records

    def check_payloads(self) -> None:
        """Reads all records and compares them with their checksums, which opening and reading do not.

        Raises:
            DataError: If a record does not match, or a file has changed; it names the first.
        """
        for number, file in enumerate(self._files):
            lengths = self._lengths[self._first_ids[number] : self._first_ids[number + 1]]
            batch_length = CHECK_BYTES // max(1, int(lengths.max(initial=0)))
            bad = _first_bad_payload(file.path, min(max(1, batch_length), RECORDS_PER_CHECK))
            file.check_unchanged()
            if bad is not None:
                record_id = int(self._first_ids[number]) + bad
                raise DataError(
                    "A record of a TFRecord file is damaged: its checksum does not match.",
                    place=f"{file.path} record {bad + 1}, byte {self._offsets[record_id]}",
                    remedy="Copy or write the file again.",
                )

    def locate(self, record_id: int) -> str:
        """Returns the file and the record's number in it, counted from 1."""
        file = int(self._file_of(np.array([record_id]))[0])
        return f"{self._files[file].name} record {record_id - self._first_ids[file] + 1}"

    def _file_of(self, ids: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._first_ids, ids, side="right") - 1

    def _read_file(self, file: int, ids: np.ndarray, places: np.ndarray, records: list[bytes]) -> None:
        """Fills in the records at some places, which are in the order of the file."""
        stored = self._files[file]
        starts = self._offsets[ids[places]]
        ends = starts + self._lengths[ids[places]]
        # Neighbours are read at once, in pieces of a size that many threads can hold.
        is_apart = (starts[1:] - ends[:-1] > MAX_GAP_BYTES) | (np.diff(starts // CHUNK_BYTES) > 0)
        firsts = np.append(0, np.flatnonzero(is_apart) + 1)
        begins, lasts = starts[firsts], np.append(firsts[1:], len(places))
        lengths = np.maximum.reduceat(ends, firsts) - begins
        lefts = starts - np.repeat(begins, lasts - firsts)
        # Lists, because what follows is a loop of Python over records.
        cuts = list(zip(places.tolist(), lefts.tolist(), (lefts + ends - starts).tolist(), strict=True))
        pieces = zip(begins.tolist(), lengths.tolist(), firsts.tolist(), lasts.tolist(), strict=True)
        try:
            # Opened for each call: data sets have more shards than a process may hold open files.
            with Path(stored.path).open("rb", buffering=0) as stream:
                for begin, length, first, last in pieces:
                    piece = os.pread(stream.fileno(), length, begin)
                    for place, left, right in cuts[first:last]:
                        records[place] = piece[left:right]
        finally:
            # Afterwards: what was read before a change is whole, what was read after it may be anything.
            stored.check_unchanged()


def _first_bad_payload(path: str, batch_length: int) -> int | None:
    """TensorFlow's own reader compares checksums as it reads; it does not say which record it stopped at."""
    import tensorflow as tf

    def count(dataset: tf.data.Dataset) -> tuple[int, bool]:
        num_read = 0
        try:
            for records in dataset:
                num_read += len(records)
        except tf.errors.DataLossError:
            return num_read, False
        return num_read, True

    with tf.device("CPU:0"):
        records = tf.data.TFRecordDataset(path)
        num_read, is_whole = count(records.batch(batch_length))
        return None if is_whole else num_read + count(records.skip(num_read).batch(1))[0]
