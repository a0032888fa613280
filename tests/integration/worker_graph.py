"""One of two workers that trace steps and say what crosses the network in them: `worker_graph.py RANK ADDRESSES`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

import keras
import tensorflow as tf

from distkeras.distribution.strategy import WorkerStrategy
from distkeras.topology import Worker
from distkeras.training.step import one_step


def metrics() -> list[Any]:
    return ["accuracy", "mae", "mse", keras.metrics.AUC(), keras.metrics.TopKCategoricalAccuracy(2)]


def model(width: int, *, mask: bool = False, embedding: bool = False) -> keras.Model:
    inputs = keras.Input((8,))
    hidden = keras.layers.Embedding(1000, 4, mask_zero=mask)(inputs) if embedding or mask else inputs
    hidden = keras.layers.Dense(width, "relu")(hidden)
    outputs = keras.layers.Dense(3, "softmax")(hidden if mask else keras.layers.Flatten()(hidden))
    built = keras.Model(inputs, outputs)
    built.compile("adam", "categorical_crossentropy", metrics=[] if mask else metrics())
    return built


def operations(built: keras.Model, strategy: Any, batch: int | None, **options: Any) -> dict[str, int]:
    labels = (batch, *built.output_shape[1:])
    spec = (tf.TensorSpec((batch, 8)), tf.TensorSpec(labels))
    built._symbolic_build(data_batch=spec)
    step = tf.function(one_step(built, strategy, "train_step", **options))
    graph = step.get_concrete_function(spec).graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    counts = Counter(node.op for node in nodes)
    compiled = any(function.attr["_XlaMustCompile"].b for function in graph.library.function)
    wanted = {name: counts[name] for name in ("CollectiveReduceV2", "CollectiveGatherV2")}
    return wanted | {"compiled": int(compiled)}


def main(rank: int, addresses: str) -> None:
    strategy = WorkerStrategy(Worker(tuple(addresses.split(",")), rank), "CPU:0", timeout_seconds=60.0)
    found: dict[str, Any] = {}
    with strategy.scope():
        found["equal batches, 5 metrics"] = operations(model(16), strategy, 4)
        found["unequal batches"] = operations(model(16), strategy, None)
        found["10 MB of gradients"] = operations(model(250_000), strategy, 4)
        found["embedding"] = operations(model(16, embedding=True), strategy, 4)
        found["masked loss"] = operations(model(16, mask=True), strategy, 4)
        found["compiled"] = operations(model(16), strategy, 4, jit_compile=True)
        found["masked loss, compiled"] = operations(model(16, mask=True), strategy, 4, jit_compile=True)
        strategy.reduces_steps = False
        found["apart"] = operations(model(16), strategy, 4)
    print(json.dumps(found))
    strategy.collectives.exchange("done")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
