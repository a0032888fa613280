"""What must hold between keys: each rule reads a valid config and yields a sentence with a remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from distkeras.config.keys import Key
from distkeras.config.problems import Problem, is_related, show
from distkeras.config.sections import Config, OuterStepsSection, TopologySection
from distkeras.config.source_sections import CsvSource, ParquetSource, TimeSeriesSource
from distkeras.config.stream_rules import STREAM_RULES
from distkeras.config.transform_sections import CutMix, ImageSection, MixUp, TextSection, Zoom

Rule = Callable[[Config], Iterator[Problem]]

TABLES = ("csv", "excel", "parquet")


def rule_problems(config: Config, faulty: Sequence[Key] = ()) -> list[Problem]:
    """Returns what the rules find, apart from rules that read one of the `faulty` keys."""
    return [
        problem
        for rule, reads in RULES.items()
        if not any(is_related(tuple(key.split(".")), wrong) for key in reads for wrong in faulty)
        for problem in rule(config)
    ]


def _parts_leave_training_data(config: Config) -> Iterator[Problem]:
    data = config.data
    validation = 0.0 if data.validation else data.split.validation
    test = 0.0 if data.test else data.split.test
    if validation + test >= 1:
        shares = f"validation ({validation}) and test ({test}) leave nothing to train on"
        yield Problem(("data", "split"), f"{shares}; make their sum less than 1")


def _image_options_need_images(config: Config) -> Iterator[Problem]:
    if config.task.kind == "image_classification":
        return
    for name in ImageSection.model_fields:
        if getattr(config.data.image, name) != getattr(ImageSection(), name):
            text = f"only for task.kind image_classification, and it is {config.task.kind}; remove it"
            yield Problem(("data", "image", name), text)


def _mixing_meets_its_partners(config: Config) -> Iterator[Problem]:
    mixing = [change.kind for change in config.data.image.augment if isinstance(change, MixUp | CutMix)]
    if not mixing:
        return
    if config.data.remainder == "partial":
        text = f"with {mixing[0]} every batch must be full; set it to drop or wrap"
        yield Problem(("data", "remainder"), text)
    replicas, workers = config.topology.replicas, config.topology.workers
    parts = workers if isinstance(workers, int) and workers > 1 else replicas
    if isinstance(parts, int) and config.training.global_batch_size % (2 * parts):
        text = f"{mixing[0]} mixes neighbours, so each replica needs an even number; make it a multiple of {2 * parts}"
        yield Problem(("training", "global_batch_size"), text)
    if config.data.image.augment_on == "device" and config.training.class_weight is not None:
        text = f"{mixing[0]} on the device comes after classes are weighed; set it to input"
        yield Problem(("data", "image", "augment_on"), text)
    if "sparse" in str(config.training.loss).lower():
        text = f"with {mixing[0]} a label is one number for each class; use categorical_crossentropy, or null"
        yield Problem(("training", "loss"), text)


def _changes_have_a_size(config: Config) -> Iterator[Problem]:
    image = config.data.image
    if image.random_resized_crop is not None and image.size is None:
        yield Problem(
            ("data", "image", "size"), "random_resized_crop needs it: the size that parts are resized to"
        )
    for index, change in enumerate(image.augment):
        if isinstance(change, Zoom) and change.least > change.most:
            text = f"least is {change.least} and most is {change.most}; write the smaller factor as least"
            yield Problem(("data", "image", "augment", str(index), "least"), text)


def _preprocessing_fits_the_source(config: Config) -> Iterator[Problem]:
    kind, fitting = config.data.source.kind, {"spectrogram": ("audio_folder",), "tabular": TABLES}
    for name, kinds in fitting.items():
        if getattr(config.data, name) is not None and kind not in (*kinds, "mixture"):
            text = f"only for sources {', '.join(kinds)}, and data.source.kind is {kind}; remove it"
            yield Problem(("data", name), text)
    if config.data.text is not None and kind in (
        *TABLES,
        "image_folder",
        "audio_folder",
        "synthetic",
        "time_series",
    ):
        yield Problem(
            ("data", "text"), f"only for sources of texts, and data.source.kind is {kind}; remove it"
        )


def _embedding_holds_the_vocabulary(config: Config) -> Iterator[Problem]:
    if config.model.builder != "lstm":
        return
    held = config.model.arguments.get("vocabulary_size", 20_000)
    tokens = (config.data.text or TextSection()).max_tokens
    if isinstance(held, int) and config.task.kind == "text_classification" and held < tokens:
        text = f"{held} is less than data.text.max_tokens, {tokens}; make them equal"
        yield Problem(("model", "arguments", "vocabulary_size"), text)


def _regression_has_no_classes(config: Config) -> Iterator[Problem]:
    if config.task.kind != "tabular_regression":
        return
    text = "a regression has no classes; remove it, or choose a classification as task.kind"
    if config.task.num_classes is not None:
        yield Problem(("task", "num_classes"), text)
    if config.training.class_weight is not None:
        yield Problem(("training", "class_weight"), text)


def _class_weights_fit_the_classes(config: Config) -> Iterator[Problem]:
    if config.task.kind == "tabular_regression":
        return
    num_classes = config.task.num_classes
    for index, weight in (config.training.class_weight or {}).items():
        key = ("training", "class_weight", str(index))
        if index < 0 or (num_classes is not None and index >= num_classes):
            last = "" if num_classes is None else f" to {num_classes - 1}"
            yield Problem(key, f"no such class; class indices run from 0{last}")
        if weight < 0:
            yield Problem(key, f"expected a weight of at least 0, received {show(weight)}")


def _label_is_no_feature(config: Config) -> Iterator[Problem]:
    for name in ("source", "validation", "test"):
        source = getattr(config.data, name)
        if isinstance(source, CsvSource | ParquetSource) and source.label in (source.features or ()):
            text = f"holds the label {show(source.label)}, which would tell the model the answer; remove it"
            yield Problem(("data", name, "features"), text)


def _split_has_its_column(config: Config) -> Iterator[Problem]:
    data, split = config.data, config.data.split
    place = ("data", "split", "column")
    if split.method not in ("group", "time"):
        if split.column is not None:
            text = f"only for data.split.method group or time, and it is {split.method}; remove it"
            yield Problem(place, text)
        return
    if isinstance(data.source, TimeSeriesSource):
        if split.column is not None:
            yield Problem(place, "a time series is in order already; remove it")
        return
    if split.column is None:
        yield Problem(place, f"required for data.split.method {split.method}: name a column of the table")
        return
    features: list[str] | str | None = getattr(data.source, "features", None)
    if split.column in (features if isinstance(features, list) else [features]):
        text = f"holds the split's column {show(split.column)}, which is no feature; remove it"
        yield Problem(("data", "source", "features"), text)


def _time_series_is_split_in_order(config: Config) -> Iterator[Problem]:
    data = config.data
    is_split = data.validation is None and data.split.validation > 0
    is_split |= data.test is None and data.split.test > 0
    if isinstance(data.source, TimeSeriesSource) and is_split and data.split.method != "time":
        text = (
            f"{data.split.method} would train on windows whose rows are tested: neighbouring windows share rows; "
            "write data.split.method: time"
        )
        yield Problem(("data", "split", "method"), text)


def _monitored_metric_exists(config: Config) -> Iterator[Problem]:
    early_stopping, data = config.training.early_stopping, config.data
    if early_stopping is None or data.validation is not None or data.split.validation > 0:
        return
    if early_stopping.monitor.startswith("val_"):
        text = f"{early_stopping.monitor} needs validation data; set data.split.validation to more than 0"
        yield Problem(("training", "early_stopping", "monitor"), text)


def _topology_fits_its_kind(config: Config) -> Iterator[Problem]:
    topology = config.topology
    kinds = {
        "replicas": ("local",),
        "workers": ("processes", "ray"),
        "reduction": ("processes", "ray"),
        "resources_per_worker": ("ray",),
        "placement": ("ray",),
    }
    for name, allowed in kinds.items():
        if topology.kind not in allowed and getattr(topology, name) != getattr(TopologySection(), name):
            text = f"only for topology.kind {' or '.join(allowed)}, and it is {topology.kind}; remove it"
            yield Problem(("topology", name), text)
    if isinstance(topology.workers, tuple):
        least, most = topology.workers
        if topology.kind == "processes":
            text = "a range is only for topology.kind ray; name one number of workers"
            yield Problem(("topology", "workers"), text)
        elif least > most:
            yield Problem(("topology", "workers"), f"{least} is more than {most}; write [least, most]")


def _batch_divides_by_workers(config: Config) -> Iterator[Problem]:
    workers, batch = config.topology.workers, config.training.global_batch_size
    if isinstance(workers, int) and batch % workers:
        lower = max(batch // workers, 1) * workers
        text = f"{batch} does not divide by {workers} workers; use {lower} or {lower + workers}"
        yield Problem(("training", "global_batch_size"), text)


def _commits_fall_on_outer_steps(config: Config) -> Iterator[Problem]:
    reduction, every = config.topology.reduction, config.checkpoint.every_steps
    if isinstance(reduction, OuterStepsSection) and every is not None and every % reduction.every_steps:
        text = f"workers differ between outer steps; make it a multiple of {reduction.every_steps}"
        yield Problem(("checkpoint", "every_steps"), text)


def _engine_has_what_is_asked(config: Config) -> Iterator[Problem]:
    topology = config.topology
    if config.engine == "tensorflow":
        for name in ("model_parallel", "layout"):
            if getattr(topology, name) != getattr(TopologySection(), name):
                text = "only for engine jax, and it is tensorflow; remove it, or set engine: jax"
                yield Problem(("topology", name), text)
        return
    if config.data.image.augment_on != "input":
        text = "engine jax changes images with the input; remove it, or set engine: tensorflow"
        yield Problem(("data", "image", "augment_on"), text)
    if topology.reduction != "full":
        text = "engine jax sends every step's gradients as they are; remove it, or set engine: tensorflow"
        yield Problem(("topology", "reduction"), text)
    if config.training.jit_compile is False:
        text = "engine jax always compiles the step; remove it, or set engine: tensorflow"
        yield Problem(("training", "jit_compile"), text)


def _layout_splits_the_model(config: Config) -> Iterator[Problem]:
    topology, place = config.topology, ("topology", "layout")
    if config.engine == "tensorflow":
        return
    if (topology.model_parallel > 1) != bool(topology.layout):
        text = (
            "a split model needs both: topology.model_parallel above 1, and a layout of the weights to split"
        )
        yield Problem(place, text)
    for pattern, axes in topology.layout.items():
        try:
            re.compile(pattern)
        except re.error as error:
            yield Problem((*place, pattern), f"not a regular expression: {error}")
        unknown = [axis for axis in axes if axis not in ("model", None)]
        if unknown:
            yield Problem((*place, pattern), f"no axis is called {show(unknown[0])}; write model or null")
        elif axes.count("model") != 1:
            yield Problem((*place, pattern), "expected model for one axis, and null for the others")


def _split_model_fits_the_workers(config: Config) -> Iterator[Problem]:
    topology, stopping = config.topology, config.training.early_stopping
    if topology.kind == "local" or topology.model_parallel == 1:
        return
    workers = topology.workers if isinstance(topology.workers, tuple) else (topology.workers,)
    for number in workers:
        if number % topology.model_parallel:
            text = f"{number} workers do not divide by it; each worker has one device"
            yield Problem(("topology", "model_parallel"), text)
    if stopping is not None and stopping.restore_best_weights:
        text = "a model that is split over workers is nowhere whole to be kept; set it to false"
        yield Problem(("training", "early_stopping", "restore_best_weights"), text)


RULES: dict[Rule, tuple[str, ...]] = {
    _parts_leave_training_data: ("data.split", "data.validation", "data.test"),
    _image_options_need_images: ("data.image", "task.kind"),
    _mixing_meets_its_partners: (
        "data.image.augment",
        "data.remainder",
        "topology",
        "training.global_batch_size",
        "training.loss",
    ),
    _changes_have_a_size: ("data.image",),
    _preprocessing_fits_the_source: ("data.source", "data.text", "data.spectrogram", "data.tabular"),
    _embedding_holds_the_vocabulary: ("model", "data.text", "task.kind"),
    _regression_has_no_classes: ("task", "training.class_weight"),
    _class_weights_fit_the_classes: ("task", "training.class_weight"),
    _label_is_no_feature: ("data.source", "data.validation", "data.test"),
    _topology_fits_its_kind: ("topology",),
    _batch_divides_by_workers: ("topology.workers", "training.global_batch_size"),
    _commits_fall_on_outer_steps: ("topology.reduction", "checkpoint.every_steps"),
    _engine_has_what_is_asked: ("engine", "topology", "training.jit_compile"),
    _layout_splits_the_model: ("engine", "topology.model_parallel", "topology.layout"),
    _split_model_fits_the_workers: ("topology", "training.early_stopping"),
    _split_has_its_column: ("data.source", "data.split"),
    _time_series_is_split_in_order: ("data.source", "data.split", "data.validation", "data.test"),
    **STREAM_RULES,
    _monitored_metric_exists: ("training.early_stopping", "data.validation", "data.split"),
}
