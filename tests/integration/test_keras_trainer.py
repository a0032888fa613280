"""Ray users: `KerasTrainer` with a train loop of one's own, on one local Ray cluster for all tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))  # pytest's importlib mode leaves test folders out

# Here, as they import Ray, which sets an environment variable when it is imported.
import keras_trainer_loops as script  # noqa: E402
import ray_example  # noqa: E402

pytestmark = [
    # Ray leaves files open that it writes to until the process ends.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]

CLUSTER = """\
import sys, ray
print(ray.init(address="local", num_cpus=4, include_dashboard=False).address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """The environment of programs that join a cluster of our own, which ends with the process that holds it."""
    variables = {**os.environ, "RAY_AUTH_MODE": "disabled", "CUDA_VISIBLE_DEVICES": "-1"}
    variables.pop("RAY_ADDRESS", None)
    holder = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        env=variables,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    yield variables | {"RAY_ADDRESS": holder.stdout.readline().strip()}
    holder.communicate(timeout=60)


@pytest.fixture(scope="module")
def run_script(environment, tmp_path_factory) -> Callable[[str], Path]:
    def run(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        done = subprocess.run(
            [sys.executable, str(FOLDER / f"{name}.py"), str(folder)],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=150,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return folder

    return run


@pytest.fixture(scope="module")
def example(run_script) -> Path:
    return run_script("ray_example")


@pytest.fixture(scope="module")
def loops(run_script) -> Path:
    return run_script("keras_trainer_loops")


def both(folder: Path, part: str) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{part}-{rank}.json").read_text()) for rank in (0, 1)]


def one_process(model: keras.Model, steps: Sequence[Any], epochs: int) -> dict[str, list[float]]:
    """Trains with Keras alone on global batches, and returns the history."""
    x, y = steps[0]
    spec = tuple(tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in (x, y))
    data = tf.data.Dataset.from_generator(lambda: iter(steps), output_signature=spec)
    data = data.apply(tf.data.experimental.assert_cardinality(len(steps)))
    return model.fit(data, epochs=epochs, shuffle=False, verbose=0).history


def global_batches(parts: Sequence[tuple[np.ndarray, np.ndarray]], size: int) -> list[Any]:
    """Returns each step's examples over all workers, of whom some end before others."""
    longest = max(len(x) for x, _ in parts)
    return [
        tuple(np.concatenate([part[index][begin : begin + size] for part in parts]) for index in (0, 1))
        for begin in range(0, longest, size)
    ]


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


# Ray's documented example.


def test_the_documented_example_moves_with_three_lines() -> None:
    texts = (ray_example.documented(), ray_example.moved())
    lines = zip(*(text.strip().splitlines() for text in texts), strict=True)
    assert sum(old != new for old, new in lines) == 3 + len(ray_example.CHANGED_FOR_KERAS_3)


def test_the_moved_example_ends_with_equal_weights(example) -> None:
    first, second = (np.load(example / f"rank-{rank}.npz") for rank in (0, 1))
    for index in (0, 1):
        np.testing.assert_array_equal(first[f"last/{index}"], second[f"last/{index}"])
        assert np.any(first[f"last/{index}"] != first[f"first/{index}"])


def test_the_moved_example_trains_as_one_process_does(example) -> None:
    ranks = [np.load(example / f"rank-{rank}.npz") for rank in (0, 1)]
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("adam", "mean_squared_error", metrics=["mse"])
    model.set_weights([ranks[0]["first/0"], ranks[0]["first/1"]])
    losses = []
    for epoch in np.split(np.stack([rank["rows"] for rank in ranks], axis=1), 2):
        steps = [(rows[:, np.newaxis].astype("int64"), rows.astype("int64") + 1) for rows in epoch]
        losses += one_process(model, steps, epochs=1)["loss"]
    assert_close(ranks[0]["loss"], losses)
    np.testing.assert_array_equal(ranks[0]["loss"], ranks[1]["loss"])
    for index, value in enumerate(model.get_weights()):
        assert_close(ranks[0][f"last/{index}"], value)


# Train loops of one's own.


def test_uneven_parts_train_as_one_process_and_lose_no_example(loops) -> None:
    x, y = script.examples()
    parts = [(x[rows], y[rows]) for rows in script.OWN.values()]
    model = script.model(0)
    history = one_process(model, global_batches(parts, script.SIZE), epochs=2)
    results = both(loops, "uneven")
    assert results[0]["history"] == results[1]["history"]
    for name, values in history.items():
        assert_close(results[0]["history"][name], values)
    for worker in results:
        for trained, expected in zip(worker["weights"], model.get_weights(), strict=True):
            assert_close(trained, expected, 1e-4)


def test_evaluation_is_over_the_data_of_all_workers_and_prediction_over_ones_own(loops) -> None:
    model = script.model(0)
    results = both(loops, "uneven")
    model.set_weights([np.array(value) for value in results[0]["weights"]])
    expected = model.evaluate(*script.examples(), verbose=0, return_dict=True)
    for worker in results:
        assert_close([worker["evaluation"][name] for name in expected], list(expected.values()))
        assert_close(worker["history"]["val_loss"][-1], expected["loss"])
    assert [worker["rows"] for worker in results] == [40, 20]


def test_only_rank_zero_writes(loops) -> None:
    assert [path.name for path in loops.glob("by-rank-*.keras")] == ["by-rank-0.keras"]


def test_a_worker_without_examples_goes_along_and_one_that_stops_stops_all(loops) -> None:
    first, second = both(loops, "executions")
    assert len(first["history"]["loss"]) == 1
    assert first["history"] == second["history"]
    for one, other in zip(first["weights"], second["weights"], strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.isfinite(one).all()


def test_batches_of_a_fixed_size_end_with_the_shortest(loops) -> None:
    assert [worker["steps"] for worker in both(loops, "fixed")] == [2, 2]


def test_a_ray_data_shard_trains_as_one_process(loops) -> None:
    results = both(loops, "shards")
    rows = [np.concatenate([np.array(batch, "float32") for batch in worker["fed"]]) for worker in results]
    assert sorted(map(tuple, np.concatenate(rows))) == sorted(map(tuple, script.examples()[0]))
    model = script.model(0)
    steps = global_batches([(x, x.sum(1, keepdims=True)) for x in rows], script.SIZE)
    history = one_process(model, steps, epochs=2)
    assert_close(results[0]["history"]["loss"], history["loss"])
    assert_close(results[1]["weights"][0], model.get_weights()[0], 1e-4)


def test_ray_gets_its_report_and_a_checkpoint_that_loads(loops) -> None:
    metrics, checkpoint = json.loads((loops / "result.json").read_text())
    first, _ = both(loops, "shards")
    assert metrics["loss"] == first["history"]["loss"][-1]
    model = keras.models.load_model(Path(checkpoint) / "model.keras")
    np.testing.assert_array_equal(model.get_weights()[0], np.array(first["weights"][0], "float32"))


@pytest.mark.parametrize(
    ("index", "sentence"),
    [
        (0, "The workers differ in the argument `epochs` of fit."),
        (1, "Over several workers validation data cannot be split off."),
        (2, "The workers differ in the types and shapes of their batches."),
        (3, "The weights of rank 1 are no longer those of rank 0"),
    ],
)
def test_what_would_hang_or_stray_is_refused_on_all_workers(loops, index: int, sentence: str) -> None:
    for worker in both(loops, "differing"):
        assert worker["said"][index].startswith(sentence)
