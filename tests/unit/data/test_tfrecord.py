from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from distkeras.data.sources.tfrecord import TFRecordFiles, masked_crc32c, scan_frames
from distkeras.errors import DataError

RECORDS = [b"first", b"", b"x" * 70_000, bytes(range(256)), b"last"]
# Where the records of RECORDS start: 16 bytes of frame around each payload.
STARTS = np.cumsum([0, *(len(record) + 16 for record in RECORDS)]).tolist()


def write(path: Path, records: list[bytes]) -> Path:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "a.tfrecord", RECORDS)


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        scan_frames(path)
    return str(caught.value)


def test_index_finds_every_record(file: Path) -> None:
    frames = scan_frames(file)
    assert frames.lengths.tolist() == [len(record) for record in RECORDS]
    assert frames.offsets.tolist() == [start + 12 for start in STARTS[:-1]]


def test_crc_is_the_one_in_the_check_value_of_crc32c() -> None:
    # CRC-32C of "123456789" is 0xE3069283; the mask is rotation by 15 and an addition (TFRecord's format).
    crc = 0xE3069283
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    rows = np.frombuffer(b"123456789", np.uint8).reshape(1, -1)
    assert masked_crc32c(rows).tolist() == [masked]


def test_reads_over_files_in_any_order_and_repeatedly(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a", [b"0", b"1"]),
        write(tmp_path / "empty", []),
        write(tmp_path / "b", [b"2", b"3", b"4"]),
    ]
    files = TFRecordFiles(paths)
    assert files.num_records == 5
    assert files.read_records(np.array([4, 0, 2, 2, 1])) == [b"4", b"0", b"2", b"2", b"1"]
    assert files.read_records(np.array([], np.int64)) == []
    assert [files.locate(i) for i in (0, 1, 2, 4)] == [
        "a record 1",
        "a record 2",
        "b record 1",
        "b record 3",
    ]


def test_threads_read_at_once(file: Path) -> None:
    files = TFRecordFiles([file])
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, len(RECORDS), 20) for _ in range(50)]
    with ThreadPoolExecutor(8) as pool:
        for ids, records in zip(batches, pool.map(files.read_records, batches), strict=True):
            assert records == [RECORDS[i] for i in ids]


@given(st.lists(st.binary(max_size=40), max_size=30))
def test_returns_what_tensorflow_wrote(
    tmp_path_factory: pytest.TempPathFactory, records: list[bytes]
) -> None:
    path = write(tmp_path_factory.mktemp("records") / "a", records)
    assert TFRecordFiles([path]).read_records(np.arange(len(records))) == records


def test_missing_file(tmp_path: Path) -> None:
    text = refusal(tmp_path / "none")
    assert "A TFRecord file cannot be read." in text
    assert "No such file or directory" in text


@pytest.mark.parametrize("cut", range(1, 22))
def test_a_file_cut_anywhere_in_its_last_record(file: Path, cut: int) -> None:
    # The last record is 16 + 4 bytes: cutting 20 leaves four whole records, cutting 21 tears the fourth.
    file.write_bytes(file.read_bytes()[:-cut])
    if cut == 20:
        assert len(scan_frames(file).offsets) == 4
        return
    record, start = (5, STARTS[4]) if cut < 20 else (4, STARTS[3])
    text = refusal(file)
    assert "A TFRecord file ends in the middle of a record." in text
    assert f"where: {file} record {record}, byte {start}" in text


@pytest.mark.parametrize("position", range(12))
def test_a_flipped_bit_in_a_header(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[STARTS[3] + position] ^= 0x10
    file.write_bytes(content)
    text = refusal(file)
    assert "the checksum of a record's length does not match." in text
    assert f"where: {file} record 4, byte {STARTS[3]}" in text


def test_a_compressed_file(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    with tf.io.TFRecordWriter(str(path), options="GZIP") as writer:
        writer.write(b"x" * 100)
    text = refusal(path)
    assert "A TFRecord file is damaged" in text
    assert "if it is compressed, write it without compression" in text


def test_a_file_that_shrinks_after_it_was_opened(file: Path) -> None:
    files = TFRecordFiles([file])
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(DataError, match="has become shorter since it was opened") as caught:
        files.read_records(np.array([0, 4]))
    assert caught.value.place == "a.tfrecord record 5"
