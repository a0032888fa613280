"""What must hold between keys."""

import copy

import pytest

from distkeras.config import InvalidConfigError, config_from_mapping
from distkeras.config.overrides import apply_overrides, parse_override

BASE = {
    "name": "a",
    "task": {"kind": "tabular_classification"},
    "data": {"source": {"kind": "csv", "path": "a.csv", "label": "y"}},
    "model": {"builder": "mlp"},
}
IMAGES = ["task.kind=image_classification", "data.source={kind: image_folder, path: a}"]
CSV = "{kind: csv, path: b.csv, label: y}"


def problems(tmp_path, *overrides):
    document = apply_overrides(copy.deepcopy(BASE), [parse_override(argument) for argument in overrides])
    try:
        config_from_mapping(document, origin="f", base_folder=tmp_path)
    except InvalidConfigError as error:
        return [problem.line for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ["data.split.validation=0.5", "data.split.test=0.5"],
            "data.split: validation (0.5) and test (0.5) leave nothing to train on; "
            "make their sum less than 1",
        ),
        (
            [*IMAGES, "data.image={augment: [{kind: mixup}]}", "data.remainder=partial"],
            "data.remainder: with mixup every batch must be full; set it to drop or wrap",
        ),
        (
            [*IMAGES, "data.image={augment: [{kind: cutmix}]}", "topology.replicas=3"],
            "training.global_batch_size: cutmix mixes neighbours, so each replica needs an even number; "
            "make it a multiple of 6",
        ),
        (
            [
                *IMAGES,
                "data.image={augment: [{kind: mixup}]}",
                "training.loss=sparse_categorical_crossentropy",
            ],
            "training.loss: with mixup a label is one number for each class; use categorical_crossentropy, or null",
        ),
        (
            [*IMAGES, "data.image={random_resized_crop: {}}"],
            "data.image.size: random_resized_crop needs it: the size that parts are resized to",
        ),
        (
            [*IMAGES, "data.image={augment: [{kind: zoom, least: 1.5}]}"],
            "data.image.augment.0.least: least is 1.5 and most is 1.2; write the smaller factor as least",
        ),
        (
            [*IMAGES, "data.tabular={}"],
            "data.tabular: only for sources csv, excel, parquet, and data.source.kind is image_folder; remove it",
        ),
        (
            ["data.spectrogram={}"],
            "data.spectrogram: only for sources audio_folder, and data.source.kind is csv; remove it",
        ),
        (
            [
                "task.kind=text_classification",
                "data.source={kind: jsonl, path: a}",
                "data.text={max_tokens: 500}",
                "model={builder: lstm, arguments: {vocabulary_size: 400}}",
            ],
            "model.arguments.vocabulary_size: 400 is less than data.text.max_tokens, 500; make them equal",
        ),
        (["data.text={}"], "data.text: only for sources of texts, and data.source.kind is csv; remove it"),
        (
            ["topology.workers=2"],
            "topology.workers: only for topology.kind processes or ray, and it is local; remove it",
        ),
        (
            ["topology.kind=ray", "topology.replicas=2"],
            "topology.replicas: only for topology.kind local, and it is ray; remove it",
        ),
        (
            ["topology.kind=processes", "topology.workers=[1, 2]"],
            "topology.workers: a range is only for topology.kind ray; name one number of workers",
        ),
        (
            ["topology.kind=ray", "topology.workers=[4, 2]"],
            "topology.workers: 4 is more than 2; write [least, most]",
        ),
        (
            ["topology.kind=processes", "topology.workers=3"],
            "training.global_batch_size: 64 does not divide by 3 workers; use 63 or 66",
        ),
        (
            [
                "topology={kind: processes, workers: 2, reduction: {every_steps: 10}}",
                "checkpoint.every_steps=25",
            ],
            "checkpoint.every_steps: workers differ between outer steps; make it a multiple of 10",
        ),
        (
            ["topology.model_parallel=2"],
            "topology.model_parallel: only for engine jax, and it is tensorflow; remove it, or set engine: jax",
        ),
        (
            ["engine=jax", "topology.kind=processes", "topology.reduction=bfloat16"],
            "topology.reduction: engine jax sends every step's gradients as they are; remove it, or set "
            "engine: tensorflow",
        ),
        (
            ["engine=jax", "training.jit_compile=false"],
            "training.jit_compile: engine jax always compiles the step; remove it, or set engine: tensorflow",
        ),
        (
            ["engine=jax", "topology.model_parallel=2"],
            "topology.layout: a split model needs both: topology.model_parallel above 1, and a layout of the weights "
            "to split",
        ),
        (
            ["engine=jax", "topology.model_parallel=2", "topology.layout={a/kernel: [null, modle]}"],
            'topology.layout.a/kernel: no axis is called "modle"; write model or null',
        ),
        (
            ["engine=jax", "topology.model_parallel=2", "topology.layout={a/kernel: [model, model]}"],
            "topology.layout.a/kernel: expected model for one axis, and null for the others",
        ),
        (
            ["engine=jax", "topology.model_parallel=2", "topology.layout={'a(b': [model]}"],
            "topology.layout.a(b: not a regular expression: missing ), unterminated subpattern at position 1",
        ),
        (
            ["data.image.size=[28, 28]"],
            "data.image.size: only for task.kind image_classification, and it is tabular_classification; "
            "remove it",
        ),
        (
            ["task.kind=tabular_regression", "data.image.random_flip=both"],
            "data.image.random_flip: only for task.kind image_classification, and it is tabular_regression; "
            "remove it",
        ),
        (
            ["task.kind=tabular_regression", "task.num_classes=3"],
            "task.num_classes: a regression has no classes; remove it, "
            "or choose a classification as task.kind",
        ),
        (
            ["task.kind=tabular_regression", "training.class_weight={0: 1.0}"],
            "training.class_weight: a regression has no classes; remove it, "
            "or choose a classification as task.kind",
        ),
        (
            ["task.num_classes=3", "training.class_weight={2: 1.0, 3: 1.0}"],
            "training.class_weight.3: no such class; class indices run from 0 to 2",
        ),
        (
            ["training.class_weight={-1: 1.0}"],
            "training.class_weight.-1: no such class; class indices run from 0",
        ),
        (
            ["training.class_weight={1: -0.5}"],
            "training.class_weight.1: expected a weight of at least 0, received -0.5",
        ),
        (
            ["data.source.features=[a, y]"],
            'data.source.features: holds the label "y", which would tell the model the answer; remove it',
        ),
        (
            ["data.split.validation=0", "training.early_stopping={}"],
            "training.early_stopping.monitor: val_loss needs validation data; "
            "set data.split.validation to more than 0",
        ),
    ],
)
def test_a_broken_rule_is_one_sentence(tmp_path, overrides, line):
    assert problems(tmp_path, *overrides) == [line]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["data.split.validation=0.5", "data.split.test=0.49"],
        ["data.split.validation=0.9", "data.split.test=0.9", f"data.validation={CSV}"],
        ["data.split.validation=0.9", "data.split.test=0.9", f"data.test={CSV}"],
        ["task.kind=image_classification", "data.image.size=[28, 28]", "data.image.random_crop=2"],
        ["data.image.random_flip=none"],
        ["task.num_classes=3", "training.class_weight={0: 0, 2: 3}"],
        ["data.source.features=[a, b]"],
        ["data.split.validation=0", "training.early_stopping={monitor: loss}"],
        ["data.split.validation=0", "training.early_stopping={}", f"data.validation={CSV}"],
    ],
)
def test_what_the_rules_allow(tmp_path, overrides):
    assert problems(tmp_path, *overrides) == []


