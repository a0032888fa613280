"""C9: how long is it from the kill of a worker to the first new step?

    pip install -e ".[bench]"
    python benchmarks/c09_lost_worker.py [--pairs 5] [--out benchmarks/results] [--compare OLD.json]

Two workers train the MLP of C1; after the second commit rank one is killed with SIGKILL, and the clock starts. It stops
when rank zero of the group that takes its place has told of a step. Fresh processes, interleaved:

- processes: `distkeras train` on plain worker processes;
- ray: the same on Ray Train workers, on a cluster that the run starts itself;
- ray_train, the peer: the loop that Ray documents for its TensorflowTrainer, legacy Keras under
  MultiWorkerMirroredStrategy, with a FailureConfig and a checkpoint reported after each epoch;
- script, the bound: a plain Keras script to the end of its first step, as in C10. It imports, loads and traces what a
  new worker must, alone on the machine; the weights to restore beside take 40 kB.

Two more figures split the seconds: until a new rank zero has imported and met the other, and from there, with its data
opened and the commit restored, to its first step. Of ours four split them further, by what the command says meanwhile:

- detect: until it is known that a worker was lost, and the other one has ended;
- respawn: another group is started, imports TensorFlow and meets. What of it is importing nobody says; plain processes
  are forked from one that has imported before, and import nothing;
- open: the data is opened, the commit read and the model built;
- restore_and_trace: the weights are restored, the step traced, and the first one taken.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import harness
from c10_start import BATCH, CONFIG, data_file, script_to_first_step
from harness import Benchmark, Derived, Mode
from ratios import Figures, Ratio

LIMIT_SECONDS = 8.0
WAIT_SECONDS = 180.0
POLL_SECONDS = 0.01
STEPS_BETWEEN_COMMITS = 500
# What is said at the end of each part.
OURS = {
    "detect_seconds": "The worker of rank 1 was lost",
    "respawn_seconds": "opening the",
    "open_seconds": "resuming from step",
    "restore_and_trace_seconds": "epoch=",
}
PEERS = {"seconds_to_meet": "met", "seconds_to_step": "step"}

# Lines with the second at which they were said, since the epoch.
Said = Callable[[], Sequence[tuple[float, str]]]


def ours(kind: str) -> Figures:
    """Returns how long `distkeras train` takes to replace a worker."""
    settings = "training.epochs=100000", f"checkpoint.every_steps={STEPS_BETWEEN_COMMITS}"
    command = [sys.executable, "-m", "distkeras", "train", "--config", "run.yaml"]
    command += [argument for setting in settings for argument in ("--set", setting)]
    with tempfile.TemporaryDirectory() as folder:
        topology = f"topology: {{kind: {kind}, workers: 2, devices: cpu}}\n"
        Path(folder, "run.yaml").write_text(CONFIG.replace("{path}", str(data_file())) + topology)
        run = Path(folder, "runs/run")
        with _running(command, folder) as (process, said):
            _wait_until(lambda: len([*run.glob("checkpoints/step-*")]) >= 2, process)
            parts = _split(_kill(_writer_of(run / "logs/rank-1.log")), said, OURS, process)
    detect, respawn, opening, restore_and_trace = (parts[name] for name in OURS)
    return {
        "seconds": sum(parts.values()),
        "seconds_to_meet": detect + respawn,
        "seconds_to_step": opening + restore_and_trace,
        **parts,
    }


def peers() -> Figures:
    """Returns how long Ray Train takes to replace a worker of its TensorflowTrainer."""
    with tempfile.TemporaryDirectory() as folder:
        rank_1, marks = Path(folder, "rank-1"), Path(folder, "marks")

        def said() -> list[tuple[float, str]]:
            lines = (line.split() for line in marks.read_text().splitlines())
            return [(float(second), text) for second, text in lines]

        with _running([sys.executable, __file__, "--peer", folder], folder) as (process, _):
            _wait_until(lambda: len([*Path(folder).glob("run/checkpoint*")]) >= 2, process)
            parts = _split(_kill(int(rank_1.read_text())), said, PEERS, process)
    return {"seconds": sum(parts.values()), **parts}


@contextmanager
def _running(command: Sequence[str], folder: str) -> Iterator[tuple[subprocess.Popen[str], Said]]:
    """Runs a command while the block does; what it prints on stderr is heard, and in its end told where it failed."""
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    lines: list[tuple[float, str]] = []

    def listen() -> None:
        lines.extend((time.time(), line) for line in process.stderr or ())

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        yield process, lambda: list(lines)
    except TimeoutError as error:
        raise SystemExit(f"{''.join(line for _, line in lines[-40:])}{' '.join(command)} {error}") from error
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
        listener.join()


def _wait_until(is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_so():
        if process.poll() is not None:
            raise TimeoutError(f"ended with {process.returncode} before it was measured.")
        if time.monotonic() > deadline:
            raise TimeoutError(f"did not come so far in {WAIT_SECONDS:.0f} s.")
        time.sleep(POLL_SECONDS)


def _writer_of(log: Path) -> int:
    """Returns the process whose stderr a file is: of those, the one that was started first.

    Raises:
        SystemExit: If it is nobody's.
    """
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/2"):
        with suppress(OSError):
            if link.readlink() == log.resolve():
                found.append(int(link.parts[2]))
    if not found:
        raise SystemExit(f"No process writes {log}: its worker had gone before it could be killed.")
    return min(found)


def _kill(process: int) -> float:
    os.kill(process, signal.SIGKILL)
    return time.time()


def _split(
    killed: float, said: Said, signs: Mapping[str, str], process: subprocess.Popen[str]
) -> dict[str, float]:
    """Returns the seconds of each part: from the kill to the first sign, and from each sign to the next."""
    seconds: list[float] = []

    def have_come() -> bool:
        seconds[:] = _times(said(), killed, signs.values())
        return len(seconds) == len(signs)

    _wait_until(have_come, process)
    parts = (end - begin for begin, end in itertools.pairwise([killed, *seconds]))
    return dict(zip(signs, parts, strict=True))


def _times(lines: Sequence[tuple[float, str]], begin: float, signs: Iterable[str]) -> Iterator[float]:
    """Yields when each sign was first seen after the one before, until one has not come yet."""
    rest = ((second, line) for second, line in lines if second > begin)
    for sign in signs:
        found = next((second for second, line in rest if line.startswith(sign)), None)
        if found is None:
            return
        yield found


def train_as_peer(folder: str) -> None:
    """The peer's driver; Ray's TensorflowTrainer needs legacy Keras."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.tensorflow import TensorflowTrainer

    TensorflowTrainer(
        peer_loop,
        train_loop_config={"folder": folder, "data": str(data_file())},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(name="run", storage_path=folder, failure_config=FailureConfig(max_failures=1)),
    ).fit()


