"""One value object says what a task is; nothing else in the project asks which task it has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from distkeras.config.sections import TaskSection
from distkeras.errors import DataError


@dataclass(frozen=True)
class Task:
    """What a model is for.

    Attributes:
        kind: Its name in the config.
        num_outputs: Units of the head.
        activation: Activation of the head; None: the number itself.
        loss: The default loss, by its Keras name.
        metrics: The default metrics, by their Keras names.
        is_classification: Whether labels are class indices.
        needs_images: Whether features must have shape (height, width, channels).
        class_names: Name of each class, in the order of the outputs; empty for regression.
    """

    kind: str
    num_outputs: int
    activation: str | None
    loss: str
    metrics: tuple[str, ...]
    is_classification: bool
    needs_images: bool = False
    class_names: tuple[str, ...] = field(default=())

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Returns each class's probability, shape (num_examples, num_outputs).

        Args:
            outputs: Probabilities, or logits: rows that are no probabilities go through a softmax, as they do in
                a loss with `from_logits=True`.
        """
        are_probabilities = (outputs >= 0).all() and np.allclose(outputs.sum(axis=-1), 1.0, atol=1e-2)
        if are_probabilities:
            return outputs
        powers = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)

    def decode(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what the outputs mean, one column a name.

        Args:
            outputs: float32, shape (num_examples, num_outputs): probabilities or logits, or numbers.

        Returns:
            `prediction` (class index or number), and for classes `class_name` and one `probability_<class>` each;
            `prediction_1`, `prediction_2`, ... where several numbers are predicted.
        """
        if not self.is_classification:
            numbers = outputs.reshape(len(outputs), -1)
            if self.num_outputs == 1:
                return {"prediction": numbers[:, 0]}
            return {f"prediction_{step + 1}": numbers[:, step] for step in range(self.num_outputs)}
        outputs = self.probabilities(outputs)
        indices = outputs.argmax(axis=-1)
        columns: dict[str, Any] = {"prediction": indices, "class_name": np.array(self.class_names)[indices]}
        for index, name in enumerate(self.class_names):
            columns[f"probability_{name}"] = outputs[:, index]
        return columns


def make_task(
    section: TaskSection, labels: np.ndarray, class_names: tuple[str, ...] | None, place: str
) -> Task:
    """Returns the task for this data.

    Args:
        section: The config's task.
        labels: All labels of the training data, shape (num_examples, ...).
        class_names: Names of the classes where the source has them.
        place: The source's name, for errors.

    Raises:
        DataError: If the labels are not what the task needs.
    """
    if section.kind == "tabular_regression":
        return Task(section.kind, 1, None, "mean_squared_error", ("mean_absolute_error",), False)
    if section.kind == "time_series_forecasting":
        return _forecasting(section.kind, labels, place)
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"The task {section.kind} needs labels that are whole numbers or names, and these are {labels.dtype}.",
            place=place,
            received=labels[:3].tolist(),
            remedy="use task.kind: tabular_regression, or name another label",
        )
    num_classes = section.num_classes or max(len(class_names or ()), int(labels.max()) + 1, 2)
    names = (
        class_names
        if class_names and len(class_names) == num_classes
        else tuple(map(str, range(num_classes)))
    )
    return Task(
        kind=section.kind,
        num_outputs=num_classes,
        activation="softmax",
        loss="sparse_categorical_crossentropy",
        metrics=("accuracy",),
        is_classification=True,
        needs_images=section.kind == "image_classification",
        class_names=names,
    )


def _forecasting(kind: str, labels: np.ndarray, place: str) -> Task:
    """One output for each row ahead."""
    if labels.dtype.kind not in "iuf" or labels.ndim > 2:
        raise DataError(
            "The task time_series_forecasting needs one number for each row ahead.",
            place=place,
            received=f"labels of type {labels.dtype}, shape {labels.shape}",
            remedy="use data.source.kind: time_series, or labels of shape (num_examples, horizon)",
        )
    horizon = labels.shape[1] if labels.ndim == 2 else 1
    metrics = ("mean_absolute_error", "root_mean_squared_error")
    return Task(kind, horizon, None, "mean_squared_error", metrics, False)
