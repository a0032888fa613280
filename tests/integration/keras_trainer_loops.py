"""Train loops of Ray users: `keras_trainer_loops.py FOLDER`, on the cluster of RAY_ADDRESS; the test reads FOLDER."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import ray
import tensorflow as tf
from ray import train
from ray.train.tensorflow.keras import ReportCheckpointCallback

import distkeras.ray as dr

SIZE = 8
OWN = {0: slice(0, 40), 1: slice(40, 60)}


def examples() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
    return x, x.sum(1, keepdims=True)


def model(seed: int, *, batch_norm: bool = False, **options: Any) -> keras.Model:
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)]
    if batch_norm:
        layers.insert(2, keras.layers.BatchNormalization(momentum=0.5))
    built = keras.Sequential(layers)
    built.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"], **options)
    return built


class Leaving(keras.callbacks.Callback):
    """Stops after one epoch, on rank one alone."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.stop_training = train.get_context().get_world_rank() == 1


def uneven(rank: int, folder: Path) -> dict[str, Any]:
    """One worker has five batches and the other two and a half; seeds differ, and so would the first weights."""
    x, y = examples()
    data = tf.data.Dataset.from_tensor_slices((x[OWN[rank]], y[OWN[rank]])).batch(SIZE)
    trained = dr.prepare_model(model(rank))
    history = trained.fit(
        data,
        epochs=2,
        validation_data=data,
        callbacks=[keras.callbacks.ModelCheckpoint(str(folder / f"by-rank-{rank}.keras"))],
        verbose=0,
    )
    evaluation = trained.evaluate(x[OWN[rank]], y[OWN[rank]], batch_size=4, verbose=0, return_dict=True)
    predicted = trained.predict(x[OWN[rank]], verbose=0)
    return {"history": history.history, "evaluation": evaluation, "rows": len(predicted), **weights(trained)}


def executions(rank: int, folder: Path) -> dict[str, Any]:
    """Three steps a call; one worker has nothing at all, and a callback of one rank stops all."""
    x, y = examples()
    own = slice(0, 60 if rank == 0 else 0)
    trained = dr.prepare_model(model(rank, batch_norm=True, steps_per_execution=3))
    history = trained.fit(
        x[own], y[own], batch_size=SIZE, epochs=3, shuffle=False, callbacks=[Leaving()], verbose=0
    )
    return {"history": history.history, **weights(trained)}


def fixed(rank: int, folder: Path) -> dict[str, Any]:
    """Batches of a fixed size: all end with the shortest."""
    x, y = examples()
    data = tf.data.Dataset.from_tensor_slices((x[OWN[rank]], y[OWN[rank]])).batch(SIZE, drop_remainder=True)
    trained = dr.prepare_model(model(rank))
    trained.fit(data, verbose=0)
    return {"steps": int(trained.optimizer.iterations), **weights(trained)}


def shards(rank: int, folder: Path) -> dict[str, Any]:
    """Ray Data, without a row of Python; and what Ray Train is told of it."""
    data = dr.batches(train.get_dataset_shard("train"), global_batch_size=2 * SIZE, features="x", label="y")
    fed = [np.asarray(features).tolist() for features, _ in data]
    trained = dr.prepare_model(model(rank))
    history = trained.fit(data, epochs=2, callbacks=[ReportCheckpointCallback()], verbose=0)
    saved = folder / f"saved-{rank}"
    saved.mkdir()
    if rank == 0:
        trained.save(saved / "model.keras")
    checkpoint = train.Checkpoint.from_directory(saved) if rank == 0 else None
    train.report({"loss": history.history["loss"][-1]}, checkpoint=checkpoint)
    return {"history": history.history, "fed": fed, **weights(trained)}


def differing(rank: int, folder: Path) -> dict[str, Any]:
    """What would hang or train nonsense is refused on both workers."""
    x, y = examples()
    trained = dr.prepare_model(model(rank))
    said = []
    for arguments in ({"epochs": 1 + rank}, {"validation_split": 0.5}):
        try:
            trained.fit(x, y, verbose=0, **arguments)
        except Exception as error:
            said.append(str(error))
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(SIZE if rank else 4, drop_remainder=True)
    try:
        trained.fit(data, verbose=0)
    except Exception as error:
        said.append(str(error))
    if rank == 1:
        trained.layers[0].kernel.assign_add(keras.ops.ones((4, 8)))
    try:
        trained.fit(x, y, verbose=0)
    except Exception as error:
        said.append(str(error))
    return {"said": said}


def weights(trained: keras.Model) -> dict[str, Any]:
    return {"weights": [value.tolist() for value in trained.get_weights()]}


def loop(config: dict[str, Any]) -> None:
    rank, folder = train.get_context().get_world_rank(), Path(config["folder"])
    for part in (uneven, executions, fixed, shards, differing):
        (folder / f"{part.__name__}-{rank}.json").write_text(json.dumps(part(rank, folder)))


def main(folder: Path) -> None:
    ray.init(log_to_driver=False)
    x, _ = examples()
    data = ray.data.from_numpy(x).rename_columns({"data": "x"})
    data = data.map_batches(lambda part: part | {"y": part["x"].sum(1, keepdims=True)})
    trainer = dr.KerasTrainer(
        loop,
        train_loop_config={"folder": str(folder)},
        keras_config=dr.KerasConfig(timeout_seconds=60),
        scaling_config=train.ScalingConfig(num_workers=2),
        run_config=train.RunConfig(name="loops", storage_path=str(folder / "store")),
        datasets={"train": data},
    )
    result = trainer.fit()
    (folder / "result.json").write_text(json.dumps([result.metrics, result.checkpoint.path]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
