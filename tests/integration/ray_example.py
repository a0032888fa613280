"""Ray's own TensorFlow example, moved to Keras 3: `ray_example.py FOLDER`, on the cluster of RAY_ADDRESS.

The example is the one in the docstring of the installed Ray's TensorflowTrainer, read from there. Three lines change
for distkeras, and one because Keras 3 wants to see what a file of weights is by its name. What each worker was fed,
and the weights that it began and ended with, are left in FOLDER for the test.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.train import ScalingConfig
from ray.train.tensorflow import TensorflowTrainer

CHANGED = {
    "from ray.train.tensorflow import TensorflowTrainer": (
        "from distkeras.ray import KerasTrainer as TensorflowTrainer, prepare_model, strategy as workers"
    ),
    "strategy = tf.distribute.experimental.MultiWorkerMirroredStrategy()": "strategy = workers()",
    "model.fit(tf_dataset)": "prepare_model(model).fit(tf_dataset)",
}
CHANGED_FOR_KERAS_3 = {
    'os.path.join(checkpoint_dir, "my_checkpoint")': (
        'os.path.join(checkpoint_dir, "my_checkpoint.weights.h5")'
    ),
}


def documented() -> str:
    """Returns the example's text."""
    documentation = textwrap.dedent(TensorflowTrainer.__doc__ or "")
    (text,) = re.findall(r"\n    Example:\n\n    \.\. testcode::\n\n((?:        .*\n|\n)+)", documentation)
    return textwrap.dedent(text)


def moved() -> str:
    """Returns the example's text as a user would have it after the move."""
    lines = documented().splitlines()
    for old, new in (CHANGED | CHANGED_FOR_KERAS_3).items():
        (place,) = [index for index, line in enumerate(lines) if line.strip() == old]
        lines[place] = lines[place].replace(old, new)
    return "\n".join(lines)


def recorded(train_loop: Callable[[Any], Any], folder: Path) -> Callable[[Any], Any]:
    """Returns the example's train loop, which then leaves behind what it saw; it is run in the workers."""

    def loop(config: dict[str, Any]) -> None:
        import tensorflow as tf

        names = train_loop.__globals__
        prepare_model, train = names["prepare_model"], names["train"]
        seen: dict[str, Any] = {"loss": [], "rows": []}
        models: list[Any] = []

        def keeping(model: Any) -> Any:
            if not models:
                models.append(model)
                prepare_model(model)
                fit = model.fit

                def recording_fit(data: Any) -> None:
                    history = fit(data)
                    seen["loss"].append(history.history["loss"][0])
                    seen.update(numbered("last", model))

                model.fit = recording_fit
                seen.update(numbered("first", model))
            return model

        class Shard:
            def __init__(self, shard: Any) -> None:
                self.shard = shard

            def to_tf(self, **arguments: Any) -> Any:
                data = self.shard.to_tf(**arguments)

                def teed() -> Iterator[Any]:
                    for x, y in data:
                        seen["rows"].append(float(x[0]))
                        yield x, y

                return tf.data.Dataset.from_generator(teed, output_signature=data.element_spec)

        class Train:
            def __getattr__(self, name: str) -> Any:
                return getattr(train, name)

            def get_dataset_shard(self, name: str) -> Shard:
                return Shard(train.get_dataset_shard(name))

        names["prepare_model"], names["train"] = keeping, Train()
        train_loop(config)
        np.savez(folder / f"rank-{train.get_context().get_world_rank()}.npz", **seen)

    return loop


def numbered(kind: str, model: Any) -> dict[str, Any]:
    return {f"{kind}/{index}": value for index, value in enumerate(model.get_weights())}


def main(folder: Path) -> None:
    """Runs the moved example, its train loop recorded, on two workers rather than three."""
    ray.init(log_to_driver=False)
    import distkeras.ray

    class Recorded(distkeras.ray.KerasTrainer):
        def __init__(self, train_loop_per_worker: Any, **arguments: Any) -> None:
            arguments["scaling_config"] = ScalingConfig(num_workers=2)
            arguments["run_config"] = ray.train.RunConfig(storage_path=str(folder / "store"))
            super().__init__(recorded(train_loop_per_worker, folder), **arguments)

    text = moved().replace("trainer = TensorflowTrainer(", "trainer = Recorded(")
    exec(  # noqa: S102
        compile(text, "moved_example", "exec"),
        {"__name__": "moved_example", "ray": ray, "Recorded": Recorded},
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
