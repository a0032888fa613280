"""Parquet files read by row group."""

from __future__ import annotations

import base64
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from distkeras.config.source_sections import ParquetSource
from distkeras.data.order import WINDOW_BLOCKS
from distkeras.data.sources import open_source, row_groups
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.sources.row_groups import RowGroupSource, fits_memory
from distkeras.errors import DataError


def section(path: Path | str, **keys: object) -> ParquetSource:
    return ParquetSource.model_validate(
        {"kind": "parquet", "path": str(path), "label": "kind", "in_memory": False, **keys}
    )


def write(path: Path, rows_per_group: int = 10, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=rows_per_group)
    return path


def refusal(path: Path, **keys: object) -> str:
    with pytest.raises(DataError) as caught:
        RowGroupSource(section(path, **keys))
    return str(caught.value)


def read_refusal(source: RowGroupSource, example_id: int = 0) -> str:
    with pytest.raises(DataError) as caught:
        source.read_arrays(np.array([example_id]))
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files of 25 and 12 rows in groups of 10, all numeric types, and text labels."""
    rng = np.random.default_rng(0)
    for name, num_rows in (("b.parquet", 12), ("a.parquet", 25)):
        write(
            tmp_path / name,
            note=["never read"] * num_rows,
            x=rng.random(num_rows).astype(np.float32),
            kind=rng.choice(["moss", "fern", "lichen"], num_rows)
            if name == "a.parquet"
            else ["Ash"] * num_rows,
            y=rng.random(num_rows),
            n=rng.integers(-5, 5, num_rows),
            flag=rng.random(num_rows) < 0.5,
            half=rng.random(num_rows).astype(np.float16),
            small=rng.integers(0, 255, num_rows).astype(np.uint8),
        )
    return tmp_path


FEATURES = ["small", "x", "y", "n", "flag", "half"]


def expected(folder: Path) -> np.ndarray:
    table = pa.concat_tables([pq.read_table(folder / name) for name in ("a.parquet", "b.parquet")])
    return np.stack([table.column(name).to_numpy().astype(np.float32) for name in FEATURES], axis=1)


def test_reads_what_the_table_in_memory_reads(folder: Path) -> None:
    source = RowGroupSource(section(folder, features=FEATURES))
    whole = open_source(section(folder, features=FEATURES, in_memory=True))
    assert isinstance(whole, ArraySource)
    ids = np.random.default_rng(1).permutation(37)
    features, labels = source.read_arrays(ids)
    np.testing.assert_array_equal(features, expected(folder)[ids])
    for ours, theirs in zip((features, labels), whole.read_arrays(ids), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    assert source.class_names == whole.class_names == ("Ash", "fern", "lichen", "moss")
    np.testing.assert_array_equal(source.labels(), whole.labels())
    assert (source.feature_shape, source.feature_dtype) == (whole.feature_shape, whole.feature_dtype)
    assert source.feature_names == tuple(FEATURES)
    assert (source.granularity, source.needs_tensorflow) == ("batch", False)


def test_blocks_are_row_groups(folder: Path) -> None:
    source = RowGroupSource(section(folder, features=["x"]))
    assert source.block_starts.tolist() == [0, 10, 20, 25, 35, 37]
    assert source.block_starts.dtype == np.int64
    assert [source.locate(row) for row in (0, 24, 25, 36)] == [
        "a.parquet row 1",
        "a.parquet row 25",
        "b.parquet row 1",
        "b.parquet row 12",
    ]


def test_a_file_and_a_row_group_without_rows_are_no_blocks(tmp_path: Path) -> None:
    schema = pa.schema({"x": pa.float32(), "kind": pa.int64()})
    with pq.ParquetWriter(tmp_path / "a.parquet", schema):
        pass
    with pq.ParquetWriter(tmp_path / "b.parquet", schema) as writer:
        for rows in ([1.0, 2.0], [], [3.0]):
            writer.write_table(pa.table({"x": rows, "kind": [0] * len(rows)}, schema=schema))
    source = RowGroupSource(section(tmp_path))
    assert source.block_starts.tolist() == [0, 2, 3]
    assert source.read_arrays(np.array([2, 0, 1]))[0].tolist() == [[3], [1], [2]]


@given(ids=st.lists(st.integers(0, 36), max_size=60))
def test_any_ids_in_any_order(tmp_path_factory: pytest.TempPathFactory, ids: list[int]) -> None:
    path = tmp_path_factory.mktemp("rows") / "p.parquet"
    write(path, 5, x=np.arange(37), kind=np.arange(37) * 2)
    features, labels = RowGroupSource(section(path)).read_arrays(np.array(ids, np.int64))
    assert features[:, 0].tolist() == ids
    assert labels.tolist() == [2 * row for row in ids]


def test_graphs_read_in_parallel(folder: Path) -> None:
    source = RowGroupSource(section(folder, features=FEATURES))
    ids = np.arange(37 * 4) % 37
    dataset = tf.data.Dataset.from_tensor_slices(ids).batch(4, drop_remainder=True)
    dataset = dataset.map(source.read, num_parallel_calls=8)
    assert dataset.element_spec[0].shape == (4, 6)
    assert dataset.element_spec[1].shape == (4,)
    batches = list(dataset.as_numpy_iterator())
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in batches]), expected(folder)[ids])
    np.testing.assert_array_equal(np.concatenate([batch[1] for batch in batches]), source.labels()[ids])


def test_without_labels_the_column_may_be_missing(folder: Path) -> None:
    source = RowGroupSource(section(folder, label="gone"), labelled=False, feature_names=["y", "x"])
    assert source.feature_names == ("y", "x")
    np.testing.assert_array_equal(source.read_arrays(np.arange(37))[0], expected(folder)[:, [2, 1]])
    assert source.labels().tolist() == [0] * 37
    assert source.class_names is None


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [([3, -1, 2], np.int64), ([0.5, 1.0, 2.0], np.float32), ([True, False, True], np.int64)],
)
def test_numbers_stay_numbers_as_labels(tmp_path: Path, labels: list[object], dtype: type) -> None:
    source = RowGroupSource(section(write(tmp_path / "p.parquet", 2, x=[1, 2, 3], kind=labels)))
    assert source.labels().tolist() == labels
    assert source.labels().dtype == dtype


def test_categories_of_pandas_as_labels(tmp_path: Path) -> None:
    kinds = pa.array(["b", "a", "b"]).dictionary_encode()
    source = RowGroupSource(section(write(tmp_path / "p.parquet", 2, x=[1, 2, 3], kind=kinds)))
    assert source.class_names == ("a", "b")
    assert source.labels().tolist() == [1, 0, 1]


class TestWhatIsKept:
    def test_threads_that_want_one_group_decode_it_once(self) -> None:
        decoded: list[int] = []

        def decode(group: int) -> np.ndarray:
            decoded.append(group)
            time.sleep(0.05)
            return np.full((4, 1), group, np.float32)

        kept = row_groups.Kept(decode, max_bytes=10**6)
        barrier = Barrier(8)

        def read(_: int) -> dict[int, float]:
            barrier.wait()
            return {group: float(rows[0, 0]) for group, rows in kept.each([3, 1, 2])}

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(read, range(8))) == [{1: 1.0, 2: 2.0, 3: 3.0}] * 8
        assert sorted(decoded) == [1, 2, 3]

    def test_threads_share_the_work(self) -> None:
        """Two threads decode at once: each waits in `decode` for the other to have begun another group."""
        barrier = Barrier(2, timeout=30)

        def decode(group: int) -> np.ndarray:
            barrier.wait()
            return np.zeros((1, 1), np.float32)

        kept = row_groups.Kept(decode, max_bytes=10**6)
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(lambda _: len(list(kept.each([1, 2]))), range(2))) == [2, 2]

    def test_the_last_used_ones_stay(self) -> None:
        decoded: list[int] = []

        def decode(group: int) -> np.ndarray:
            decoded.append(group)
            return np.zeros((1, 25), np.float32)

        kept = row_groups.Kept(decode, max_bytes=200)
        for group in (1, 2, 1, 3, 1, 2):
            list(kept.each([group]))
        assert decoded == [1, 2, 3, 2]

    def test_who_waits_for_a_group_that_fails_is_told_and_the_next_one_tries_again(self) -> None:
        attempts: list[int] = []

        def decode(group: int) -> np.ndarray:
            attempts.append(group)
            time.sleep(0.2)
            if len(attempts) == 1:
                raise DataError("damaged")
            return np.zeros((1, 1), np.float32)

        kept = row_groups.Kept(decode, max_bytes=100)
        barrier = Barrier(2)

        def read(_: int) -> str:
            barrier.wait()
            with pytest.raises(DataError) as caught:
                list(kept.each([5]))
            return caught.value.problem

        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(read, range(2))) == ["damaged"] * 2
        assert [group for group, _ in kept.each([5])] == [5]
        assert attempts == [5, 5]

    def test_a_group_is_read_from_the_disk_once(self, folder: Path) -> None:
        source = RowGroupSource(section(folder, features=["x"]))
        before = source.read_arrays(np.array([26]))[0]
        (folder / "b.parquet").unlink()
        np.testing.assert_array_equal(source.read_arrays(np.array([26]))[0], before)
        assert "A data file or folder cannot be read." in read_refusal(source, 36)


class TestMemory:
    def test_auto_holds_small_tables(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        auto = section(folder, features=["x", "y"], in_memory="auto")
        monkeypatch.setattr(row_groups, "MAX_MEMORY_BYTES", 37 * 2 * 4)
        assert fits_memory(auto)
        assert isinstance(open_source(auto), ArraySource)
        monkeypatch.setattr(row_groups, "MAX_MEMORY_BYTES", 37 * 2 * 4 - 1)
        assert not fits_memory(auto)
        assert isinstance(open_source(auto), RowGroupSource)

    def test_all_columns_but_the_label_count(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        auto = section(write(tmp_path / "p.parquet", x=[1.0], y=[2.0], kind=[0]), in_memory="auto")
        monkeypatch.setattr(row_groups, "MAX_MEMORY_BYTES", 8)
        assert fits_memory(auto)
        monkeypatch.setattr(row_groups, "MAX_MEMORY_BYTES", 7)
        assert not fits_memory(auto)

    def test_the_config_may_say_it(self, tmp_path: Path) -> None:
        assert fits_memory(section(tmp_path / "none", in_memory=True))
        assert not fits_memory(section(tmp_path / "none", in_memory=False))

    def test_windows_hold_fewer_groups_where_groups_are_large(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = RowGroupSource(section(folder, features=["x", "y"]))
        assert source.window_blocks == WINDOW_BLOCKS
        largest = int(np.diff(source.block_starts).max()) * len(source.feature_names) * 4
        monkeypatch.setattr(row_groups, "CACHE_BYTES", 6 * largest)
        assert RowGroupSource(section(folder, features=["x", "y"])).window_blocks == 3

    def test_a_row_group_larger_than_what_is_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(tmp_path / "p.parquet", 20, x=np.arange(30), kind=np.arange(30))
        monkeypatch.setattr(row_groups, "CACHE_BYTES", 20 * 4)
        assert RowGroupSource(section(path)).num_examples == 30
        monkeypatch.setattr(row_groups, "CACHE_BYTES", 20 * 4 - 1)
        text = refusal(path)
        assert "A row group takes 0.0 GiB in memory" in text
        assert f"where: {path}, row group 0" in text
        assert "20 rows of 1 columns" in text
        assert "Write the file with smaller row groups" in text


class TestFingerprint:
    def test_of_the_files_wherever_they_lie(
        self, folder: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        elsewhere = tmp_path_factory.mktemp("elsewhere")
        for name in ("b.parquet", "a.parquet"):
            (elsewhere / name).write_bytes((folder / name).read_bytes())
        fingerprints = {
            RowGroupSource(section(place, features=["x"])).fingerprint for place in (folder, elsewhere)
        }
        assert len(fingerprints) == 1

    def test_changes_with_columns_names_and_content(self, tmp_path: Path) -> None:
        path = write(tmp_path / "p.parquet", x=[1.0, 2.0], y=[1.0, 2.0], kind=[0, 1])

        def fingerprint(of: Path = path, **keys: object) -> str:
            return RowGroupSource(section(of, **keys)).fingerprint

        seen = [
            fingerprint(),
            fingerprint(features=["x"]),
            fingerprint(features=["y"]),
            fingerprint(label="y"),
        ]
        seen.append(fingerprint(path.rename(tmp_path / "q.parquet")))
        seen.append(fingerprint(write(path, x=[1.0, 2.5], y=[1.0, 2.0], kind=[0, 1])))
        seen.append(fingerprint(write(path, 1, x=[1.0, 2.0], y=[1.0, 2.0], kind=[0, 1])))
        assert len(set(seen)) == 7


class TestBadData:
    def test_a_null_that_the_footer_knows_of_is_found_at_opening(self, tmp_path: Path) -> None:
        write(tmp_path / "1.parquet", 2, x=[1.0, 2.0, 3.0], kind=[0, 1, 0])
        write(tmp_path / "2.parquet", 2, x=[1.0, 2.0, 3.0, None], kind=[0, 1, 0, 1])
        text = refusal(tmp_path)
        assert "Column 'x' has 1 empty cell." in text
        assert "where: 2.parquet row 4, column 'x'" in text

    def test_a_null_of_another_column_does_not_matter(self, tmp_path: Path) -> None:
        path = write(tmp_path / "p.parquet", x=[1.0, 2.0], note=[None, "a"], kind=[0, 1])
        assert RowGroupSource(section(path, features=["x"])).num_examples == 2

    @pytest.mark.parametrize("column", [[1.0, 2.0, None], [1, 2, None], [True, False, None]])
    def test_a_null_without_statistics_is_found_when_it_is_read(
        self, tmp_path: Path, column: list[object]
    ) -> None:
        pq.write_table(
            pa.table({"x": column, "kind": [0, 1, 2]}),
            tmp_path / "p.parquet",
            row_group_size=2,
            write_statistics=False,
        )
        source = RowGroupSource(section(tmp_path / "p.parquet"))
        assert source.read_arrays(np.array([0]))[0].tolist() == [[1]]
        text = read_refusal(source, 2)
        assert "Column 'x' has 1 empty cell." in text
        assert "where: p.parquet row 3, column 'x'" in text

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e39])
    def test_a_value_that_is_not_finite(self, tmp_path: Path, value: float) -> None:
        path = write(tmp_path / "p.parquet", 2, a=[1.0, 2.0, 3.0], b=[1.0, 2.0, value], kind=[0, 1, 2])
        source = RowGroupSource(section(path))
        text = read_refusal(source, 2)
        assert "Column 'b' is no finite float32 in 1 row." in text
        assert "where: p.parquet row 3, column 'b'" in text
        assert f"received: {value!r}" in text

    def test_a_large_group_is_checked_in_all_its_blocks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(row_groups, "BLOCK_BYTES", 16)
        values = np.arange(50, dtype=np.float64)
        path = write(tmp_path / "p.parquet", 50, a=values, b=values + 0.5, kind=[0] * 50)
        np.testing.assert_array_equal(
            RowGroupSource(section(path)).read_arrays(np.arange(50))[0],
            np.stack([values, values + 0.5], axis=1),
        )
        values[49] = np.nan
        source = RowGroupSource(section(write(path, 50, a=values, b=values, kind=[0] * 50)))
        assert "where: p.parquet row 50, column 'a'" in read_refusal(source)

    def test_labels_are_checked_at_opening(self, tmp_path: Path) -> None:
        path = write(tmp_path / "p.parquet", 2, x=[1, 2, 3], kind=["a", "b", None])
        assert "where: p.parquet row 3, column 'kind'" in refusal(path)
        text = refusal(write(path, 2, x=[1, 2, 3], kind=[0.5, 1, float("nan")]))
        assert "Column 'kind' is no finite float32 in 1 row." in text
        assert "where: p.parquet row 3, column 'kind'" in text

    def test_a_file_that_changes_after_it_was_opened(self, tmp_path: Path) -> None:
        path = write(tmp_path / "p.parquet", 2, x=[1, 2, 3], kind=[0, 1, 2])
        source = RowGroupSource(section(path))
        source.read_arrays(np.array([0]))
        write(path, 2, x=[1, 2, 3, 4, 5], kind=[0, 1, 2, 3, 4])
        text = read_refusal(source, 2)
        assert "A data file has changed since it was opened." in text
        assert f"where: {path}" in text
        assert "Do not change data files during a run; start again." in text

    def test_a_file_written_again_with_the_same_length(self, tmp_path: Path) -> None:
        path = write(tmp_path / "p.parquet", 2, x=[1, 2, 3], kind=[0, 1, 2])
        source = RowGroupSource(section(path))
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
        assert "A data file has changed since it was opened." in read_refusal(source)

    def test_damaged_pages_are_found_when_they_are_read(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        path = write(tmp_path / "p.parquet", 100, x=rng.random(200), kind=[0] * 200)
        chunk = pq.read_metadata(path).row_group(1).column(0)
        content = bytearray(path.read_bytes())
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        content[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
        path.write_bytes(content)
        source = RowGroupSource(section(path))
        assert source.read_arrays(np.array([0]))[0].shape == (1, 1)
        text = read_refusal(source, 150)
        assert "A Parquet file cannot be read." in text
        assert f"where: {path}" in text

    @pytest.mark.parametrize("num_bytes", [0, 3, 7, 8, 100, -1, -8])
    def test_a_torn_file(self, tmp_path: Path, num_bytes: int) -> None:
        path = write(tmp_path / "p.parquet", x=[1.0] * 50, kind=[0] * 50)
        path.write_bytes(path.read_bytes()[:num_bytes])
        assert "A Parquet file cannot be read." in refusal(path)

    def test_a_footer_longer_than_what_is_fetched_first(self, tmp_path: Path) -> None:
        columns = {f"column_{index:04}": [1.0, 2.0] for index in range(1200)}
        path = write(tmp_path / "p.parquet", 1, **columns, kind=[0, 1])
        assert int.from_bytes(path.read_bytes()[-8:-4], "little") > 2**16
        assert RowGroupSource(section(path)).read_arrays(np.array([1]))[0].tolist() == [[2.0] * 1200]

    def test_missing_path_and_empty_folder(self, tmp_path: Path) -> None:
        assert "There is no such Parquet file or folder." in refusal(tmp_path / "none")
        assert "A folder has no .parquet files." in refusal(tmp_path)

    def test_no_rows(self, tmp_path: Path) -> None:
        path = write(tmp_path / "p.parquet", x=pa.array([], pa.float64()), kind=pa.array([], pa.int64()))
        assert "There are no rows in the Parquet data." in refusal(path)

    def test_wrong_columns(self, tmp_path: Path) -> None:
        path = write(tmp_path / "p.parquet", height=[1.0], kind=[0])
        assert "There is no label column 'kin'." in refusal(path, label="kin")
        text = refusal(path, features=["heigt"])
        assert "There is no feature column 'heigt'." in text
        assert "Did you mean 'height'?" in text

    def test_drifted_schema(self, tmp_path: Path) -> None:
        write(tmp_path / "1.parquet", x=[1.0], kind=[0])
        write(tmp_path / "2.parquet", x=[1], kind=[0])
        text = refusal(tmp_path)
        assert "Column 'x' is int64 here and double in 1.parquet." in text
        assert f"where: {tmp_path / '2.parquet'}" in text


class Marker:
    """Unpickling one makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


