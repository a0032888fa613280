from __future__ import annotations

import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from distkeras.data.sources import tfrecord
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


@pytest.mark.parametrize("compression", ["GZIP", "ZLIB"])
def test_a_compressed_file(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "a.tfrecord"
    with tf.io.TFRecordWriter(str(path), options=compression) as writer:
        for record in RECORDS:
            writer.write(record)
    text = refusal(path)
    assert "A TFRecord file is compressed." in text
    assert f"where: {path}\n  received: '{compression}'" in text
    assert "Write it without compression" in text


def test_a_length_that_looks_like_a_mark_of_compression_is_none(tmp_path: Path) -> None:
    # 0x088b1f is the length of the record and, byte for byte, how a GZIP file begins.
    path = write(tmp_path / "a", [b"x" * 0x088B1F, b"y"])
    content = path.read_bytes()
    assert content[:3] == b"\x1f\x8b\x08"
    assert scan_frames(path).lengths.tolist() == [0x088B1F, 1]
    path.write_bytes(content[:-17] + b"\0" + content[-16:])
    assert "A TFRecord file is damaged" in refusal(path)


class TestScanning:
    @pytest.mark.parametrize("chunk_bytes", [12, 13, 27, 28, 29, 1000])
    @pytest.mark.parametrize("large_record_bytes", [0, 40, 10**6])
    def test_chunks_may_end_anywhere(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int, large_record_bytes: int
    ) -> None:
        monkeypatch.setattr(tfrecord, "CHUNK_BYTES", chunk_bytes)
        monkeypatch.setattr(tfrecord, "LARGE_RECORD_BYTES", large_record_bytes)
        records = [bytes(length) for length in [0, 1, 100, 3, 12, 0, 0, 55, 11, 13, 500, 2]]
        frames = scan_frames(write(tmp_path / "a", records))
        assert frames.lengths.tolist() == [len(record) for record in records]
        assert TFRecordFiles([tmp_path / "a"], [frames]).read_records(np.arange(12)) == records

    def test_large_records_are_leapt_over(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write(tmp_path / "a", [bytes(10**5)] * 50)
        num_bytes: list[int] = []

        def pread(descriptor: int, length: int, offset: int) -> bytes:
            content = real_pread(descriptor, length, offset)
            num_bytes.append(len(content))
            return content

        real_pread = os.pread
        monkeypatch.setattr(tfrecord, "CHUNK_BYTES", 10**4)
        monkeypatch.setattr(os, "pread", pread)
        assert len(scan_frames(path).lengths) == 50
        assert sum(num_bytes) == 10**4 + 49 * 12

    def test_an_empty_file_is_a_shard_without_records(self, tmp_path: Path) -> None:
        assert scan_frames(write(tmp_path / "a", [])).offsets.tolist() == []


class TestReading:
    @pytest.mark.parametrize(("gap", "chunk"), [(0, 2**22), (40, 64), (10**6, 100), (0, 12)])
    def test_neighbours_are_read_at_once_and_come_apart_right(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gap: int, chunk: int
    ) -> None:
        monkeypatch.setattr(tfrecord, "MAX_GAP_BYTES", gap)
        monkeypatch.setattr(tfrecord, "CHUNK_BYTES", chunk)
        records = [bytes([index]) * (index % 7) for index in range(200)]
        files = TFRecordFiles([write(tmp_path / "a", records[:120]), write(tmp_path / "b", records[120:])])
        ids = np.random.default_rng(0).integers(0, 200, 500)
        assert files.read_records(ids) == [records[index] for index in ids]

    def test_pieces_are_few_and_not_too_long(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = TFRecordFiles([write(tmp_path / "a", [bytes(100)] * 200)])
        lengths: list[int] = []

        def pread(descriptor: int, length: int, offset: int) -> bytes:
            lengths.append(length)
            return real_pread(descriptor, length, offset)

        real_pread = os.pread
        monkeypatch.setattr(os, "pread", pread)
        files.read_records(np.arange(200))
        assert lengths == [200 * 116 - 16]
        lengths.clear()
        monkeypatch.setattr(tfrecord, "CHUNK_BYTES", 5000)
        files.read_records(np.arange(200))
        assert len(lengths) == 5
        assert max(lengths) <= 5100

    def test_few_files_are_open_at_once(self, tmp_path: Path) -> None:
        paths = [write(tmp_path / f"{index:04}", [b"%d" % index]) for index in range(300)]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
        try:
            assert TFRecordFiles(paths).read_records(np.arange(300)) == [
                b"%d" % index for index in range(300)
            ]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_a_file_that_shrinks_after_it_was_opened(self, file: Path) -> None:
        files = TFRecordFiles([file])
        file.write_bytes(file.read_bytes()[:-10])
        with pytest.raises(DataError, match="A data file has changed since it was opened") as caught:
            files.read_records(np.array([0, 4]))
        assert caught.value.place == str(file)

    def test_a_file_written_again_with_the_same_length(self, file: Path) -> None:
        files = TFRecordFiles([file])
        os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))
        with pytest.raises(DataError, match="A data file has changed since it was opened"):
            files.read_records(np.array([0]))

    def test_a_file_that_goes_away(self, file: Path) -> None:
        files = TFRecordFiles([file])
        file.unlink()
        with pytest.raises(DataError, match="A data file or folder cannot be read") as caught:
            files.read_records(np.array([0]))
        assert "No such file or directory" in str(caught.value)


class TestCheckingPayloads:
    def test_whole_files(self, tmp_path: Path) -> None:
        paths = [write(tmp_path / "a", RECORDS), write(tmp_path / "empty", []), write(tmp_path / "b", [b"x"])]
        TFRecordFiles(paths).check_payloads()

    @pytest.mark.parametrize("batch", [1, 2, 3, 100])
    @pytest.mark.parametrize("record", [0, 2, 3, 4])
    def test_names_the_first_bad_record(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, record: int
    ) -> None:
        monkeypatch.setattr(tfrecord, "RECORDS_PER_CHECK", batch)
        good, bad = write(tmp_path / "a", RECORDS), write(tmp_path / "b", RECORDS)
        content = bytearray(bad.read_bytes())
        for place in {STARTS[record] + 12, STARTS[4] + 12}:
            content[place] ^= 1
        bad.write_bytes(content)
        files = TFRecordFiles([good, bad])
        assert len(files.read_records(np.arange(10))) == 10
        with pytest.raises(DataError, match="A record of a TFRecord file is damaged") as caught:
            files.check_payloads()
        assert caught.value.place == f"{bad} record {record + 1}, byte {STARTS[record] + 12}"

    def test_a_file_that_has_changed(self, file: Path) -> None:
        files = TFRecordFiles([file])
        write(file, RECORDS[:2])
        with pytest.raises(DataError, match="A data file has changed since it was opened"):
            files.check_payloads()
