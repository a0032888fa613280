"""What is learnt from the training part of the data, and then done to every example's features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from distkeras.data.sources.base import Shape, Source


class Preprocessing(ABC):
    """A function of features, made once from the training part and saved with the run.

    The same one is applied when the run trains, evaluates and predicts, and it becomes part of an exported model.

    Attributes:
        feature_shape: Shape of one example's features after it.
        feature_dtype: TensorFlow's name of their type after it.
        feature_names: Names of the features along the last axis, where they have names.
        drops_examples: Whether `keep` leaves training examples out.
        is_random: Whether `random` changes training examples.
    """

    feature_shape: Shape
    feature_dtype: str
    feature_names: tuple[str, ...] | None = None
    drops_examples: bool = False
    is_random: bool = False

    @abstractmethod
    def __call__(self, features: Any) -> Any:
        """Returns the features that the model gets; called while a TensorFlow graph is traced, and eagerly.

        Args:
            features: A batch of what the source reads, with a leading batch dimension.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Returns what was learnt, as JSON values: enough to make it again without the data."""

    def check(self, source: Source) -> None:
        """Refuses a source whose examples are not like those that were learnt from.

        Raises:
            DataError: If they are not.
        """
        return

    def random(self, features: Any) -> Any:
        """Returns a training batch with random changes; called after `__call__`, with what it returned."""
        return features

    def keep(self, features: Any) -> Any:
        """Returns which training examples are used, bool, shape (num_examples,); None: all.

        Args:
            features: All training examples' features, as NumPy arrays.
        """
        return None