class TestNothingIsUnpickled:
    def test_a_pickle_in_a_binary_column(self, tmp_path: Path) -> None:
        content = pickle.dumps(Marker(tmp_path / "executed"))
        path = write(tmp_path / "p.parquet", x=[1.0], payload=[content], kind=[0])
        text = refusal(path)
        assert "The feature column 'payload' is binary, not numbers." in text
        assert "leave it out with data.source.features" in text
        assert "The label column 'payload' is binary, neither numbers nor text." in refusal(
            path, label="payload", features=["x"]
        )
        assert RowGroupSource(section(path, features=["x"])).read_arrays(np.array([0]))[0].tolist() == [[1]]
        assert not (tmp_path / "executed").exists()
        with pytest.raises(FileExistsError):  # The pickle works: it is not refused for being a bad one.
            [pickle.loads(content) for _ in range(2)]  # noqa: S301

    def test_a_pickle_as_an_extension_type(self, tmp_path: Path) -> None:
        """Arrow's Python extension types were once unpickled from a file's schema (CVE-2023-47248)."""
        content = pickle.dumps(Marker(tmp_path / "executed"))
        metadata = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": content}
        fields = [pa.field("x", pa.float64(), metadata=metadata), pa.field("kind", pa.int64())]
        table = pa.table({"x": [1.0], "kind": [0]}, schema=pa.schema(fields))
        pq.write_table(table, tmp_path / "p.parquet")
        stored = base64.b64decode(pq.read_metadata(tmp_path / "p.parquet").metadata[b"ARROW:schema"])
        assert content in stored
        source = RowGroupSource(section(tmp_path / "p.parquet"))
        assert source.read_arrays(np.array([0]))[0].tolist() == [[1]]
        assert not (tmp_path / "executed").exists()
