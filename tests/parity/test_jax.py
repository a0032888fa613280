"""The JAX engine: the numbers of TensorFlow's on one process, the same on two, split models, stops, and no TensorFlow.

What Keras's own backends do differently is left out here, and named where it is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytestmark = [
    pytest.mark.skipif(find_spec("jax") is None, reason="the extra `jax` is not installed"),
    pytest.mark.timeout(600),  # the first test waits for all processes
]

WORKER = Path(__file__).with_name("jax_worker.py")
ON_BOTH_ENGINES = ("clipped", "batch_norm", "masked", "weighted", "two_outputs", "accumulated")
SECONDS = 400
# XLA's optimisations take longer here than what they save.
ENVIRONMENT = {
    **os.environ,
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
# Keras on JAX loses the mask on its way out of `jax.value_and_grad`, so that metrics of training count masked tokens;
# its TensorFlow backend weighs single outputs' losses of an uneven batch by the batch that was traced.
KERAS_DIFFERS = {
    "masked": ("train/accuracy", "epoch/accuracy"),
    "two_outputs": (
        *("epoch/val_kind_loss", "epoch/val_amount_loss"),
        *("evaluate/kind_loss", "evaluate/amount_loss"),
    ),
}


def free_addresses(count: int) -> str:
    from distkeras.distribution.ports import free_ports

    return ",".join(f"127.0.0.1:{port}" for port in free_ports(count, "127.0.0.1"))


def train(engine: str, folder: Path, cases: Sequence[str], num_workers: int = 1) -> Path:
    """Trains cases in one process or several; returns where their results are."""
    folder.mkdir()
    addresses = free_addresses(num_workers) if num_workers > 1 else ""
    processes = [
        subprocess.Popen(
            [sys.executable, str(WORKER), engine, str(folder), str(rank), addresses, *cases],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(num_workers)
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=SECONDS)
            assert process.returncode == 0, output[-6000:]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return folder


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, str], dict[str, np.ndarray]]:
    """Returns the result of a case on `tensorflow`, `jax-1` or `jax-2` (processes)."""
    root = tmp_path_factory.mktemp("jax")
    with ThreadPoolExecutor(2) as pool:
        tensorflow = pool.submit(train, "tensorflow", root / "tensorflow", ON_BOTH_ENGINES)
        alone = pool.submit(train, "jax", root / "jax-1", [*ON_BOTH_ENGINES, "transformer"])
        tensorflow.result(), alone.result()
    train("jax", root / "jax-2", [*ON_BOTH_ENGINES, "split"], num_workers=2)

    def result(rung: str, case: str) -> dict[str, np.ndarray]:
        with np.load(root / rung / f"{case}.npz") as arrays:
            return dict(arrays)

    return result


def differences(
    actual: dict[str, np.ndarray], reference: dict[str, np.ndarray], without: Sequence[str] = ()
) -> list[str]:
    found: list[str] = []
    for name in sorted(name for name in reference if not name.startswith("split/") and name not in without):
        kind = name.partition("/")[0]
        assert actual[name].shape == reference[name].shape, name
        difference = np.abs(actual[name].astype(np.float64) - reference[name])
        scale, tolerance = np.maximum(np.abs(reference[name]), 1e-6), 1e-5
        if kind in ("weights", "output"):
            scale, tolerance = np.ones(()), 1e-4
        if not (difference <= tolerance * scale).all():
            found.append(f"{name}: {(difference / scale).max():.1e}")
    return found


@pytest.mark.parametrize("case", ON_BOTH_ENGINES)
def test_one_process_gives_the_numbers_of_tensorflow(case: str, results) -> None:
    reference = results("tensorflow", case)
    assert len(reference["train/loss"]) >= (45 if case == "two_outputs" else 10)
    assert differences(results("jax-1", case), reference, KERAS_DIFFERS.get(case, ())) == []


@pytest.mark.parametrize("case", ON_BOTH_ENGINES)
def test_two_processes_give_the_numbers_of_one(case: str, results) -> None:
    assert differences(results("jax-2", case), results("jax-1", case)) == []


def test_a_split_model_gives_the_numbers_of_a_whole_one(results) -> None:
    split, whole = results("jax-2", "split"), results("jax-1", "transformer")
    assert differences(split, whole) == []
    # Three kernels and one bias of the feed-forward part, the embedding, four kernels of the attention: split, and so
    # is each one's momentum.
    assert (int(split["split/weights"]), int(split["split/optimizer"])) == (8, 8)
    assert int(whole["split/weights"]) == 0


CONFIG = """\
task: {kind: tabular_classification}
engine: jax
data:
  source: {kind: synthetic, num_examples: 3000, shape: [8], num_classes: 3}
  remainder: partial
