"""What must hold between keys where the examples are a stream: rules as in `rules.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from distkeras.config.problems import Problem
from distkeras.config.sections import Config
from distkeras.config.source_sections import GeneratorSource, MixtureSource

# Keras layers that are adapted to the data, and the argument that says what they would learn.
_LEARNT = {
    "Discretization": "bin_boundaries",
    "IntegerLookup": "vocabulary",
    "Normalization": "mean",
    "StringLookup": "vocabulary",
    "TextVectorization": "vocabulary",
}


def nearest_steps(num_steps: int, epochs: int) -> str:
    """Returns the numbers of steps next to a given one that epochs of equal length can have: "4 or 6"."""
    lower = num_steps // epochs * epochs
    return f"{lower} or {lower + epochs}" if lower else f"{epochs}"


def _stream_has_its_steps(config: Config) -> Iterator[Problem]:
    training, kind = config.training, config.data.source.kind
    place = ("training", "num_steps")
    if kind != "generator":
        if training.num_steps is not None:
            text = f"only for data.source.kind generator, and it is {kind}, of which an epoch is a pass"
            yield Problem(place, f"{text}; remove it, and set training.epochs")
    elif training.num_steps is None:
        yield Problem(place, "required for a stream, which has no length: the steps of all epochs together")
    elif training.num_steps % training.epochs:
        fits = nearest_steps(training.num_steps, training.epochs)
        text = f"{training.num_steps} does not divide by {training.epochs} epochs of equal length; use {fits}"
        yield Problem(place, text)


def _stream_is_not_split(config: Config) -> Iterator[Problem]:
    data = config.data
    if data.source.kind != "generator":
        return
    for part in ("validation", "test"):
        share = getattr(data.split, part)
        if getattr(data, part) is None and share > 0:
            text = f"a stream cannot be split, and {share} of it would be kept; set data.split.{part}: 0, or "
            yield Problem(("data", "split", part), f"{text}name other data as data.{part}")


def _stream_is_trained_on_alone(config: Config) -> Iterator[Problem]:
    data = config.data
    for part in ("validation", "test"):
        if getattr(getattr(data, part), "kind", None) == "generator":
            text = "a stream has no end, and evaluation sees every example once; name stored data"
            yield Problem(("data", part, "kind"), text)
    for name in ("source", "validation", "test"):
        mixture = getattr(data, name)
        if isinstance(mixture, MixtureSource):
            for index, part in enumerate(mixture.sources):
                if part.source.kind == "generator":
                    text = "a stream cannot be part of a mixture; let the function mix, or store the examples"
                    yield Problem(("data", name, "sources", str(index), "source", "kind"), text)


def _stream_is_not_known_before(config: Config) -> Iterator[Problem]:
    data = config.data
    if data.source.kind != "generator":
        return
    unfit = {
        "balance": data.balance == "classes",
        "normalize": data.normalize == "standard",
        "cache": data.cache is not None,
        "max_bad_records": data.max_bad_records > 0,
    }
    for name in (name for name, is_set in unfit.items() if is_set):
        text = "needs all examples before the first step, and a stream has none then; remove it"
        yield Problem(("data", name), text)
    for index, layer in enumerate(data.layers):
        learnt = _LEARNT.get(layer.name)
        if learnt is not None and learnt not in layer.arguments:
            text = f"{layer.name} would learn from all examples, and a stream has none before the first step; give"
            yield Problem(("data", "layers", str(index)), f"{text} its {learnt}")


def _stream_has_the_classes_of_its_task(config: Config) -> Iterator[Problem]:
    source, task = config.data.source, config.task
    if not isinstance(source, GeneratorSource):
        return
    place = ("data", "source", "num_classes")
    if not task.kind.endswith("_classification"):
        if source.num_classes is not None:
            yield Problem(place, f"only for classes, and task.kind is {task.kind}; remove it")
    elif source.num_classes is None:
        yield Problem(place, f"required for task.kind {task.kind}: a stream's labels are not known before")
    elif task.num_classes is not None and task.num_classes < source.num_classes:
        text = f"{source.num_classes} is more than task.num_classes, {task.num_classes}; make them the same"
        yield Problem(place, text)


STREAM_RULES: dict[Callable[[Config], Iterator[Problem]], tuple[str, ...]] = {
    _stream_has_its_steps: ("data.source", "training.num_steps", "training.epochs"),
    _stream_is_not_split: ("data.source", "data.split", "data.validation", "data.test"),
    _stream_is_trained_on_alone: ("data.source", "data.validation", "data.test"),
    _stream_is_not_known_before: ("data",),
    _stream_has_the_classes_of_its_task: ("data.source", "task"),
}
