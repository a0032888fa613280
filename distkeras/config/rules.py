"""What must hold between keys: each rule reads a valid config and yields a sentence with a remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from distkeras.config.keys import Key
from distkeras.config.problems import Problem, is_related, show
from distkeras.config.sections import Config, CsvSource, ImageSection, ParquetSource, TopologySection

Rule = Callable[[Config], Iterator[Problem]]


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


RULES: dict[Rule, tuple[str, ...]] = {
    _parts_leave_training_data: ("data.split", "data.validation", "data.test"),
    _image_options_need_images: ("data.image", "task.kind"),
    _regression_has_no_classes: ("task", "training.class_weight"),
    _class_weights_fit_the_classes: ("task", "training.class_weight"),
    _label_is_no_feature: ("data.source", "data.validation", "data.test"),
    _topology_fits_its_kind: ("topology",),
    _monitored_metric_exists: ("training.early_stopping", "data.validation", "data.split"),
}