def peer_loop(config: Mapping[str, Any]) -> None:
    """What each worker of the peer does: trains epochs without end, and reports a checkpoint after each."""
    from ray import train

    rank, folder = train.get_context().get_world_rank(), Path(config["folder"])
    (folder / f"rank-{rank}").write_text(str(os.getpid()))

    def mark(text: str) -> None:
        if rank == 0:
            with (folder / "marks").open("a") as file:
                print(time.time(), text, file=file)

    import numpy as np
    import tensorflow as tf

    keras = tf.keras
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    mark("met")
    with np.load(config["data"]) as file:
        batches = tf.data.Dataset.from_tensor_slices((file["x"], file["y"])).batch(BATCH).repeat()
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    with strategy.scope():
        layers = [keras.Input((64,)), *(keras.layers.Dense(64, activation="relu") for _ in range(2))]
        model = keras.Sequential([*layers, keras.layers.Dense(10, activation="softmax")])
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    if checkpoint := train.get_checkpoint():
        with checkpoint.as_directory() as saved:
            model.load_weights(Path(saved, "model.weights.h5"))
    step = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: mark("step"))
    while True:
        model.fit(
            batches.with_options(options), steps_per_epoch=STEPS_BETWEEN_COMMITS, verbose=0, callbacks=[step]
        )
        with tempfile.TemporaryDirectory() as scratch:
            model.save_weights(Path(scratch, "model.weights.h5"))
            train.report({}, checkpoint=train.Checkpoint.from_directory(scratch) if rank == 0 else None)


BENCHMARK = Benchmark(
    id="C9",
    script=__file__,
    figure="seconds",
    unit="seconds from the kill to the first new step",
    modes={
        "processes": Mode(partial(ours, "processes")),
        "ray": Mode(partial(ours, "ray"), needs=("ray",)),
        "ray_train": Mode(peers, needs=("ray", "tf_keras")),
        "script": Mode(script_to_first_step),
    },
    derived={"limit": Derived(lambda: LIMIT_SECONDS)},
    subject="ray",
    peer="ray_train",
    bound="script",
    ratios={
        "ratio": Ratio("ray_train", "ray"),
        "bound_ratio": Ratio("ray", "script", better="less"),
        "ray_to_limit": Ratio("ray", "limit", target=1.0, better="less"),
        "processes_to_limit": Ratio("processes", "limit", target=1.0, better="less"),
        "processes_to_ray": Ratio("processes", "ray", better="less"),
    },
    settings={"config": CONFIG, "steps_between_commits": STEPS_BETWEEN_COMMITS},
    packages=("ray", "tf_keras"),
    prepare=data_file,
)

if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        train_as_peer(sys.argv[2])
    else:
        harness.main(BENCHMARK, __doc__)
