"""The audit must prove what is right, and find what is wrong."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from distkeras.config import config_from_mapping
from distkeras.config.sections import InputSection
from distkeras.data.audit import Audit, audit_evaluation, audit_training, open_for_audit, topology_for
from distkeras.data.batches import BatchPlan
from distkeras.data.order import ById, Order, Shuffled, ShuffledBlocks, Visits
from distkeras.data.overlaps import num_in_no_part, overlaps, parts_of
from distkeras.data.reading_check import bad_records
from distkeras.data.readings import count_readings
from distkeras.data.sources.arrays import ArraySource
from distkeras.data.sources.base import Source, Subset
from distkeras.data.splits import Splits
from distkeras.data.training_order import training_order
from distkeras.errors import ConfigError, DataError
from distkeras.topology import Topology


def numbered(num_examples, **keys):
    return ArraySource(
        np.arange(num_examples)[:, np.newaxis], np.arange(num_examples) % 3, name="numbers", **keys
    )


def config(folder, data, **sections):
    mapping = {
        "name": "a",
        "task": {"kind": "tabular_classification"},
        "model": {"builder": "mlp"},
        "training": {"global_batch_size": 8},
        "data": data,
    }
    return config_from_mapping(mapping | sections, origin="test", base_folder=folder)


def synthetic(num_examples=101):
    return {"kind": "synthetic", "shape": [2], "num_examples": num_examples, "num_classes": 3}


def audited(loaded, workers=None, epochs=1, deep=False):
    splits, topology = open_for_audit(loaded, with_bad=deep), topology_for(loaded, workers)
    counts = {"train": audit_training(loaded, splits.train, topology, epochs)}
    for name, part in parts_of(splits).items():
        if name != "train":
            counts[name] = audit_evaluation(loaded, part, topology)
    bad = (
        tuple(record for part in parts_of(splits).values() for record in bad_records(part)) if deep else None
    )
    shared, unused = tuple(overlaps(splits)), num_in_no_part(splits)
    return Audit(topology.world_size, epochs, counts, shared, unused, bad, loaded.data.max_bad_records)


class Broken(Order):
    """An order that reads one example twice and leaves another out."""

    def __init__(self, num_examples, twice, never):
        self.num_examples = num_examples
        self._twice, self._never = twice, never

    def visits(self, epoch, positions):
        ids = np.where(positions == self._never, self._twice, positions)
        return Visits(ids, np.zeros_like(ids))


class TestWhatIsRight:
    @given(
        st.integers(1, 300),
        st.integers(1, 40),
        st.integers(1, 5),
        st.integers(1, 2),
        st.integers(1, 3),
        st.sampled_from(["drop", "partial", "wrap"]),
        st.booleans(),
    )
    def test_every_plan_of_a_permutation_passes(
        self, num, batch, workers, replicas, epochs, remainder, in_blocks
    ):
        if remainder == "drop" and num < batch:
            return
        plan = BatchPlan(num, batch, remainder)
        starts = np.unique(np.append(np.arange(0, num, 7), num))
        order = ShuffledBlocks(starts, "f", 1) if in_blocks else Shuffled(num, "f", 1)
        topology = Topology(world_size=workers, num_local_replicas=replicas)
        count = count_readings(numbered(num), order, plan, topology, epochs, None)
        assert count.passed
        assert (count.num_dropped, count.num_repeated) == (
            plan.num_dropped * epochs,
            plan.num_repeated * epochs,
        )
        read = sum(worker.num_examples for worker in count.workers)
        assert read == num - plan.num_dropped + plan.num_repeated
        assert count.imbalance >= 0

    def test_workers_with_equal_shares_are_in_balance(self):
        count = count_readings(numbered(80), ById(80), BatchPlan(80, 8), Topology(world_size=4), 1, None)
        assert [worker.num_examples for worker in count.workers] == [20] * 4
        # An int64 each.
        assert [worker.num_bytes for worker in count.workers] == [160] * 4
        assert count.imbalance == 0

    def test_a_worker_that_reads_more_is_told(self):
        count = count_readings(numbered(90), ById(90), BatchPlan(90, 9), Topology(world_size=2), 1, None)
        assert [worker.num_examples for worker in count.workers] == [50, 40]
        assert count.imbalance == pytest.approx(1 / 9)

    @pytest.mark.parametrize("epochs", [1, 2, 5])
    def test_a_balanced_order_repeats_on_purpose(self, tmp_path, epochs):
        labels = np.repeat([0, 1, 2], [60, 30, 10])
        source = ArraySource(np.arange(100)[:, np.newaxis], labels)
        loaded = config(tmp_path, {"source": synthetic(), "balance": "classes"})
        count = audit_training(loaded, source, Topology(world_size=2), epochs)
        assert count.passed
        # The 10 examples of the smallest class are read 33 times an epoch.
        assert count.num_repeated >= 23 * epochs
        assert count.num_unseen == (26 if epochs == 1 else 0)

    @pytest.mark.parametrize("epochs", [1, 3])
    def test_a_mixture_walks_through_its_sources(self, tmp_path, epochs):
        mixture = {
            "kind": "mixture",
            "sources": [{"source": synthetic(90), "weight": 1.0}, {"source": synthetic(30), "weight": 1.0}],
        }
        data = {"source": mixture, "split": {"method": "random"}}
        audit = audited(config(tmp_path, data), workers=3, epochs=epochs)
        assert audit.passed
        train = audit.counts["train"]
        assert train.num_repeated > 0
        assert (train.num_unseen > 0) == (epochs == 1)

    def test_the_whole_is_json(self, tmp_path):
        loaded = config(tmp_path, {"source": synthetic()}, topology={"kind": "processes", "workers": 4})
        found = json.loads(json.dumps(audited(loaded).as_mapping()))
        assert (found["passed"], found["workers"], found["examples"]) == (True, 4, 71)
        assert (found["missing"], found["duplicated"], found["steps_per_epoch"]) == (0, 0, 8)
        assert (found["dropped"], found["repeated"]) == (7, 0)
        # The 71 training examples are 8 steps of 8, and each worker reads 2 of a step.
        assert found["per_worker"] == [{"examples": 16, "files": None, "blocks": None, "bytes": 128}] * 4
        assert set(found["parts"]) == {"validation", "test"}
        assert found["parts"]["test"]["examples"] == 15
        assert found["overlaps"] == []
        assert found["in_no_part"] == 0
        assert "bad_records" not in found

    def test_workers_are_those_of_the_config_or_of_the_command(self, tmp_path):
        local = config(tmp_path, {"source": synthetic()}, topology={"replicas": 2})
        assert topology_for(local, None) == Topology(num_local_replicas=2)
        assert topology_for(local, 4) == Topology(world_size=4)
        ray = config(tmp_path, {"source": synthetic()}, topology={"kind": "ray", "workers": [1, 3]})
        assert topology_for(ray, None) == Topology(world_size=3)

    def test_row_groups_are_counted(self, tmp_path):
        table = pa.table({"a": np.arange(200.0), "kind": np.arange(200) % 2})
        pq.write_table(table, tmp_path / "t.parquet", row_group_size=10)
        source = {"kind": "parquet", "path": str(tmp_path / "t.parquet"), "label": "kind", "in_memory": False}
        data = {"source": source, "split": {"validation": 0.0, "test": 0.0}}
        count = audited(config(tmp_path, data, training={"global_batch_size": 20}), workers=2).counts["train"]
        assert all(0 < worker.num_blocks <= 20 for worker in count.workers)
        assert all(worker.num_files is None for worker in count.workers)

    def test_files_and_bytes_of_a_folder_are_counted(self, tmp_path):
        write_images(tmp_path)
        loaded = config(
            tmp_path,
            {"source": {"kind": "image_folder", "path": "images"}, "split": {"validation": 0.0, "test": 0.0}},
            task={"kind": "image_classification"},
        )
        count = audited(loaded, workers=2).counts["train"]
        sizes = sum(path.stat().st_size for path in (tmp_path / "images").rglob("*.png"))
        assert sum(worker.num_bytes for worker in count.workers) == sizes
        assert [worker.num_files for worker in count.workers] == [16, 16]


def write_images(folder, num=16):
    for name in ("cats", "dogs"):
        (folder / "images" / name).mkdir(parents=True)
        for index in range(num):
            pixels = tf.constant(np.random.default_rng(index).integers(0, 255, (8, 8, 3)), tf.uint8)
            (folder / "images" / name / f"{index:02d}.png").write_bytes(tf.io.encode_png(pixels).numpy())


class TestWhatIsWrong:
    def test_an_example_that_is_read_twice_and_one_that_is_not(self):
        plan = BatchPlan(40, 8)
        count = count_readings(
            numbered(40), Broken(40, twice=3, never=17), plan, Topology(world_size=2), 2, None
        )
        assert not count.passed
        assert (count.num_missing, count.num_duplicated) == (2, 2)
        assert count.places == ("numbers record 3", "numbers record 17") * 2
        audit = Audit(2, 2, {"train": count}, (), 0, None, 0)
        with pytest.raises(
            DataError, match="The train data is not read exactly once: 2 readings are missing"
        ) as caught:
            audit.require_passed()
        assert "2 are too many" in str(caught.value)
        assert "numbers record 17" in str(caught.value)
        assert caught.value.exit_code == 3

    def test_a_fault_of_one_group_of_a_walk(self):
        groups = np.repeat([0, 1], [30, 10])
        order = Broken(40, twice=32, never=35)
        count = count_readings(numbered(40), order, BatchPlan(40, 8), Topology(), 2, groups)
        assert (count.num_missing, count.num_duplicated) == (2, 2)
        assert "numbers record 35" in count.places

    def test_an_order_that_leaves_its_own_positions_out(self):
        class Short(ById):
            def visits(self, epoch, positions):
                return super().visits(epoch, positions // 2)

        count = count_readings(numbered(16), Short(16), BatchPlan(16, 4), Topology(), 1, None)
        assert (count.num_missing, count.num_duplicated) == (8, 8)

    def test_parts_that_share_examples(self):
        source = numbered(30)
        splits = Splits(
            Subset(source, np.arange(20)), Subset(source, np.arange(18, 25)), Subset(source, [29])
        )
        [found] = overlaps(splits)
        assert (found.first, found.second, found.num_examples) == ("train", "validation", 2)
        assert found.places == ("numbers record 18", "numbers record 19")

    @pytest.mark.parametrize("copied", [False, True])
    def test_a_validation_source_that_is_the_training_source(self, tmp_path, copied):
        rows = "a,kind\n" + "".join(f"{row},{row % 2}\n" for row in range(40))
        (tmp_path / "t.csv").write_text(rows)
        (tmp_path / "copy").mkdir()
        (tmp_path / "copy" / "t.csv").write_text(rows)
        source = {"kind": "csv", "path": "t.csv", "label": "kind"}
        own = source | {"path": "copy/t.csv" if copied else "t.csv"}
        audit = audited(config(tmp_path, {"source": source, "validation": own}))
        assert [(one.first, one.second) for one in audit.shared] == [
            ("train", "validation"),
            ("validation", "test"),
        ]
        assert not audit.passed
        with pytest.raises(
            DataError, match="34 examples of the train data are validation data, too"
        ) as caught:
            audit.require_passed()
        assert "t.csv row 1" in str(caught.value)
        assert "give data.validation other data, or leave it out" in str(caught.value)

    def test_the_same_file_read_as_other_columns(self, tmp_path):
        (tmp_path / "t.csv").write_text(
            "a,b,kind\n" + "".join(f"{row},{row},{row % 2}\n" for row in range(20))
        )
        source = {"kind": "csv", "path": "t.csv", "label": "kind", "features": ["a"]}
        first = open_for_audit(config(tmp_path, {"source": source}))
        second = open_for_audit(config(tmp_path, {"source": source | {"features": ["b"]}}))
        [found] = overlaps(Splits(first.train, second.train, None))
        assert found.num_examples > 0

    def test_the_same_name_in_another_folder_is_another_file(self, tmp_path):
        for number, name in enumerate(("one", "two")):
            (tmp_path / name).mkdir()
            rows = "".join(f"{row + number},{row % 2}\n" for row in range(40))
            (tmp_path / name / "t.csv").write_text("a,kind\n" + rows)
        source = {"kind": "csv", "path": "one/t.csv", "label": "kind"}
        assert audited(config(tmp_path, {"source": source, "test": source | {"path": "two/t.csv"}})).passed

    def test_fewer_examples_than_a_batch(self, tmp_path):
        with pytest.raises(DataError, match="fewer than one global batch"):
            audited(config(tmp_path, {"source": synthetic(10), "split": {"method": "random"}}))

    def test_a_stream(self, tmp_path):
        source = {"kind": "generator", "function": "a.b:c", "shape": [2], "num_classes": 3}
        own = {"source": source, "validation": synthetic(), "test": synthetic()}
        loaded = config(tmp_path, own, training={"num_steps": 10})
        with pytest.raises(ConfigError, match="A stream has no numbered examples"):
            open_for_audit(loaded)


class TestReadingEverything:
    def images(self, folder, **data):
        source = {"kind": "image_folder", "path": "images"}
        return config(folder, {"source": source, **data}, task={"kind": "image_classification"})

    def test_all_bad_images_are_listed(self, tmp_path):
        write_images(tmp_path)
        whole = (tmp_path / "images/cats/03.png").read_bytes()
        # One that looks whole, and is damaged inside; one that is none; one that is cut off.
        (tmp_path / "images/cats/03.png").write_bytes(whole[:60] + b"\xff" * 40 + whole[100:])
        (tmp_path / "images/cats/05.png").write_bytes(b"no image")
        (tmp_path / "images/dogs/07.png").write_bytes(whole[:80])
        audit = audited(self.images(tmp_path), deep=True)
        assert sorted(record.place for record in audit.bad) == ["cats/03.png", "cats/05.png", "dogs/07.png"]
        assert {record.stage for record in audit.bad} <= {"parse", "decode"}
        assert not audit.passed
        with pytest.raises(DataError, match=r"Bad records: 3; data\.max_bad_records allows 0"):
            audit.require_passed()
        found = audit.as_mapping()
        assert found["num_bad_records"] == len(found["bad_records"]) == 3
        assert audited(self.images(tmp_path, max_bad_records=3), deep=True).passed

    def test_a_file_that_went_away_is_a_matter_of_reading(self, tmp_path):
        write_images(tmp_path)
        splits = open_for_audit(self.images(tmp_path, split={"validation": 0.0, "test": 0.0}))
        (tmp_path / "images/dogs/01.png").unlink()
        [record] = bad_records(splits.train)
        assert (record.place, record.stage) == ("dogs/01.png", "read")

    def test_numbers_that_are_none_are_found_in_blocks(self):
        class Late(Source):
            """Numbers of which some turn out bad when they are read."""

            name, num_examples, fingerprint, granularity = "late", 1000, "f", "batch"
            feature_shape, feature_dtype, needs_tensorflow = (1,), "float32", False

            def labels(self):
                return np.zeros(1000)

            def read(self, ids):
                return tf.py_function(self.read_arrays, [ids], (tf.float32, tf.float32))

            def read_arrays(self, ids):
                ids = np.asarray(ids)
                if np.isin(ids, [3, 4, 700, 999]).any():
                    raise DataError("The features hold NaN.", place="late")
                return ids[:, np.newaxis], np.zeros(len(ids))

            def locate(self, example_id):
                return f"record {example_id}"

        seen = []
        records = bad_records(Late(), seen.append)
        assert [record.place for record in records] == ["record 3", "record 4", "record 700", "record 999"]
        assert {record.stage for record in records} == {"parse"}
        assert records[0].reason == "The features hold NaN."
        assert sum(seen) == 1000


def test_outliers_are_left_out_as_a_run_leaves_them_out(tmp_path):
    values = np.random.default_rng(0).normal(size=60)
    values[7] = 1e6
    (tmp_path / "t.csv").write_text("a,kind\n" + "".join(f"{v},{row % 2}\n" for row, v in enumerate(values)))
    data = {
        "source": {"kind": "csv", "path": "t.csv", "label": "kind"},
        "split": {"validation": 0.0, "test": 0.0},
        "tabular": {"outliers": "drop"},
    }
    audit = audited(config(tmp_path, data))
    assert audit.counts["train"].num_examples == 59
    assert audit.as_mapping()["in_no_part"] == 1
    assert training_order(numbered(5), InputSection(), 0).num_examples == 5