@pytest.mark.parametrize(
    ("overrides", "faulty"),
    [
        # The parts would be too large with the default in place of the faulty value, which nobody asked for.
        (["data.split.validation=0.9", "data.split.test=x"], ["data.split.test"]),
        (["task.kind=tabular", "data.image.size=[2, 2]"], ["task.kind"]),
        (["task.num_classes=x", "training.class_weight={7: -1}"], ["task.num_classes"]),
    ],
)
def test_a_rule_is_silent_where_a_key_it_reads_is_faulty(tmp_path, overrides, faulty):
    assert [line.split(":")[0] for line in problems(tmp_path, *overrides)] == faulty


SPLIT = ["engine=jax", "topology.kind=processes", "topology.model_parallel=2", "topology.layout={a: [model]}"]


def test_a_split_model_fits_its_workers(tmp_path):
    assert problems(tmp_path, *SPLIT, "topology.workers=4") == []
    assert problems(tmp_path, *SPLIT, "topology.workers=3", "training.global_batch_size=9") == [
        "topology.model_parallel: 3 workers do not divide by it; each worker has one device"
    ]
    stopping = "training.early_stopping={monitor: val_loss}"
    assert problems(tmp_path, *SPLIT, "topology.workers=2", stopping) == [
        "training.early_stopping.restore_best_weights: a model that is split over workers is nowhere whole to be "
        "kept; set it to false"
    ]