model: {builder: mlp, arguments: {hidden_units: [16], dropout: 0.2}}
training: {epochs: 4, global_batch_size: 16, steps_per_execution: 2}
topology: {kind: processes, workers: 2, devices: cpu, timeout_seconds: 60}
checkpoint: {every_steps: 20}
logging: {every_steps: 5, tensorboard: false}
"""


MODELS = """\
import jax
import keras

def stack(input_shape, num_outputs, width=8):
    hidden = keras.layers.Dense(width, "relu")
    head = keras.layers.Dense(num_outputs, "softmax")
    return keras.Sequential([keras.Input(input_shape), hidden, head])

def wider_on_rank_one(input_shape, num_outputs):
    return stack(input_shape, num_outputs, width=8 + jax.process_index())

class Failing(keras.Model):
    def train_step(self, state, data):
        if jax.process_index() == 1:
            raise ZeroDivisionError("only here")
        return super().train_step(state, data)

def fails_on_rank_one(input_shape, num_outputs):
    model = stack(input_shape, num_outputs)
    return Failing(model.inputs, model.outputs)
"""


def start(folder: Path, name: str, *changes: str) -> subprocess.Popen[str]:
    (folder / "run.yaml").write_text(CONFIG)
    (folder / "jax_models.py").write_text(MODELS)
    command = [sys.executable, "-m", "distkeras", "train", "--config", "run.yaml", "--set", f"name={name}"]
    command += [argument for change in changes for argument in ("--set", change)]
    return subprocess.Popen(
        command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        _, errors = process.communicate(timeout=200)
    finally:
        process.kill()
    return process.returncode, errors


def wait_for_step(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Waits until a step is committed that is later than one."""
    deadline = time.monotonic() + 150
    while not any(
        int(path.name[5:]) > step for path in run.glob("checkpoints/step-*") if path.name[5:].isdigit()
    ):
        assert process.poll() is None, end(process)
        assert time.monotonic() < deadline
        time.sleep(0.01)


def last_step(run: Path) -> int:
    return max(int(path.name[5:]) for path in run.glob("checkpoints/step-*") if path.name[5:].isdigit())


def weights_of(run: Path) -> dict[str, np.ndarray]:
    [path] = run.glob("weights/step-*/state.npz")
    with np.load(path) as arrays:
        return dict(arrays)


def test_a_run_that_was_stopped_and_lost_a_worker_ends_with_the_same_bits(forked, tmp_path: Path) -> None:
    whole, broken = start(tmp_path, "whole"), start(tmp_path, "broken")
    run = tmp_path / "runs" / "broken"
    wait_for_step(run, 0, broken)
    broken.send_signal(signal.SIGINT)
    code, errors = end(broken)
    assert code == 130, errors
    assert "is committed" in errors

    stopped_at = last_step(run)
    again = start(tmp_path, "broken")
    wait_for_step(run, stopped_at, again)
    os.kill(forked(again).workers[1], signal.SIGKILL)
    code, errors = end(again)
    assert code == 0, errors
    assert f"resuming from step {stopped_at}" in errors
    assert "was lost (SIGKILL)" in errors
    assert end(whole)[0] == 0

    expected, actual = weights_of(tmp_path / "runs" / "whole"), weights_of(run)
    assert expected.keys() == actual.keys()
    assert [name for name in expected if not np.array_equal(expected[name], actual[name])] == []
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if row["kind"] == "train"]
    assert steps == sorted(set(steps))


