"""The sections of a config file: what every key means, in which unit, and what it may be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from distkeras.config.section import Argument, Name, Section
from distkeras.config.source_sections import Source
from distkeras.config.transform_sections import (
    CacheSection,
    ImageSection,
    SpectrogramSection,
    TabularSection,
    TextSection,
)


class NamedObject(Section):
    """A Keras object by its name, with its arguments."""

    name: str
    """Its Keras name: `adam`, `CosineDecay`, `binary_crossentropy`."""
    arguments: dict[str, Argument] = {}
    """Its keyword arguments."""


class SplitSection(Section):
    """How one source becomes training, validation and test data."""

    method: Literal["random", "stratified", "group", "time"] = "stratified"
    """`stratified` keeps each class's share in every part; `random` does not look at labels; `group` keeps examples
    with one value of `column` together; `time` trains on the first and tests on the last by `column`."""
    column: str | None = None
    """Name of the column that `group` and `time` go by; it is no feature."""
    validation: float = Field(default=0.15, ge=0, lt=1)
    """Share of the examples kept for validation. Not used where data.validation names a source."""
    test: float = Field(default=0.15, ge=0, lt=1)
    """Share of the examples kept for the final test. Not used where data.test names a source."""
    seed: int = Field(default=0, ge=0)
    """Seed of the split, apart from the run's seed so that runs with other seeds share their test data."""


class InputSection(Section):
    """How examples become batches."""

    shuffle: bool = True
    """Whether each epoch visits the training examples in its own pseudo-random order."""
    remainder: Literal["drop", "partial", "wrap"] = "drop"
    """The last global batch of an epoch, where it is not full: drop it, train on fewer examples, or fill it
    with the epoch's first examples. Evaluation always sees every example exactly once."""
    balance: Literal["none", "classes"] = "none"
    """`classes`: every class is seen equally often in training, small ones more than once an epoch."""
    image: ImageSection = ImageSection()
    text: TextSection | None = None
    """How texts become token ids; null: the defaults, where the source has texts."""
    spectrogram: SpectrogramSection | None = None
    """How sound becomes a picture; null: the model gets the samples."""
    tabular: TabularSection | None = None
    """How the columns of a table become features; null: they are numbers, and complete."""
    layers: list[NamedObject] = []
    """Keras preprocessing layers by name, `{name: RandomRotation, arguments: {factor: 0.1}}`, applied to batches after
    everything else; random ones in training only, and not the same numbers at every number of workers."""
    cache: CacheSection | None = None
    """Keeps decoded examples for later epochs; null: they are read and decoded every time."""
    num_parallel_calls: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"
    """Examples that are read and decoded at the same time; `auto`: several for each core."""
    ram_budget_bytes: int | None = Field(default=None, gt=0)
    """Memory that finished batches may take while they wait for training; null: half of what is free."""
    max_bad_records: int = Field(default=0, ge=0)
    """Records that may turn out unreadable before the run fails; their place in the order stays, with weight 0."""


class DataSection(InputSection):
    """Where examples come from and how they become batches."""

    source: Source
    """The data set; it is split by `split` unless `validation` and `test` name sources of their own."""
    validation: Source | None = None
    """A separate validation source; null: taken from `source` by `split`."""
    test: Source | None = None
    """A separate test source; null: taken from `source` by `split`."""
    split: SplitSection = SplitSection()
    normalize: Literal["none", "unit", "signed", "standard"] = "none"
    """`unit`: integer pixels to [0, 1]; `signed`: to [-1, 1]; `standard`: subtract the training mean and
    divide by its standard deviation, for each feature (last axis). Part of the model, so serving applies it too."""


class TaskSection(Section):
    """What the model is for; it chooses head, loss, metrics and how predictions are decoded."""

    kind: Literal[
        "image_classification",
        "text_classification",
        "audio_classification",
        "tabular_classification",
        "tabular_regression",
        "time_series_forecasting",
    ]
    num_classes: int | None = Field(default=None, gt=1)
    """Number of classes; null: one more than the largest label in the data."""


class ModelSection(Section):
    """Which network."""

    builder: str
    """`mlp`, `cnn`, `resnet50`, `applications.<name>` (any of keras.applications), or a function of yours as
    `package.module:function`, called as `function(input_shape=..., num_outputs=..., **arguments)`."""
    arguments: dict[str, Argument] = {}
    """Keyword arguments of the builder."""
    weights: Path | None = None
    """A `.weights.h5` or `.keras` file to start from; null: random initial weights. Nothing is downloaded."""


class OptimizerSection(Section):
    """The optimizer, as Keras names it."""

    name: str = "adam"
    """Its Keras name: `sgd`, `adam`, `adamw`, `lion`, ..."""
    learning_rate: float | NamedObject = 1e-3
    """A constant, or a schedule by name (`CosineDecay`) with its arguments."""
    arguments: dict[str, Argument] = {}
    """Other keyword arguments: `momentum`, `weight_decay`, `global_clipnorm`, `use_ema`, ..."""


class EarlyStoppingSection(Section):
    """Stop when a metric no longer improves."""

    monitor: str = "val_loss"
    """Name of the metric to watch."""
    mode: Literal["auto", "min", "max"] = "auto"
    """Whether less or more is better; `auto`: as Keras knows of the metric."""
    patience: int = Field(default=5, ge=0)
    """Epochs without improvement before training stops."""
    min_delta: float = Field(default=0.0, ge=0)
    """Smallest change that counts as an improvement."""
    restore_best_weights: bool = True
    """Whether the model ends with the weights of its best epoch."""


