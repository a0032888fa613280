"""A Ray Data set is trained on: its blocks keep their order, and what is wrong with it is said in a sentence."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distkeras.config.source_sections import RayDataSource as RayDataSection
from distkeras.data.sources import open_source
from distkeras.errors import ConfigError

CONFIG = """\
task: {kind: tabular_classification}
data:
  source: {kind: ray_data, function: "my_data:waves", label: kind}
model: {builder: mlp, arguments: {hidden_units: [16]}}
training: {epochs: 1, global_batch_size: 20, optimizer: {learning_rate: 0.05}}
logging: {tensorboard: false}
"""
DATA = """\
import random, time
import numpy as np
import ray.data

def waves():
    random.random(), np.random.random()
    def of(batch):
        time.sleep(2 if 375 in batch["id"] else 0)  # the block after it is ready before it
        angle = batch["id"].astype("float64")
        return {"a": np.sin(angle), "b": np.cos(angle), "kind": np.where(np.sin(angle) > 0, "up", "down")}
    return ray.data.range(1000, override_num_blocks=8).map_batches(of, batch_size=None)

def pictures():
    def of(batch):
        return {"x": np.stack([np.full((2, 3, 1), n, "uint8") for n in batch["id"]]), "y": batch["id"] % 3}
    return ray.data.range(100, override_num_blocks=3).map_batches(of, batch_size=None)

def frames():
    import pandas as pd
    tables = [{"a": [1, 2], "kind": [0.5, 1]}, {"a": [3, 4], "kind": [2, 3]}]
    return ray.data.from_pandas([pd.DataFrame(table) for table in tables])

def raises():
    def of(batch):
        raise ValueError("the sensor was off")
    return ray.data.range(10).map_batches(of)

def holes():
    return ray.data.from_items([{"a": 1.0, "kind": 0}, {"a": None, "kind": 1}])

def holes_in_labels():
    return ray.data.from_items([{"a": 1.0, "kind": 0}, {"a": 2.0, "kind": None}])

def texts():
    return ray.data.from_items([{"a": "one", "kind": 0}])

def nothing():
    return ray.data.range(0)

def no_data():
    return [1, 2, 3]
"""
# Ray changes the environment and the signals of its process, so it has one of its own.
SCRIPT = """\
import json, os, random, sys
import numpy as np
import ray
sys.path.insert(0, ".")
from distkeras.config.source_sections import RayDataSource as Section
from distkeras.data.sources import open_source, ray_data, ray_session
from distkeras.errors import DistkerasError

def opened(function, label="kind", **options):
    return open_source(Section(kind="ray_data", function=f"my_data:{function}", label=label, **options))

def error(function, **options):
    try:
        source = opened(function, **options)
        source.read_arrays(np.arange(source.num_examples))
    except DistkerasError as error:
        return [type(error).__name__, *error.lines()]

def facts(source, ids):
    features, labels = source.read_arrays(np.array(ids))
    return {
        "shape": source.feature_shape, "dtype": source.feature_dtype, "types": [str(features.dtype), str(labels.dtype)],
        "names": source.feature_names, "classes": source.class_names, "blocks": source.block_starts.tolist(),
        "features": features.tolist(), "labels": labels.tolist(), "all": source.labels().tolist(),
        "fingerprint": source.fingerprint, "place": source.locate(ids[0]),
    }

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
before = random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2]
waves = opened("waves")
after = random.getstate(), np.random.get_state()[1].tolist(), np.random.get_state()[2]
found = {
    "random state": before == after,
    "waves": facts(waves, [999, 0, 500, 0]),
    "again": opened("waves").fingerprint,
    "b": facts(opened("waves", features=["b"]), [0]),
    "in a graph": [str(part.dtype) + str(part.shape) for part in waves.read(np.array([1, 2]))],
    "pictures": facts(opened("pictures", "y"), [99, 33]),
    "frames": facts(opened("frames"), [3, 0]),
    "column": error("waves", features=["c"]),
}
for name in ("raises", "holes", "holes_in_labels", "texts", "no_data"):
    found[name] = error(name)
