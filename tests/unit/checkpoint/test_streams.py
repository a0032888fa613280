from __future__ import annotations

import hashlib

import pytest

from distkeras.checkpoint.streams import ByteCounter, send, write_file


def test_a_file_is_recorded_as_it_was_written(tmp_path):
    record = write_file(tmp_path / "a", lambda stream: [stream.write(bytes([i]) * 1000) for i in range(9)])
    data = (tmp_path / "a").read_bytes()
    assert data == b"".join(bytes([i]) * 1000 for i in range(9))
    assert (record.num_bytes, record.sha256) == (9000, hashlib.sha256(data).hexdigest())


def test_a_file_is_never_overwritten(tmp_path):
    write_file(tmp_path / "a", b"first")
    with pytest.raises(FileExistsError):
        write_file(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"


def test_bytes_are_counted_whatever_their_type():
    counter = ByteCounter()
    assert counter.write(memoryview(bytes(12)).cast("I")) == 12
    send(b"abc", counter)
    assert counter.num_bytes == 15
