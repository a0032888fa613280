"""Trains cases of the ladder in one process: `parity_worker.py RUNGS FOLDER CASE...`, RUNGS such as `keras` or `2`.

Each case leaves FOLDER/<rung>/<case>.npz, or <case>.error with what went wrong. A number of replicas is one process,
because TensorFlow divides the CPU once; `keras` is plain Keras, which never imports distkeras; `workers-2:1@A,B` is
rank 1 of two worker processes at these addresses.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import numpy as np
import parity_models
import tensorflow as tf
from parity_cases import BY_NAME, SEED, Case

Arrays = dict[str, Any]


class Recorder(keras.callbacks.Callback):
    """Keeps what Keras's loop tells a callback: one row a logging point, one an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, list[Mapping[str, float]]] = {"step": [], "epoch": []}
        self.batches: list[int] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches.append(batch)
        self.rows["step"].append({name: float(value) for name, value in logs.items()})

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.rows["epoch"].append({name: float(value) for name, value in logs.items()})


def built(case: Case) -> Callable[[], keras.Model]:
    return lambda: getattr(parity_models, case.model)(**case.arguments)


def series(kind: str, rows: list[Mapping[str, float]]) -> Arrays:
    return {f"{kind}/{name}": np.array([row[name] for row in rows]) for name in rows[0]}


def numbered(kind: str, tensors: Any) -> Arrays:
    return {
        f"{kind}/{index:02d}": np.asarray(tensor) for index, tensor in enumerate(keras.tree.flatten(tensors))
    }


def learned(recorder: Recorder, model: keras.Model) -> Arrays:
    arrays = series("step", recorder.rows["step"]) | series("epoch", recorder.rows["epoch"])
    return arrays | {"batches": np.array(recorder.batches)} | numbered("weights", model.get_weights())


def judged(evaluation: Mapping[str, float], outputs: Any) -> Arrays:
    metrics = {f"evaluate/{name}": np.array([value]) for name, value in evaluation.items()}
    return metrics | numbered("predict", outputs)


# Plain Keras, and Keras's own fit on prepared models.


def batches(case: Case, split: str, steps: list[np.ndarray]) -> tf.data.Dataset:
    """Returns the batches that hold the examples with these ids, one a step."""
    examples = case.examples(split)
    sizes = {len(ids) for ids in steps}
    size = sizes.pop() if len(sizes) == 1 else None

    def element(ids: np.ndarray) -> Any:
        return keras.tree.map_structure(lambda array: array[ids], examples)

    signature = keras.tree.map_structure(
        lambda array: tf.TensorSpec((size, *array.shape[1:]), array.dtype), examples
    )
    dataset = tf.data.Dataset.from_generator(lambda: map(element, steps), output_signature=signature)
    # Where Keras does not know the end it runs into it, and counts one batch too many in unweighted means.
    return dataset.apply(tf.data.experimental.assert_cardinality(len(steps)))


def in_order(case: Case) -> list[np.ndarray]:
    """The ids of the validation steps."""
    count = len(keras.tree.flatten(case.examples("validation"))[0])
    return np.split(np.arange(count), range(case.global_batch_size, count, case.global_batch_size))


def fit(case: Case, model: keras.Model, folder: Path) -> Arrays:
    """Trains with Keras's fit on the very batches that distkeras's order contract names."""
    ids = np.load(folder / "ids" / f"{case.name}.npz")
    steps = [ids[name] for name in sorted(ids.files)]
    validation = batches(case, "validation", in_order(case)) if case.evaluated else None
    recorder = Recorder()
    model.fit(
        batches(case, "train", steps),
        epochs=case.epochs,
        steps_per_epoch=len(steps) // case.epochs,
        validation_data=validation,
        class_weight=case.class_weight,
        callbacks=[*parity_models.callbacks_of(case.model), recorder],
        shuffle=False,
        verbose=0,
    )
    if validation is None:
        return learned(recorder, model)
    evaluation = model.evaluate(validation, verbose=0, return_dict=True)
    return learned(recorder, model) | judged(evaluation, model.predict(validation, verbose=0))


def plain_keras(case: Case, folder: Path) -> Arrays:
    keras.config.set_dtype_policy(case.precision)
    try:
        return fit(case, built(case)(), folder)
    finally:
        keras.config.set_dtype_policy("float32")


def scaled(case: Case, folder: Path, replicas: int) -> Arrays:
    import distkeras as dk

    keras.config.set_dtype_policy(case.precision)
    try:
        with dk.scale(replicas, devices="cpu"):
            return fit(case, dk.prepare(built(case)()), folder)
    finally:
        keras.config.set_dtype_policy("float32")


# distkeras's own loop.


def trained(case: Case, folder: Path, replicas: int) -> Arrays:
    import distkeras as dk
    from distkeras.evaluation.predicting import compute_metrics, predict

    trainer = dk.Trainer(
        case.name,
        epochs=case.epochs,
        global_batch_size=case.global_batch_size,
        replicas=replicas,
        seed=SEED,
        output_dir=folder / "runs" / str(replicas),
        settings=case.trainer_settings(),
    )
    train, validation = source(case, "train"), source(case, "validation") if case.evaluated else None
    recorder = Recorder()
    callbacks = [*parity_models.callbacks_of(case.model), recorder]
    run = trainer.fit(built(case), train, validation=validation, callbacks=callbacks)
    # What is compared is what a user finds in metrics.jsonl; the batches are what callbacks were told.
    rows = run.directory.read_metrics()
    recorder.rows["step"] = [row["metrics"] for row in rows if row["kind"] == "train"]
    recorder.rows["epoch"] = [row["metrics"] for row in rows if row["kind"] == "epoch"]
    if validation is None:
        return learned(recorder, trainer.trained.model)
    batch = {"global_batch_size": case.global_batch_size}
    evaluation = compute_metrics(trainer.trained, validation, **batch)
    outputs = predict(trainer.trained, validation, **batch)
    return learned(recorder, trainer.trained.model) | judged(evaluation, outputs)


