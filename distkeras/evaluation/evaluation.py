"""The result on held-out data: metrics, what is confused with what, and the examples the model is most wrong about."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from distkeras.data.sources.base import Source
from distkeras.data.streaming import no_end
from distkeras.errors import ConfigError, MissingDependencyError
from distkeras.evaluation.predicting import compute_metrics, predict
from distkeras.tasks import Task
from distkeras.training.experiment import Experiment
from distkeras.training.session import Trained

NUM_WORST = 12
NUM_POINTS = 2000
SMALLEST_PROBABILITY = 1e-7


def evaluate(trained: Trained, experiment: Experiment, split: str = "test") -> dict[str, Any]:
    """Returns what evaluation.json holds: metrics named `<split>_<metric>`, tables and the worst examples.

    Args:
        trained: The model.
        experiment: Its data and task.
        split: `train`, `validation` or `test`.

    Raises:
        ConfigError: If the run keeps no data for this split.
    """
    source = getattr(experiment.splits, split)
    if source is None:
        raise ConfigError(
            f"This run keeps no {split} data.",
            place=f"data.split.{split}",
            remedy=f"give data.split.{split} a share above 0, or data.{split} a source of its own",
        )
    if source.is_stream:
        raise no_end(source.name)
    config = experiment.config
    batch_size = config.training.global_batch_size
    metrics = compute_metrics(trained, source, global_batch_size=batch_size)
    outputs = predict(trained, source, global_batch_size=batch_size)
    labels = source.labels()
    task = experiment.task
    if task.is_classification:
        outputs = task.probabilities(outputs)
        metrics |= _classification_metrics(labels, outputs)
        tables = {"classification": _confusion(labels, outputs, task), "regression": None}
        losses = -np.log(np.clip(outputs[np.arange(len(labels)), labels], SMALLEST_PROBABILITY, 1.0))
    else:
        # One column a step of the horizon; most often there is one.
        predictions, labels = (part.reshape(len(part), -1) for part in (outputs, labels))
        metrics |= _regression_metrics(labels, predictions)
        tables = {"classification": None, "regression": _points(labels, predictions)}
        losses = ((predictions - labels) ** 2).mean(axis=1)
    return {
        "split": split,
        "num_examples": source.num_examples,
        "metrics": {f"{split}_{name}": value for name, value in metrics.items()},
        **tables,
        "worst": [
            _worst(int(index), losses, outputs, labels, source, task)
            for index in np.argsort(-losses)[:NUM_WORST]
        ],
    }


def _classification_metrics(labels: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """Returns macro averages: every class counts the same, however rare."""
    scores = _sklearn_metrics()
    predicted = outputs.argmax(axis=-1)
    precision, recall, f1, _ = scores.precision_recall_fscore_support(
        labels, predicted, average="macro", zero_division=0.0
    )
    return {"precision": float(precision), "recall": float(recall), "f1": float(f1)} | _auc(labels, outputs)


def _auc(labels: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    if len(np.unique(labels)) < outputs.shape[-1]:
        return {}  # not defined where a class has no examples
    positive = outputs[:, 1] if outputs.shape[-1] == 2 else outputs / outputs.sum(axis=-1, keepdims=True)
    return {"auc_roc": float(_sklearn_metrics().roc_auc_score(labels, positive, multi_class="ovr"))}


def _regression_metrics(targets: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    scores = _sklearn_metrics()
    return {
        "mean_absolute_error": float(scores.mean_absolute_error(targets, predictions)),
        "root_mean_squared_error": float(scores.root_mean_squared_error(targets, predictions)),
        "r2": float(scores.r2_score(targets, predictions)),
        "mean_absolute_percentage_error": float(scores.mean_absolute_percentage_error(targets, predictions)),
    }


def _confusion(labels: np.ndarray, outputs: np.ndarray, task: Task) -> dict[str, Any]:
    scores, classes = _sklearn_metrics(), range(task.num_outputs)
    predicted = outputs.argmax(axis=-1)
    columns = scores.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0.0)
    rows = zip(task.class_names, *(column.tolist() for column in columns), strict=True)
    return {
        "class_names": list(task.class_names),
        "confusion_matrix": scores.confusion_matrix(labels, predicted, labels=classes).tolist(),
        "per_class": [
            dict(zip(("name", "precision", "recall", "f1", "support"), row, strict=True)) for row in rows
        ],
    }


def _points(targets: np.ndarray, predictions: np.ndarray) -> dict[str, Any]:
    step = -(-targets.size // NUM_POINTS)
    return {"targets": targets.ravel()[::step].tolist(), "predictions": predictions.ravel()[::step].tolist()}


def _worst(
    index: int, losses: np.ndarray, outputs: np.ndarray, labels: np.ndarray, source: Source, task: Task
) -> dict[str, Any]:
    if task.is_classification:
        target = task.class_names[labels[index].item()]
        prediction = task.class_names[int(outputs[index].argmax())]
    else:
        target, prediction = (_numbers(part[index]) for part in (labels, outputs))
    return {
        "place": source.locate(index),
        "target": target,
        "prediction": prediction,
        "loss": float(losses[index]),
        "picture": _picture(source, index) if task.needs_images else None,
    }


def _numbers(values: np.ndarray) -> Any:
    """One number, or a list of them."""
    return values.item() if values.size == 1 else values.ravel().tolist()


def _picture(source: Source, index: int) -> str:
    """Returns an example as a PNG in a data URI; values are stretched to the full range, as in a contact sheet."""
    image = _pillow()
    pixels = np.asarray(source.read_arrays(np.array([index]))[0], np.float32)
    pixels = pixels.reshape(pixels.shape[-3:])
    low, high = float(pixels.min()), float(pixels.max())
    pixels = (255 * (pixels - low) / max(high - low, 1e-12)).astype(np.uint8)
    stream = io.BytesIO()
    picture = image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels[..., :3])
    picture.thumbnail((128, 128))
    picture.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _sklearn_metrics() -> Any:
    try:
        from sklearn import metrics
    except ImportError as error:
        raise MissingDependencyError("scikit-learn", "report") from error
    return metrics


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError("pillow", "report") from error
    return Image
