"""The sections of a config file: what every key means, in which unit, and what it may be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _whole_number(value: object) -> object:
    # Strict mode does not reach into Literal: true and 1.0 pass for 1 (pydantic 2.14).
    if isinstance(value, bool | float):
        raise ValueError("not a whole number")
    return value


Scalar = bool | int | float | str | None
Argument = Scalar | list[Scalar]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]


class Section(BaseModel):
    """A part of the config: strict types, frozen, no unknown keys."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=()
    )


class ArraysSource(Section):
    """NumPy arrays: one `.npz` file, or a folder with one `.npy` a name (memory-mapped)."""

    kind: Literal["arrays"]
    path: Path
    """The `.npz` file or the folder of `.npy` files; relative to the config file."""
    features: str = "x"
    """Name of the array of features, shape (num_examples, ...)."""
    label: str = "y"
    """Name of the array of labels, shape (num_examples,) or (num_examples, ...)."""


class ImageFolderSource(Section):
    """A folder with one sub-folder of JPEG, PNG, BMP or GIF files for each class."""

    kind: Literal["image_folder"]
    path: Path
    """The folder; its sub-folders' names, sorted, are the classes. Relative to the config file."""
    channels: Annotated[Literal[1, 3], BeforeValidator(_whole_number)] = 3
    """Colour channels that images are decoded to."""
    max_pixels: int = Field(default=50_000_000, gt=0)
    """An image whose header claims more pixels than this is refused before it is decoded."""


class CsvSource(Section):
    """Numeric columns of a CSV file with a header row."""

    kind: Literal["csv"]
    path: Path
    """The file; relative to the config file."""
    label: str
    """Name of the label column. Text labels become class indices in sorted order."""
    features: list[str] | None = None
    """Names of the feature columns, in order; null: every column but the label."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """The character between two fields."""


class ParquetSource(Section):
    """Numeric columns of a Parquet file or of a folder of Parquet files with one schema."""

    kind: Literal["parquet"]
    path: Path
    """The file or folder; relative to the config file."""
    label: str
    """Name of the label column. Text labels become class indices in sorted order."""
    features: list[str] | None = None
    """Names of the feature columns, in order; null: every column but the label. Only these are read."""


class TfdsSource(Section):
    """One split of a TensorFlow Datasets data set that is already prepared on disk; nothing is downloaded."""

    kind: Literal["tfds"]
    path: Path
    """The prepared directory, the one with `dataset_info.json`; relative to the config file."""
    split: str = "train"
    """Name of the split to read."""
    features: str = "image"
    """Name of the feature that is the model's input."""
    label: str = "label"
    """Name of the feature that is the label."""


class SyntheticSource(Section):
    """Random examples made from their own index: the same for any topology; for benchmarks and checks."""

    kind: Literal["synthetic"]
    num_examples: int = Field(default=10_000, gt=0)
    """Examples in an epoch."""
    shape: list[Annotated[int, Field(gt=0)]]
    """Shape of one example's features, without the batch."""
    num_classes: int | None = Field(default=10, gt=1)
    """Labels are integers in [0, num_classes); null: one float label an example."""


Source = Annotated[
    ArraysSource | ImageFolderSource | CsvSource | ParquetSource | TfdsSource | SyntheticSource,
    Field(discriminator="kind"),
]


class SplitSection(Section):
    """How one source becomes training, validation and test data."""

    method: Literal["random", "stratified"] = "stratified"
    """`stratified` keeps each class's share in every part; `random` does not look at labels."""
    validation: float = Field(default=0.15, ge=0, lt=1)
    """Share of the examples kept for validation. Not used where data.validation names a source."""
    test: float = Field(default=0.15, ge=0, lt=1)
    """Share of the examples kept for the final test. Not used where data.test names a source."""
    seed: int = Field(default=0, ge=0)
    """Seed of the split, apart from the run's seed so that runs with other seeds share their test data."""


class ImageSection(Section):
    """What happens to images between the file and the model."""

    size: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]] | None = None
    """Height and width in pixels that images are resized to; null: as they are (all must be equal)."""
    random_crop: int = Field(default=0, ge=0)
    """Training only: pad by this many pixels on each side, then crop back at a random place; 0: off."""
    random_flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    """Training only: mirror each image with probability one half along this axis."""


class InputSection(Section):
    """How examples become batches."""

    shuffle: bool = True
    """Whether each epoch visits the training examples in its own pseudo-random order."""
    remainder: Literal["drop", "partial", "wrap"] = "drop"
    """The last global batch of an epoch, where it is not full: drop it, train on fewer examples, or fill it
    with the epoch's first examples. Evaluation always sees every example exactly once."""
    image: ImageSection = ImageSection()


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

    kind: Literal["image_classification", "tabular_classification", "tabular_regression"]
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


class NamedObject(Section):
    """A Keras object by its name, with its arguments."""

    name: str
    """Its Keras name: `adam`, `CosineDecay`, `binary_crossentropy`."""
    arguments: dict[str, Argument] = {}
    """Its keyword arguments."""


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
