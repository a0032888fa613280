from __future__ import annotations

import io
import json
import zipfile
from contextlib import suppress
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from distkeras.checkpoint.arrays import dump_arrays, load_arrays
from distkeras.checkpoint.commit import commit, latest
from distkeras.errors import CheckpointError

EXTENSIONS = (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)
PLAIN = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 complex128"

ARRAYS = {
    "dense/kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "dense/bias": np.array([1.5, -0.0, np.nan, np.inf]),
    "seed/state": np.array([2**32 - 1, 7], np.uint32),
    "step": np.array(2**62, np.int64),
    "flag": np.array(True),
    "half": np.array([1.0, 3.14159, -1e30], ml_dtypes.bfloat16),
    "nothing": np.zeros((0, 5), np.float32),
    "name with spaces/é:0": np.ones(1, np.float16),
}


def dumped(arrays) -> bytes:
    stream = io.BytesIO()
    dump_arrays(arrays, stream)
    return stream.getvalue()


def loaded(data: bytes, folder: Path) -> dict[str, np.ndarray]:
    (folder / "arrays.npz").write_bytes(data)
    return load_arrays(folder / "arrays.npz")


def assert_same(first, second) -> None:
    assert list(first) == list(second)
    for name, array in first.items():
        other = second[name]
        assert (other.dtype, other.shape) == (array.dtype.newbyteorder("="), array.shape)
        assert other.tobytes() == array.astype(other.dtype).tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("arrays")


def test_names_types_and_bits_come_back(folder):
    assert_same(ARRAYS, loaded(dumped(ARRAYS), folder))
    assert loaded(dumped({}), folder) == {}


@given(
    array=st.sampled_from(PLAIN.split()).flatmap(
        lambda dtype: nps.arrays(dtype, nps.array_shapes(min_dims=0, min_side=0, max_side=4))
    )
)
def test_any_plain_array_comes_back(folder, array):
    assert_same({"a": array}, loaded(dumped({"a": array}), folder))


@pytest.mark.parametrize("dtype", EXTENSIONS, ids=lambda dtype: dtype.__name__)
def test_every_bit_pattern_of_an_extension_type_comes_back(folder, dtype):
    bits = np.arange(2 ** (8 * np.dtype(dtype).itemsize), dtype=f"u{np.dtype(dtype).itemsize}")
    again = loaded(dumped({"a": bits.view(dtype), "b": bits[3].view(dtype)}), folder)
    assert again["a"].dtype == dtype
    assert np.array_equal(again["a"].view(bits.dtype), bits)
    assert again["b"].shape == ()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24).reshape(4, 6)[::2, ::3],
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.broadcast_to(np.float32(3), (2, 2)),
        np.arange(5, dtype=">f4"),
        np.arange(4, dtype=ml_dtypes.bfloat16)[::-1],
    ],
    ids=["strided", "fortran", "broadcast", "big-endian", "reversed"],
)
def test_any_memory_layout_comes_back(folder, array):
    again = loaded(dumped({"a": array}), folder)["a"]
    assert again.tolist() == array.tolist()
    assert again.dtype == array.dtype.newbyteorder("=")
    assert again.flags.writeable


def test_more_than_one_chunk_comes_back(folder):
    array = np.arange(5 * 2**20, dtype=np.int64)
    assert np.array_equal(loaded(dumped({"a": array}), folder)["a"], array)


def test_equal_arrays_give_equal_files():
    assert dumped(ARRAYS) == dumped({name: array.copy() for name, array in ARRAYS.items()})


def test_numpy_reads_the_file(folder):
    (folder / "plain.npz").write_bytes(dumped({"dense/kernel": ARRAYS["dense/kernel"]}))
    with np.load(folder / "plain.npz") as archive:
        assert np.array_equal(archive["dense/kernel"], ARRAYS["dense/kernel"])


def test_arrays_are_committed_through_a_stream_that_cannot_seek(tmp_path):
    commit(tmp_path, 1, {"weights.npz": partial(dump_arrays, ARRAYS)}, {}, keep=1)
    assert_same(ARRAYS, load_arrays(latest(tmp_path).commit.file("weights.npz")))


@pytest.mark.parametrize(
    "array",
    [np.array([object()]), np.array(["text"]), np.array([b"x"]), np.zeros(1, "M8[s]"), np.zeros(1, "i4,f4")],
    ids=lambda array: array.dtype.name,
)
def test_what_would_need_pickle_is_refused(array):
    with pytest.raises(
        CheckpointError, match="The array 'a' cannot be stored: its type is not a plain"
    ) as caught:
        dumped({"a": array})
    assert caught.value.received == array.dtype.name


