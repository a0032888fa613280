"""A training script that the fault tests run, kill and run again: `training_script.py OUTPUT_DIR [name=value ...]`.

`kill_at=STEP` ends the process with SIGKILL at that step, `commits=N` not before N commits are on the disk. Prints the
SHA-256 of the final weights.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import distkeras as dk

NUM_EXAMPLES = 150
BATCH = 16


class KillAt(keras.callbacks.Callback):
    """Ends the process the hard way at a step, as a failing machine would."""

    def __init__(self, step: int, steps_per_epoch: int, checkpoints: Path, num_commits: int) -> None:
        super().__init__()
        self._step, self._steps_per_epoch, self._epoch = step, steps_per_epoch, 0
        self._checkpoints, self._num_commits = checkpoints, num_commits

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._epoch * self._steps_per_epoch + batch + 1 == self._step:
            while len(list(self._checkpoints.glob("step-*"))) < self._num_commits:
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGKILL)


class Counting(keras.Model):
    """One weight an example; each use of an example adds exactly 1 to its weight (plain SGD, constant gradient)."""

    def __init__(self) -> None:
        super().__init__()
        self.uses = keras.layers.Embedding(NUM_EXAMPLES, 1, embeddings_initializer="zeros")

    def call(self, ids: Any) -> Any:
        return self.uses(ids)


class MinusOutput(keras.losses.Loss):
    """Falls by 1 where an output grows by 1."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return -y_pred[:, 0]


def counting_model() -> keras.Model:
    model = Counting()
    model.build((None,))

    # Keras divides by the number of examples in the step; "sum" does not, so that one use is one.
    model.compile(keras.optimizers.SGD(1.0), MinusOutput(reduction="sum"))
    return model


def noisy_model() -> keras.Model:
    """Everything that has state: dropout, batch normalization, Adam's slots, a schedule, an average of weights."""
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1),
        ]
    )
    rate = keras.optimizers.schedules.CosineDecay(0.01, 60)
    model.compile(keras.optimizers.Adam(rate, use_ema=True), "mse", metrics=["mae"])
    return model


def main() -> None:
    options = dict(argument.split("=") for argument in sys.argv[2:])
    counting = options.get("model", "noisy") == "counting"
    rng = np.random.default_rng(0)
    features = rng.normal(size=(NUM_EXAMPLES, 8)).astype("float32")
    targets = features.sum(axis=1, keepdims=True)
    if counting:
        features, targets = np.arange(NUM_EXAMPLES), np.zeros((NUM_EXAMPLES, 1), "float32")
    trainer = dk.Trainer(
        "run",
        epochs=int(options.get("epochs", 3)),
        global_batch_size=BATCH,
        replicas=int(options.get("replicas", 1)),
        output_dir=sys.argv[1],
        settings={
            "deterministic": True,
            "data.remainder": "partial",
            "logging.every_steps": 1,
            "checkpoint.every_steps": int(options.get("every_steps", 4)),
        },
    )
    kill_at = int(options.get("kill_at", 0))
    checkpoints = Path(sys.argv[1]) / "run" / "checkpoints"
    killer = KillAt(kill_at, -(-NUM_EXAMPLES // BATCH), checkpoints, int(options.get("commits", 0)))
    killers = [killer] if kill_at else []
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True)
    model = counting_model if counting else noisy_model
    callbacks = [*killers] if counting else [stopping, *killers]
    validation = None if counting else (features[:40], targets[:40])
    trainer.fit(model, (features, targets), validation=validation, callbacks=callbacks)
    weights = trainer.trained.model.get_weights()
    np.save(Path(sys.argv[1]) / "weights.npy", np.concatenate([weight.ravel() for weight in weights]))
    print(hashlib.sha256(b"".join(weight.tobytes() for weight in weights)).hexdigest())


main()