class TrainingSection(Section):
    """How the model is trained."""

    epochs: int = Field(default=1, gt=0)
    """Passes over the training examples."""
    num_steps: int | None = Field(default=None, gt=0)
    """Steps in all, for a source without end: its epochs, of equal length, are these steps; null: whole passes."""
    global_batch_size: int = Field(default=64, gt=0)
    """Examples of one step over all replicas of all workers."""
    optimizer: OptimizerSection = OptimizerSection()
    loss: str | NamedObject | None = None
    """A Keras loss; null: the task's."""
    metrics: list[str | NamedObject] | None = None
    """Keras metrics; null: the task's."""
    class_weight: dict[int, float] | None = None
    """Weight of each class's examples in the loss, by class index; null: all 1."""
    gradient_accumulation_steps: int = Field(default=1, gt=0)
    """Steps whose gradients are averaged into one change of the weights."""
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16", "float64"] = "float32"
    """The Keras dtype policy that the model is built under."""
    jit_compile: bool | Literal["auto"] = "auto"
    """Whether XLA compiles the step; `auto`: on one GPU. Several replicas run without, whatever is set. Engine `jax`:
    always."""
    steps_per_execution: int | Literal["auto"] = "auto"
    """Steps that run inside one call into TensorFlow; `auto`: as many as still show every logging point."""
    early_stopping: EarlyStoppingSection | None = None
    """null: train for all epochs."""


class OuterStepsSection(Section):
    """Workers that train apart and meet every so many steps (DiLoCo, local SGD), for slow networks."""

    every_steps: int = Field(gt=0)
    """Steps between two meetings; the end of an epoch is always one."""
    learning_rate: float = Field(default=0.7, gt=0)
    """How far the mean of the workers' changes is followed; 1 without momentum: their weights are averaged."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Nesterov momentum of the outer steps."""


class TopologySection(Section):
    """On which devices, and in how many processes."""

    kind: Literal["local", "processes", "ray"] = "local"
    """`local`: this process, on one or more devices of this machine. `processes`: several worker processes on this
    machine, each with one device. `ray`: worker processes on a Ray cluster, each with one device."""
    devices: Literal["auto", "cpu", "gpu"] = "auto"
    """`auto`: GPUs where there are any, else the CPU."""
    replicas: Annotated[int, Field(gt=0)] | Literal["auto"] = "auto"
    """Kind `local`: copies of the model, one a device; `auto`: every GPU, or one on the CPU. On the CPU more than one
    makes logical devices, which is for tests, not for speed."""
    workers: Annotated[int, Field(gt=0)] | tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]] = 1
    """Kinds `processes` and `ray`: number of workers. Kind `ray`: or `[least, most]`, as many as the cluster has room
    for; the global batch stays the same."""
    resources_per_worker: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Kind `ray`: what each worker holds of the cluster, such as `{CPU: 4, memory: 8.0e9}`; one CPU, and one GPU
    where devices are GPUs, unless they are named here."""
    placement: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"
    """Kind `ray`: whether workers share machines (PACK) or not (SPREAD); STRICT: or do not start."""
    max_failures: int = Field(default=3, ge=0)
    """Kinds `processes` and `ray`: how often lost workers are replaced, from the last commit, before the run fails."""
    timeout_seconds: float = Field(default=300.0, gt=0)
    """Longest that a worker waits for the others in one operation."""
    reduction: Literal["full", "bfloat16"] | OuterStepsSection = "full"
    """What crosses the network between workers: every step's gradients in the precision they have, or in half the
    bytes of float32; or `{every_steps: 50}`, the weights alone, every so many steps."""
    sync_batch_norm: bool = False
    """Whether BatchNormalization uses the global batch's statistics rather than each replica's own. Engine `jax`:
    always."""
    model_parallel: int = Field(default=1, gt=0)
    """Engine `jax`: devices that one copy of the model is split over, as `layout` says. Kinds `processes` and `ray`:
    this many workers share one copy."""
    layout: dict[str, list[str | None]] = {}
    """Engine `jax`: which weights are split. From a regular expression that matches the whole path of a weight, such as
    `ffn_up/kernel`, to `model` (split) or null (whole) for each of its axes."""


class CheckpointSection(Section):
    """When the run's state is committed."""

    every_steps: int | None = Field(default=None, gt=0)
    """Steps between two commits within an epoch; null: only at the end of epochs."""
    every_epochs: int = Field(default=1, gt=0)
    """Epochs between two commits; the last epoch is always committed."""
    keep: int = Field(default=2, gt=0)
    """Newest commits that are kept."""


class LoggingSection(Section):
    """What is written while training."""

    every_steps: int | Literal["auto"] = "auto"
    """Steps between two logging points; `auto`: ten an epoch, at most every 100 steps."""
    tensorboard: bool = True
    """Whether TensorBoard event files are written beside metrics.jsonl (extra `track`)."""


class RunSettings(Section):
    """What a run needs to know apart from its task, data and model."""

    name: Name
    """The run's name: its directory is `<output_dir>/<name>`. The file's stem where it is not given."""
    training: TrainingSection = TrainingSection()
    engine: Literal["tensorflow", "jax"] = "tensorflow"
    """What computes: Keras on TensorFlow, or Keras on JAX (extra `jax`). Part of what the run is: their initial weights
    and dropout masks differ, whatever the seed."""
    topology: TopologySection = TopologySection()
    checkpoint: CheckpointSection = CheckpointSection()
    logging: LoggingSection = LoggingSection()
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of initial weights, order of examples, augmentation and dropout."""
    deterministic: bool = False
    """Whether two runs of one topology give identical bits, at some cost in speed."""
    output_dir: Path = Path("runs")
    """Where run directories are made; relative to the working directory."""


class Config(RunSettings):
    """A whole run: one file, one object."""

    task: TaskSection
    data: DataSection
    model: ModelSection