BAD_NAMES = ["", "/a", "../a", "a/../b", "a//b", "a/", "a\\b", "a\0b", "a\nb", "\ud800", "x" * 1001]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_a_name_that_is_no_path_is_refused(name):
    with pytest.raises(CheckpointError, match="The name of an array must be a relative path") as caught:
        dumped({name: np.zeros(1)})
    assert caught.value.received == name


def archive_of(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def members_of(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


GOOD = members_of(dumped({"a": np.arange(4, dtype=np.int32)}))
LISTING = {"a": {"dtype": "int32", "shape": [4]}}


def listing(entry: object, name: str = "a") -> dict[str, bytes]:
    return {**GOOD, "arrays.json": json.dumps({name: entry}).encode()}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (archive_of(GOOD, zipfile.ZIP_DEFLATED), "a member is compressed"),
        (archive_of({"a.npy": GOOD["a.npy"]}), "There is no item named 'arrays.json'"),
        (archive_of({**GOOD, "../evil.npy": b"x"}), "its members are not the arrays that arrays.json lists"),
        (archive_of({"arrays.json": GOOD["arrays.json"]}), "its members are not the arrays that"),
        (archive_of(listing({"dtype": "int32", "shape": [2**40]})), "its members are not the arrays that"),
        (
            archive_of(listing({"dtype": "int64", "shape": [2]})),
            "the header of 'a' does not fit its type and",
        ),
        (archive_of(listing({"dtype": "float32", "shape": [4]})), "the header of 'a' does not fit its type"),
        (
            archive_of(listing({"dtype": "object", "shape": [2]})),
            "arrays.json gives no type and shape of 'a'",
        ),
        (
            archive_of(listing({"dtype": "int32", "shape": [-4]})),
            "arrays.json gives no type and shape of 'a'",
        ),
        (
            archive_of(listing({"dtype": "int32", "shape": [4.0]})),
            "arrays.json gives no type and shape of 'a'",
        ),
        (archive_of(listing(None)), "arrays.json gives no type and shape of 'a'"),
        (archive_of(listing(LISTING["a"], "../a")), "arrays.json has an array '../a'"),
        (archive_of({**GOOD, "arrays.json": b"[]"}), "arrays.json is not a mapping"),
        (archive_of({**GOOD, "arrays.json": b"{"}), "Expecting property name"),
        (b"not a zip", "File is not a zip file"),
        (b"", "File is not a zip file"),
    ],
)
def test_a_file_that_is_not_ours_is_refused(folder, data, reason):
    with pytest.raises(CheckpointError, match="The file of arrays cannot be read: ") as caught:
        loaded(data, folder)
    assert reason in caught.value.problem
    assert caught.value.place == str(folder / "arrays.npz")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"The file of arrays cannot be read: .*No such file"):
        load_arrays(tmp_path / "missing.npz")


def test_members_that_share_bytes_are_refused(folder):
    """A bomb without compression: many names in the directory of the zip for one large member."""
    array = np.zeros(4096, np.uint8)
    stream = io.BytesIO()
    entries = {f"{i:03d}": {"dtype": "uint8", "shape": [4096]} for i in range(100)}
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("arrays.json", json.dumps(entries))
        archive.writestr("000.npy", members_of(dumped({"000": array}))["000.npy"])
        for name in list(entries)[1:]:
            twin = zipfile.ZipInfo(f"{name}.npy")
            for field in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(twin, field, getattr(archive.getinfo("000.npy"), field))
            archive.filelist.append(twin)
    with pytest.raises(CheckpointError, match="its members are larger than the file"):
        loaded(stream.getvalue(), folder)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused(folder):
    stream = io.BytesIO(archive_of(GOOD))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("a.npy", GOOD["a.npy"])
    with pytest.raises(CheckpointError, match=r"its members are not the arrays that arrays\.json lists"):
        loaded(stream.getvalue(), folder)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damage_is_refused_or_harmless(folder, data):
    """Bytes that zip readers ignore may change; the arrays that come back never do."""
    damaged = bytearray(dumped(ARRAYS))
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        damaged[position] ^= data.draw(st.integers(1, 255))
    end = data.draw(st.integers(0, len(damaged)) | st.just(len(damaged)))
    again = None
    with suppress(CheckpointError):
        again = loaded(bytes(damaged[:end]), folder)
    if again is not None:
        assert_same(ARRAYS, again)