def test_what_goes_wrong_on_one_rank_is_told_by_it(tmp_path: Path) -> None:
    once = ("topology.max_failures=0", "model.arguments={}")
    wider = start(tmp_path, "wider", "model.builder=jax_models:wider_on_rank_one", *once)
    failing = start(tmp_path, "failing", "model.builder=jax_models:fails_on_rank_one", *once)
    code, errors = end(wider)
    assert code == 2, errors
    assert "error: The workers differ in the shapes of the model's variables." in errors
    assert "'rank 0': [8, 8, 'float32'], 'rank 1': [8, 9, 'float32']" in errors
    code, errors = end(failing)
    assert code == 5, errors
    assert "ZeroDivisionError: only here" in errors
    assert "  where: rank 1" in errors.splitlines()


def test_a_worker_that_never_comes_is_waited_for_so_long_and_named(tmp_path: Path) -> None:
    code = (
        "import os; os.environ['KERAS_BACKEND'] = 'jax'\n"
        "from distkeras.config.settings import settings_from_mapping\n"
        "from distkeras.errors import ResourceError\n"
        "from distkeras.topology import Worker\n"
        "from distkeras.training.session import place\n"
        "settings, _ = settings_from_mapping({'name': 'a', 'engine': 'jax', 'topology.timeout_seconds': 2.0})\n"
        f"addresses = tuple({free_addresses(2)!r}.split(','))\n"
        "try: place(settings, Worker(addresses, 0))\n"
        "except ResourceError as error: print(error, error.exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=100,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "Not all of the 2 workers came within 2 s." in done.stdout
    assert "nothing from rank 1" in done.stdout


WITHOUT_TENSORFLOW = """\
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            raise ModuleNotFoundError("blocked", name="tensorflow")

sys.meta_path.insert(0, Blocked())
from distkeras.cli.main import main
sys.argv = ["distkeras", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("kind", ["synthetic", "arrays"])
def test_trains_evaluates_and_predicts_without_tensorflow(kind: str, tmp_path: Path) -> None:
    numbers = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=numbers.normal(size=(200, 8)).astype("float32"), y=np.arange(200) % 3)
    config = CONFIG.replace(
        "topology: {kind: processes, workers: 2, devices: cpu, timeout_seconds: 60}\n", ""
    )
    config = config.replace("epochs: 4", "epochs: 1").replace("num_examples: 3000", "num_examples: 200")
    if kind == "arrays":
        synthetic = "{kind: synthetic, num_examples: 200, shape: [8], num_classes: 3}"
        config = config.replace(synthetic, "{kind: arrays, path: data.npz}\n  normalize: standard")
    (tmp_path / "run.yaml").write_text(config)

    code, output, errors = without_tensorflow(tmp_path, "train", "--config", "run.yaml")
    assert code == 0, errors
    assert "test_accuracy" in output
    if kind == "arrays":
        code, _, errors = without_tensorflow(
            tmp_path, "predict", "runs/run", "--data", "data.npz", "--out", "out.csv"
        )
        assert code == 0, errors
        assert len((tmp_path / "out.csv").read_text().splitlines()) == 201


def test_what_needs_tensorflow_is_refused_where_it_is_missing(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=numbers.integers(0, 255, (60, 8, 8, 1), np.uint8), y=np.arange(60) % 3)
    (tmp_path / "run.yaml").write_text(
        "engine: jax\ntask: {kind: image_classification}\nmodel: {builder: cnn}\n"
        "data: {source: {kind: arrays, path: data.npz}, image: {random_crop: 1}}\n"
        "training: {global_batch_size: 8}\n"
    )
    code, _, errors = without_tensorflow(tmp_path, "train", "--config", "run.yaml")
    assert code == 2, errors
    assert "This is read or changed by TensorFlow, which is not installed." in errors


def without_tensorflow(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Runs the program where nothing can import TensorFlow."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=150,
    )
    return done.returncode, done.stdout, done.stderr