found["nothing"] = error("nothing", label="id")
found["window"] = waves.window_blocks
ray_data.CACHE_BYTES = 4 * 1000
found["small window"] = opened("waves").window_blocks
ray_data.CACHE_BYTES = 900
found["large block"] = error("waves")
ray.shutdown()
ray.init(address="local", num_cpus=0, include_dashboard=False, log_to_driver=False)
ray_session.CPU_SECONDS = 0.1
found["no cpu"] = error("waves")
ray.shutdown()
os.environ["RAY_ADDRESS"] = "127.0.0.1:1"
found["no cluster"] = error("waves")
print("FOUND", json.dumps(found))
"""
OUR_LINES = re.compile(
    r"importing TensorFlow [\d.]+|opening the ray_data data|global batch 20 = .* -> 35 steps an epoch|epoch=1/1 .*"
    r"|testing on 150 examples"
)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    environment.pop("RAY_ADDRESS", None)
    (folder / "my_data.py").write_text(DATA)
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, text=True, capture_output=True, check=False, timeout=250
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    result = run(tmp_path_factory.mktemp("ray"), "-c", SCRIPT)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.partition("FOUND")[2])


def test_rows_keep_the_order_of_their_blocks(found: dict[str, Any]) -> None:
    waves, angles = found["waves"], np.array([999, 0, 500, 0])
    assert waves["blocks"] == list(range(0, 1001, 125))
    np.testing.assert_allclose(waves["features"], np.stack([np.sin(angles), np.cos(angles)], 1), atol=1e-6)
    assert waves["all"] == (np.sin(np.arange(1000)) > 0).astype(int).tolist()
    assert waves["labels"] == [waves["all"][index] for index in angles]


def test_initial_weights_do_not_depend_on_what_ray_or_the_function_draws(found: dict[str, Any]) -> None:
    assert found["random state"]


def test_columns_of_numbers_are_one_matrix(found: dict[str, Any]) -> None:
    waves = found["waves"]
    assert (waves["shape"], waves["dtype"], waves["types"]) == ([2], "float32", ["float32", "int64"])
    assert (waves["names"], waves["classes"]) == (["a", "b"], ["down", "up"])
    assert (found["b"]["names"], found["b"]["features"]) == (["b"], [[1.0]])
    assert found["in a graph"] == ["<dtype: 'float32'>(2, 2)", "<dtype: 'int64'>(2,)"]
    assert waves["place"] == "my_data:waves row 1000"


def test_one_column_of_arrays_keeps_its_shape_and_type(found: dict[str, Any]) -> None:
    pictures = found["pictures"]
    assert (pictures["shape"], pictures["dtype"], pictures["types"][0]) == ([2, 3, 1], "uint8", "uint8")
    assert (np.array(pictures["features"]) == np.array([99, 33]).reshape(2, 1, 1, 1)).all()
    assert pictures["labels"] == [0, 0]


def test_blocks_of_pandas_are_read_too(found: dict[str, Any]) -> None:
    frames = found["frames"]
    assert (frames["blocks"], frames["features"], frames["labels"]) == ([0, 2, 4], [[4.0], [1.0]], [3.0, 0.5])


def test_the_fingerprint_is_of_columns_rows_and_labels(found: dict[str, Any]) -> None:
    assert found["again"] == found["waves"]["fingerprint"]
    assert len({found[name]["fingerprint"] for name in ("waves", "b", "pictures", "frames")}) == 4


def test_a_window_of_blocks_fits_into_memory(found: dict[str, Any]) -> None:
    assert (found["window"], found["small window"]) == (8, 2)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("raises", ["DataError", "The Ray Data set cannot be made: ValueError: the sensor was off"]),
        ("holes", ["DataError", "Column 'a' has 1 empty cell.", "  where: my_data:holes row 2, column 'a'"]),
        ("holes_in_labels", ["DataError", "Column 'kind' has 1 empty cell."]),
        (
            "texts",
            [
                "DataError",
                "The feature column 'a' is neither numbers nor the one column of arrays of one shape.",
                "  where: my_data:texts",
            ],
        ),
        ("large block", ["DataError", "A block takes 0.0 GiB in memory; 0 GiB is allowed."]),
        ("nothing", ["DataError", "There are no rows in the Ray Data set."]),
        ("no_data", ["DataError", "The function of the data returned no Ray Data set."]),
        (
            "no cluster",
            [
                "ResourceError",
                "There is no Ray cluster at this address.",
                "  where: RAY_ADDRESS: 127.0.0.1:1",
            ],
        ),
        ("column", ["DataError", "There is no feature column 'c'.", "  where: my_data:waves"]),
        (
            "no cpu",
            ["ResourceError", "No CPU of the Ray cluster is free, and Ray Data needs one to make the data."],
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(found: dict[str, Any], name: str, lines: list[str]) -> None:
    assert found[name][: len(lines)] == lines


def test_train_starts_a_ray_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "waves.yaml").write_text(CONFIG)
    result = run(tmp_path, "-m", "distkeras", "train", "--config", "waves.yaml", "--json")
    assert result.returncode == 0, result.stderr
    outcome = json.loads(result.stdout)
    assert (outcome["status"], outcome["step"]) == ("completed", 35)
    assert outcome["metrics"]["test_accuracy"] > 0.9
    assert [line for line in result.stderr.splitlines() if not OUR_LINES.fullmatch(line)] == []


def test_without_ray_data_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "data_of_nobody.py").write_text("def rows(): ...")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="Ray Data cannot be imported") as raised:
        open_source(RayDataSection(kind="ray_data", function="data_of_nobody:rows", label="y"))
    assert raised.value.remedy == 'install it with: pip install "ray[data]"'