def placed_worker(rungs: str) -> Any:
    """Meets the other workers; all cases of the process train among them."""
    from distkeras.distribution.strategy import WorkerStrategy
    from distkeras.topology import Worker
    from distkeras.training.tensorflow_placement import TensorFlowPlacement

    _, _, place = rungs.partition(":")
    rank, _, addresses = place.partition("@")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    worker = Worker(tuple(addresses.split(",")), int(rank))
    strategy = WorkerStrategy(worker, "CPU:0", timeout_seconds=60.0)
    return TensorFlowPlacement(strategy.topology, False, strategy)


def trained_by_workers(case: Case, folder: Path, placement: Any) -> Arrays:
    from distkeras.config.settings import settings_from_mapping
    from distkeras.evaluation.predicting import compute_metrics, predict
    from distkeras.observability.progress import Progress
    from distkeras.observability.run_directory import RunDirectory
    from distkeras.observability.writers import JsonLinesWriter
    from distkeras.training import session
    from distkeras.training.feeding import TrainingData

    settings, input_section = settings_from_mapping(
        {
            "name": case.name,
            "seed": SEED,
            "training.epochs": case.epochs,
            "training.global_batch_size": case.global_batch_size,
        }
        | case.trainer_settings()
    )
    reduction, strategy = settings.topology.reduction, placement.strategy
    strategy.reduction_dtype = tf.bfloat16 if reduction == "bfloat16" else None
    strategy.reduces_steps = isinstance(reduction, str)
    directory = RunDirectory(folder / "runs" / f"worker-{placement.topology.rank}" / case.name)
    directory.create()
    train, validation = source(case, "train"), source(case, "validation") if case.evaluated else None
    data = TrainingData(train, validation, input_section)
    recorder = Recorder()
    writer = JsonLinesWriter(directory.metrics_path)
    with Progress(sys.stderr, quiet=True) as progress:
        result = session.train(
            settings,
            built(case),
            data,
            placement=placement,
            run=directory,
            saved=None,
            progress=progress,
            writer=writer,
            resume_command="",
            callbacks=[*parity_models.callbacks_of(case.model), recorder],
        )
    writer.close()
    rows = directory.read_metrics()
    recorder.rows["step"] = [row["metrics"] for row in rows if row["kind"] == "train"]
    recorder.rows["epoch"] = [row["metrics"] for row in rows if row["kind"] == "epoch"]
    if data.validation is None:
        return learned(recorder, result.model)
    batch = {"global_batch_size": case.global_batch_size}
    evaluation = compute_metrics(result, data.validation, **batch)
    return learned(recorder, result.model) | judged(evaluation, predict(result, data.validation, **batch))


def source(case: Case, split: str) -> Any:
    """Returns examples as `dk.Trainer.fit` takes them: as arrays, or, with several labels, as a source."""
    from parity_sources import StructuredSource

    from distkeras.data.sources.arrays import ArraySource

    examples = case.examples(split)
    return StructuredSource(*examples) if isinstance(examples[1], Mapping) else ArraySource(*examples)


def work(rungs: str, name: str, folder: Path, placement: Any) -> Iterator[tuple[str, Callable[[], Arrays]]]:
    """Yields the rungs of one case or probe that belong to this process, and how each is trained."""
    if rungs == "keras":
        if name in BY_NAME:
            yield "keras", lambda: plain_keras(BY_NAME[name], folder)
    elif placement is not None:
        if name in BY_NAME and "workers-2" in BY_NAME[name].rungs:
            rung = "workers-2" if placement.topology.is_rank_zero else "workers-2-others"
            yield rung, lambda: trained_by_workers(BY_NAME[name], folder, placement)
    elif name not in BY_NAME:
        from parity_probes import PROBES

        yield f"replicas-{rungs}", lambda: PROBES[name](int(rungs), folder / "probes")
    else:
        case = BY_NAME[name]
        if f"replicas-{rungs}" in case.rungs:
            yield f"replicas-{rungs}", lambda: trained(case, folder, int(rungs))
        if f"scale-{rungs}" in case.rungs:
            yield f"scale-{rungs}", lambda: scaled(case, folder, int(rungs))


def divide_cpu(replicas: int) -> None:
    """Must come before TensorFlow's first operation, and the first case may begin with one."""
    from distkeras.config.sections import TopologySection
    from distkeras.distribution.devices import select_devices

    select_devices(TopologySection(devices="cpu", replicas=replicas))


def main(rungs: str, folder: Path, names: list[str]) -> None:
    placement = placed_worker(rungs) if rungs.startswith("workers") else None
    if rungs.isdigit():
        divide_cpu(int(rungs))
    for name in names:
        for rung, train in work(rungs, name, folder, placement):
            keras.utils.clear_session()
            keras.utils.set_random_seed(SEED)
            keep(folder / rung / name, train)


def keep(path: Path, train: Callable[[], Arrays]) -> None:
    """Writes a result whole or not at all: the tests take it as soon as it is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part.npz")
    try:
        np.savez(unfinished, **train())
        unfinished.rename(path.with_suffix(".npz"))
    except Exception:
        path.with_suffix(".error").write_text(traceback.format_exc())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
