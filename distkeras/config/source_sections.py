"""Where examples come from: a section for each kind of source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from distkeras.config.section import Section, whole_number

Location = Annotated[str, Field(min_length=1)]
Reference = Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]


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
    channels: Annotated[Literal[1, 3], BeforeValidator(whole_number)] = 3
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


class ExcelSource(Section):
    """Numeric columns of a sheet of an Excel workbook (.xlsx) with a header row; extra `excel`."""

    kind: Literal["excel"]
    path: Path
    """The workbook; relative to the config file."""
    label: str
    """Name of the label column. Text labels become class indices in sorted order."""
    features: list[str] | None = None
    """Names of the feature columns, in order; null: every column but the label."""
    sheet: str | None = None
    """Name of the sheet; null: the first one."""


class ParquetSource(Section):
    """Numeric columns of a Parquet file or of a folder of Parquet files with one schema."""

    kind: Literal["parquet"]
    path: Location
    """The file or folder, relative to the config file; or a URI that fsspec opens: `s3://bucket/folder`."""
    label: str
    """Name of the label column. Text labels become class indices in sorted order."""
    features: list[str] | None = None
    """Names of the feature columns, in order; null: every column but the label. Only these are read."""
    in_memory: bool | Literal["auto"] = "auto"
    """Whether the columns are held in memory; `auto`: if they take up to 1 GiB as float32. Else row groups are read as
    they are needed, and an epoch's order shuffles row groups, then rows among a few of them."""


class RecordsSource(Section):
    """Records of `tf.train.Example`: TFRecord files, whose index is built once, or ArrayRecord files."""

    kind: Literal["tfrecord", "array_record"]
    path: Path
    """The file, or the folder of `*.tfrecord*` or `*.array_record*` files; relative to the config file."""
    features: str = "image"
    """Name of the feature that is the model's input: an encoded image, numbers, or text."""
    label: str = "label"
    """Name of the feature that is the label."""
    shape: list[Annotated[int, Field(gt=0)]] | None = None
    """Shape of one example's features where they are numbers; null: as flat as they are stored."""
    channels: Annotated[Literal[1, 3], BeforeValidator(whole_number)] = 3
    """Colour channels that images are decoded to."""
    max_pixels: int = Field(default=50_000_000, gt=0)
    """An image whose header claims more pixels than this is refused before it is decoded."""


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


class TextFolderSource(Section):
    """A folder with one sub-folder of UTF-8 text files (.txt) for each class."""

    kind: Literal["text_folder"]
    path: Path
    """The folder; its sub-folders' names, sorted, are the classes. Relative to the config file."""
    max_bytes: int = Field(default=10_000_000, gt=0)
    """A longer file is refused."""


class JsonlSource(Section):
    """JSON Lines: one JSON object a line, with a text and a label."""

    kind: Literal["jsonl"]
    path: Path
    """The file, or the folder of `*.jsonl` files; relative to the config file."""
    features: str = "text"
    """Name of the member that is the model's input: a text, or a list of numbers of one length."""
    label: str = "label"
    """Name of the member that is the label. Text labels become class indices in sorted order."""


class AudioFolderSource(Section):
    """A folder with one sub-folder of sound files (.wav, 16-bit PCM) for each class."""

    kind: Literal["audio_folder"]
    path: Path
    """The folder; its sub-folders' names, sorted, are the classes. Relative to the config file."""
    sample_rate: int = Field(default=16_000, gt=0)
    """Samples a second that every file must have."""
    seconds: float = Field(default=1.0, gt=0)
    """Length of an example: longer files are cut, shorter ones filled with silence."""


class TimeSeriesSource(Section):
    """Windows of a table that is ordered in time: what happened is the features, what follows the label."""

    kind: Literal["time_series"]
    path: Path
    """A .csv, .parquet or .xlsx file; relative to the config file."""
    target: str
    """Name of the column that is forecast."""
    columns: list[str] | None = None
    """Names of the columns that a window shows, in order; null: every numeric column, the target among them."""
    window: int = Field(gt=0)
    """Rows that a window shows."""
    horizon: int = Field(default=1, gt=0)
    """Rows after the window that are forecast, one output each."""
    stride: int = Field(default=1, gt=0)
    """Rows between the starts of two windows."""
    series: str | None = None
    """Name of a column that tells several series apart; no window crosses from one into another. null: one series."""
    time: str | None = None
    """Name of a column that must never fall within a series; null: the rows are in order as they stand."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """The character between two fields of a CSV file."""


class RayDataSource(Section):
    """A Ray Data set that a function of yours makes; its blocks are read from Ray's object store."""

    kind: Literal["ray_data"]
    function: Reference
    """The function, as `package.module:function`; called without arguments, it returns a `ray.data.Dataset`."""
    label: str
    """Name of the label column. Text labels become class indices in sorted order."""
    features: list[str] | None = None
    """Names of the feature columns, in order: numbers, or one column of arrays of one shape; null: every column but
    the label."""


class GeneratorSource(Section):
    """A stream of examples that a function of yours yields; read at least once, and never split.

    A stream has no length: give `training.num_steps`, and `data.validation` and `data.test` of their own.
    """

    kind: Literal["generator"]
    function: Reference
    """The function, as `package.module:function`. It yields `(features, label)`; with a parameter `start` it is
    told how many examples to leave out, else they are yielded and thrown away on resume."""
    shape: list[Annotated[int, Field(gt=0)]]
    """Shape of one example's features, without the batch."""
    dtype: Literal["float32", "int32", "int64", "uint8"] = "float32"
    """Type of the features."""
    num_classes: int | None = Field(default=None, gt=1)
    """Labels are integers in [0, num_classes); null: one float label an example."""


class SyntheticSource(Section):
    """Random examples made from their own index: the same for any topology; for benchmarks and checks."""

    kind: Literal["synthetic"]
    num_examples: int = Field(default=10_000, gt=0)
    """Examples in an epoch."""
    shape: list[Annotated[int, Field(gt=0)]]
    """Shape of one example's features, without the batch."""
    num_classes: int | None = Field(default=10, gt=1)
    """Labels are integers in [0, num_classes); null: one float label an example."""


SingleSource = Annotated[
    ArraysSource
    | ImageFolderSource
    | CsvSource
    | ExcelSource
    | ParquetSource
    | RecordsSource
    | TfdsSource
    | TextFolderSource
    | JsonlSource
    | AudioFolderSource
    | TimeSeriesSource
    | RayDataSource
    | GeneratorSource
    | SyntheticSource,
    Field(discriminator="kind"),
]


class WeightedSource(Section):
    """One source of a mixture."""

    source: SingleSource
    """The source."""
    weight: float = Field(default=1.0, gt=0)
    """Its share of the examples, relative to the others' weights."""


class MixtureSource(Section):
    """Several sources of one kind of example, mixed by weight. Each is walked through without repetition, and
    begins anew when it is through: a small source is seen more often, a large one goes on in the next epoch."""

    kind: Literal["mixture"]
    sources: list[WeightedSource] = Field(min_length=2)
    """The sources; examples must have the same shape, type and classes."""
    num_examples: int | None = Field(default=None, gt=0)
    """Examples of an epoch; null: as many as the sources have together."""


Source = Annotated[
    ArraysSource
    | ImageFolderSource
    | CsvSource
    | ExcelSource
    | ParquetSource
    | RecordsSource
    | TfdsSource
    | TextFolderSource
    | JsonlSource
    | AudioFolderSource
    | TimeSeriesSource
    | RayDataSource
    | GeneratorSource
    | SyntheticSource
    | MixtureSource,
    Field(discriminator="kind"),
]
