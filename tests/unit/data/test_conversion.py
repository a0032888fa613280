"""Conversions: the same examples in the same order, whatever happens on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml

from distkeras.config import config_from_mapping
from distkeras.config.sections import DataSection
from distkeras.config.transform_sections import TabularSection
from distkeras.data.conversion import convert, plan_conversion, verify
from distkeras.data.conversion.layout import layout_for
from distkeras.data.conversion.parts import open_part
from distkeras.data.sources import open_source
from distkeras.data.sources.arrays import ArraySource
from distkeras.errors import ConfigError, DataError, ResourceError

MEBIBYTE = 2**20


def section(source, **data):
    return DataSection.model_validate_json(json.dumps({"source": source, **data}))


def converted(data, target, out, part="all", shards=None):
    """Converts, and opens the result with the section that the verb prints."""
    source = open_part(data, part, target)
    conversion = plan_conversion(source, target, out, part=part, num_shards=shards)
    manifest = convert(conversion)
    assert manifest.is_complete
    verify(conversion, manifest)
    return source, open_source(section(conversion.section()).source)


def examples(source):
    """All features and labels, one by one where they differ in shape."""
    if source.granularity == "batch":
        features, labels = source.read_arrays(np.arange(source.num_examples))
        return features, labels
    pairs = [source.read_arrays(np.array([index])) for index in range(source.num_examples)]
    return [features[0] for features, _ in pairs], np.concatenate([labels for _, labels in pairs])


def assert_same(source, again):
    features, labels = examples(source)
    features_again, labels_again = examples(again)
    assert source.num_examples == again.num_examples
    assert np.array_equal(labels, labels_again)
    assert len(features) == len(features_again)
    for one, other in zip(features, features_again, strict=True):
        assert np.array_equal(one, other)


def write_images(folder, *, one_size=False):
    for label, name in enumerate(("cats", "dogs", "eels")):
        (folder / "images" / name).mkdir(parents=True)
        for index in range(7 + label):
            numbers = np.random.default_rng(10 * label + index)
            height, width = (20, 24) if one_size else numbers.integers(10, 40, 2)
            pixels = tf.constant(numbers.integers(0, 255, (height, width, 3)), tf.uint8)
            encode = tf.io.encode_jpeg if index % 2 else tf.io.encode_png
            (folder / "images" / name / f"{index}.{'jpg' if index % 2 else 'png'}").write_bytes(
                encode(pixels).numpy()
            )
    return {"kind": "image_folder", "path": str(folder / "images")}


def write_csv(folder, num_rows=200, label=lambda row: ("red", "green", "blue")[row % 3]):
    numbers = np.random.default_rng(0).normal(size=(num_rows, 2)).astype(np.float32)
    rows = [f"{a!s},{b!s},{label(row)}" for row, (a, b) in enumerate(numbers.tolist())]
    (folder / "t.csv").write_text("\n".join(["a,b,kind", *rows]) + "\n")
    return {"kind": "csv", "path": str(folder / "t.csv"), "label": "kind"}


def write_texts(folder):
    for name in ("bad", "good"):
        (folder / "texts" / name).mkdir(parents=True)
        for index in range(9):
            (folder / "texts" / name / f"{index}.txt").write_text(f"a {name} film: {'ä' * index}")
    return {"kind": "text_folder", "path": str(folder / "texts")}


def write_arrays(folder, features, labels=None):
    labels = np.arange(len(features)) % 4 if labels is None else labels
    np.savez(folder / "a.npz", x=features, y=labels)
    return {"kind": "arrays", "path": str(folder / "a.npz")}


RECORDS = pytest.mark.parametrize("target", ["tfrecord", "array_record"])
ALL = pytest.mark.parametrize("target", ["tfrecord", "array_record", "parquet", "memmap"])


class TestSameExamples:
    @ALL
    @pytest.mark.parametrize("shards", [1, 3])
    def test_tables(self, tmp_path, target, shards):
        source, again = converted(section(write_csv(tmp_path)), target, tmp_path / "out", shards=shards)
        assert_same(source, again)
        if target != "memmap":
            assert again.class_names == source.class_names == ("blue", "green", "red")
        if target == "parquet":
            assert again.feature_names == ("a", "b")

    @ALL
    def test_regression(self, tmp_path, target):
        data = section(write_csv(tmp_path, label=lambda row: row / 7))
        source, again = converted(data, target, tmp_path / "out")
        assert_same(source, again)
        assert again.class_names is None

    @RECORDS
    def test_images_keep_their_files(self, tmp_path, target):
        source, again = converted(section(write_images(tmp_path)), target, tmp_path / "out", shards=2)
        assert_same(source, again)
        assert again.class_names == ("cats", "dogs", "eels")
        for index in (0, 1, source.num_examples - 1):
            contents = [one.read_encoded(tf.constant(index, tf.int64))[0].numpy() for one in (source, again)]
            assert contents[0] == contents[1]

    def test_images_get_one_size_in_an_array(self, tmp_path):
        data = section(write_images(tmp_path), image={"size": [16, 12]})
        source, again = converted(data, "memmap", tmp_path / "out", shards=3)
        assert again.feature_shape == (16, 12, 3)
        assert again.feature_dtype == "uint8"
        assert_same(source, again)

    def test_images_of_one_size_stay_as_they_are(self, tmp_path):
        source, again = converted(section(write_images(tmp_path, one_size=True)), "memmap", tmp_path / "out")
        assert_same(source, again)

    @RECORDS
    @pytest.mark.parametrize("channels", [1, 3])
    def test_pixels_in_arrays_become_images(self, tmp_path, target, channels):
        pixels = np.random.default_rng(0).integers(0, 255, (40, 9, 7, channels)).astype(np.uint8)
        source, again = converted(section(write_arrays(tmp_path, pixels)), target, tmp_path / "out")
        assert again.has_encoded_images
        assert_same(source, again)

    @pytest.mark.parametrize("target", ["tfrecord", "array_record", "memmap"])
    @pytest.mark.parametrize("dtype", ["float32", "int64"])
    def test_numbers_of_any_shape(self, tmp_path, target, dtype):
        numbers = np.random.default_rng(0).normal(0, 100, (60, 3, 5)).astype(dtype)
        source, again = converted(section(write_arrays(tmp_path, numbers)), target, tmp_path / "out")
        assert (again.feature_shape, again.feature_dtype) == ((3, 5), dtype)
        assert_same(source, again)

    @RECORDS
    def test_texts(self, tmp_path, target):
        source, again = converted(section(write_texts(tmp_path)), target, tmp_path / "out")
        assert_same(source, again)
        assert again.class_names == ("bad", "good")

    def test_labels_of_any_shape_stay_in_arrays(self, tmp_path):
        labels = np.random.default_rng(0).normal(size=(30, 4))
        data = section(write_arrays(tmp_path, np.arange(60.0).reshape(30, 2), labels))
        assert_same(*converted(data, "memmap", tmp_path / "out"))

    @pytest.mark.parametrize("part", ["train", "validation", "test"])
    @pytest.mark.parametrize("target", ["tfrecord", "memmap"])
    def test_parts(self, tmp_path, target, part):
        source, again = converted(section(write_csv(tmp_path)), target, tmp_path / "out", part)
        assert source.num_examples == {"train": 140, "validation": 30, "test": 30}[part]
        assert_same(source, again)

    def test_a_part_without_all_classes_keeps_their_indices(self, tmp_path):
        data = section(write_csv(tmp_path, 40, label=lambda row: "abcd"[row % 4] if row % 4 < 3 else "d"))
        source = open_part(data, "all", "tfrecord")
        some = np.flatnonzero(source.labels() != 1)

        from distkeras.data.sources.base import Subset

        part = Subset(source, some)
        conversion = plan_conversion(part, "parquet", tmp_path / "out", part="train")
        convert(conversion)
        again = open_source(section(conversion.section()).source)
        assert again.class_names is None
        assert np.array_equal(again.labels(), part.labels())

    def test_columns_of_text_with_empty_cells(self, tmp_path):
        (tmp_path / "t.csv").write_text(
            "size,colour,kind\n"
            + "".join(
                f"{'' if row % 5 == 0 else row},{'' if row % 7 == 0 else 'c' + str(row % 3)},"
                f"{'xy'[row % 2]}\n"
                for row in range(50)
            )
        )
        data = section(
            {"kind": "csv", "path": str(tmp_path / "t.csv"), "label": "kind"}, tabular={"impute": "mean"}
        )
        source = open_part(data, "all", "parquet")
        conversion = plan_conversion(source, "parquet", tmp_path / "out", part="all")
        convert(conversion)
        again = open_source(section(conversion.section()).source, tabular=TabularSection())
        assert again.feature_dtype == source.feature_dtype
        (one, labels), (other, labels_again) = (s.read_arrays(np.arange(50)) for s in (source, again))
        assert np.array_equal(one["size"], other["size"], equal_nan=True)
        assert one["colour"].tolist() == other["colour"].tolist()
        assert np.array_equal(labels, labels_again)

    def test_row_groups_of_65536_rows(self, tmp_path):
        data = section({"kind": "synthetic", "shape": [2], "num_examples": 150_000})
        source, again = converted(data, "parquet", tmp_path / "out")
        [path] = (tmp_path / "out").glob("*.parquet")
        metadata = pq.ParquetFile(path).metadata
        rows = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
        assert rows == [65_536, 65_536, 18_928]
        assert metadata.row_group(0).column(0).compression == "ZSTD"
        ids = np.array([0, 65_535, 65_536, 149_999])
        assert np.array_equal(source.read_arrays(ids)[0], again.read_arrays(ids)[0])

    def test_the_result_can_be_trained_on(self, tmp_path):
        data = section(write_csv(tmp_path))
        conversion = plan_conversion(
            open_part(data, "all", "tfrecord"), "tfrecord", tmp_path / "out", part="all"
        )
        convert(conversion)
        snippet = yaml.safe_load(yaml.safe_dump({"data": {"source": conversion.section()}}))
        mapping = {
            "name": "a",
            "task": {"kind": "tabular_classification"},
            "model": {"builder": "mlp"},
            **snippet,
        }
        config_from_mapping(mapping, origin="test", base_folder=tmp_path)


class TestGoingOn:
    def plan(self, folder, target="tfrecord", shards=4, data=None):
        data = data or section({"kind": "synthetic", "shape": [4], "num_examples": 1000})
        return plan_conversion(
            open_part(data, "all", target), target, folder / "out", part="all", num_shards=shards
        )

    @ALL
    def test_what_is_finished_is_not_written_again(self, tmp_path, target):
        plan = self.plan(tmp_path, target)
        convert(plan)
        names = sorted(path.name for path in plan.folder.iterdir())
        before = {path.name: path.stat().st_mtime_ns for path in plan.folder.iterdir()}
        counted = []
        convert(self.plan(tmp_path, target), counted.append)
        assert sum(counted) == 1000
        assert sorted(path.name for path in plan.folder.iterdir()) == names
        after = {path.name: path.stat().st_mtime_ns for path in plan.folder.iterdir()}
        assert [name for name in names if before[name] != after[name]] == ["conversion.json"]

    @ALL
    def test_a_failure_in_the_third_shard_leaves_two(self, tmp_path, target):
        plan = self.plan(tmp_path, target)
        seen = []

        def stop(num_examples):
            seen.append(num_examples)
            if sum(seen) > 500:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            convert(plan, stop)
        manifest = json.loads((plan.folder / "conversion.json").read_text())
        assert sorted(manifest["shards"]) == ["0", "1"]
        (plan.folder / ".left-over.tmp").write_text("of a process that was killed")
        counted = []
        assert convert(self.plan(tmp_path, target), counted.append).is_complete
        assert counted[0] == 500
        assert not list(plan.folder.glob(".*"))
        again = open_source(section(plan.section()).source)
        assert_same(plan.source, again)

    @pytest.mark.parametrize(("target", "num_examples"), [("tfrecord", 12_000), ("memmap", 60_000)])
    def test_a_killed_conversion_goes_on_with_the_next_shard(self, tmp_path, target, num_examples):
        source = {"kind": "synthetic", "shape": [100], "num_examples": num_examples}
        config = {
            "task": {"kind": "tabular_classification"},
            "data": {"source": source},
            "model": {"builder": "mlp"},
        }
        (tmp_path / "a.yaml").write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "distkeras", "data", "convert", "--config", "a.yaml", "--to", target]
        command += ["--out", "out", "--shards", "60", "--json", "--quiet"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE)
        manifest = tmp_path / "out" / "conversion.json"
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if manifest.exists() and len(json.loads(manifest.read_text())["shards"]) >= 2:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        done = json.loads(manifest.read_text())["shards"]
        assert 2 <= len(done) < 60
        result = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=200
        )
        assert result.returncode == 0, result.stderr
        found = json.loads(result.stdout)
        assert (found["examples"], found["shards"]) == (num_examples, 60)
        after = json.loads(manifest.read_text())["shards"]
        assert {place: after[place] for place in done} == done
        again, expected = open_source(section(found["source"]).source), open_source(section(source).source)
        ids = np.array([0, num_examples // 2, num_examples - 1])
        assert np.array_equal(again.read_arrays(ids)[0], expected.read_arrays(ids)[0])

    def test_arrays_that_were_begun_and_are_torn_are_begun_anew(self, tmp_path):
        plan = self.plan(tmp_path, "memmap")
        plan.folder.mkdir()
        (plan.folder / "conversion.json").unlink(missing_ok=True)
        convert(plan)
        (plan.folder / "x.npy").rename(plan.folder / ".x.npy.partial")
        (plan.folder / "y.npy").rename(plan.folder / ".y.npy.partial")
        manifest = json.loads((plan.folder / "conversion.json").read_text())
        (plan.folder / "conversion.json").write_text(json.dumps(manifest | {"shards": {}}))
        (plan.folder / ".x.npy.partial").write_bytes(b"\x93NUMPY")
        assert convert(plan).is_complete
        assert_same(plan.source, open_source(section(plan.section()).source))


class TestRefusals:
    def test_another_conversion_in_the_folder(self, tmp_path):
        going_on = TestGoingOn()
        convert(going_on.plan(tmp_path))
        with pytest.raises(ConfigError, match="In this folder is another conversion") as caught:
            convert(going_on.plan(tmp_path, shards=5))
        assert "other here: num_shards" in str(caught.value)
        with pytest.raises(ConfigError, match="In this folder is another conversion") as caught:
            convert(
                going_on.plan(
                    tmp_path, data=section({"kind": "synthetic", "shape": [4], "num_examples": 999})
                )
            )
        assert "other here: fingerprint, num_examples" in str(caught.value)
        with pytest.raises(ConfigError, match="other here: to"):
            convert(going_on.plan(tmp_path, target="array_record"))

    def test_a_folder_with_other_files(self, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "notes.txt").write_text("mine")
        with pytest.raises(
            ConfigError, match="There are files in the folder already, and they are not of a conversion"
        ):
            convert(TestGoingOn().plan(tmp_path))
        assert (tmp_path / "out" / "notes.txt").read_text() == "mine"

    @ALL
    def test_damage_is_found_at_the_end(self, tmp_path, target):
        plan = TestGoingOn().plan(tmp_path, target)
        convert(plan)
        name = "x.npy" if target == "memmap" else plan.shard_name(2)
        content = bytearray((plan.folder / name).read_bytes())
        content[len(content) * 5 // 8] ^= 1
        (plan.folder / name).write_bytes(content)
        with pytest.raises(DataError, match="A file of the conversion is damaged") as caught:
            verify(plan, convert(plan))
        assert "shard 3 of 4 is concerned" in str(caught.value)
        (plan.folder / name).unlink()
        with pytest.raises(DataError, match="A file of the conversion is missing"):
            verify(plan, convert(plan))

    def test_more_shards_than_examples(self, tmp_path):
        with pytest.raises(DataError, match="There are 1,000 examples for 1,001 shards"):
            TestGoingOn().plan(tmp_path, shards=1001)

    @pytest.mark.parametrize(
        ("make", "target", "sentence"),
        [
            (write_images, "parquet", "images differ in size"),
            (write_images, "memmap", "images differ in size"),
            (write_texts, "memmap", "examples are texts"),
            (write_texts, "parquet", "examples are texts"),
            (
                lambda folder: write_arrays(folder, np.zeros((9, 2, 2))),
                "parquet",
                r"examples have the shape \(2, 2\)",
            ),
        ],
    )
    def test_what_a_format_cannot_hold(self, tmp_path, make, target, sentence):
        with pytest.raises(DataError, match=f"This cannot be converted to {target}: {sentence}") as caught:
            open_and_lay_out(section(make(tmp_path)), target)
        assert "use --to" in str(caught.value)

    def test_several_inputs(self):
        source = ArraySource({"a": np.zeros((5, 2)), "b": np.zeros((5, 3))}, np.zeros(5))
        with pytest.raises(
            DataError, match="This cannot be converted to tfrecord: examples have several inputs"
        ):
            layout_for(source, "tfrecord")

    def test_several_labels(self, tmp_path):
        data = section(write_arrays(tmp_path, np.zeros((9, 2)), np.zeros((9, 3))))
        with pytest.raises(DataError, match="tfrecord files hold one label an example"):
            open_and_lay_out(data, "tfrecord")

    def test_a_column_called_label(self, tmp_path):
        (tmp_path / "t.csv").write_text("label,kind\n1,x\n2,y\n")
        data = section({"kind": "csv", "path": str(tmp_path / "t.csv"), "label": "kind"})
        with pytest.raises(DataError, match="A feature is called `label`"):
            open_and_lay_out(data, "parquet")

    def test_a_bad_image_stops_it_and_is_named(self, tmp_path):
        data = section(write_images(tmp_path), image={"size": [8, 8]}, max_bad_records=5)
        content = (tmp_path / "images/dogs/2.png").read_bytes()
        (tmp_path / "images/dogs/2.png").write_bytes(content[:60] + b"\xff" * 40 + content[100:])
        source = open_part(data, "all", "memmap")
        with pytest.raises(DataError, match="An example cannot be read or decoded") as caught:
            convert(plan_conversion(source, "memmap", tmp_path / "out", part="all"))
        assert "dogs/2.png" in str(caught.value)
        (tmp_path / "images/dogs/2.png").write_bytes(b"none")
        with pytest.raises(DataError, match="An image file is not a JPEG"):
            open_part(data, "all", "tfrecord")

    def test_a_part_that_there_is_not(self, tmp_path):
        data = section(write_csv(tmp_path), split={"test": 0.0})
        with pytest.raises(ConfigError, match="The config leaves no test data") as caught:
            open_part(data, "test", "tfrecord")
        assert "use --part train or validation or all" in str(caught.value)

    def test_a_stream(self):
        data = section({"kind": "generator", "function": "a.b:c", "shape": [2]})
        with pytest.raises(ConfigError, match="A stream has no numbered examples"):
            open_part(data, "all", "tfrecord")


def open_and_lay_out(data, target):
    return layout_for(open_part(data, "all", target), target)


@contextmanager
def small_disk(folder, size="1m"):
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    mounted = subprocess.run(options, capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no right to mount a small disk: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


class TestFullDisk:
    @ALL
    def test_a_disk_that_is_too_small_is_said_before_it_starts(self, tmp_path, target):
        data = section({"kind": "synthetic", "shape": [1000], "num_examples": 2000})
        with small_disk(tmp_path / "disk") as disk:
            plan = plan_conversion(open_part(data, "all", target), target, disk / "out", part="all")
            with pytest.raises(
                ResourceError, match="The disk is full: what is left to write needs about"
            ) as caught:
                convert(plan)
            assert not (disk / "out").exists()
            free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        assert 8_000_000 < plan.num_bytes < 8_500_000
        assert f"{plan.num_bytes:,} bytes, and {free:,} bytes are free" in caught.value.problem
        assert caught.value.place == str(disk / "out")
        assert caught.value.exit_code == 4

    @ALL
    def test_a_disk_that_fills_up_on_the_way(self, tmp_path, target):
        # Random numbers, which no format makes smaller.
        data = section({"kind": "synthetic", "shape": [100], "num_examples": 2000})
        with small_disk(tmp_path / "disk", "2m") as disk:
            plan = plan_conversion(
                open_part(data, "all", target), target, disk / "out", part="all", num_shards=4
            )
            (disk / "other").write_bytes(b"")

            def fill(_):
                free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
                (disk / "other").write_bytes(bytes((disk / "other").stat().st_size + max(0, free - 65_536)))

            if target == "memmap":  # Its room is taken before the first example is written.
                convert(plan, fill)
                return
            with pytest.raises(ResourceError, match="The disk is full") as caught:
                convert(plan, fill)
            assert caught.value.place == str(disk / "out")
            assert not list((disk / "out").glob(".*"))
            (disk / "other").unlink()
            assert convert(plan).is_complete

    def test_a_folder_that_may_not_be_written(self, tmp_path):
        (tmp_path / "out").write_text("a file")
        with pytest.raises(ResourceError, match=r"The files cannot be written: .*"):
            convert(TestGoingOn().plan(tmp_path))
