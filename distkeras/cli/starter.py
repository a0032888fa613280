"""The text of a first config: what `distkeras init` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distkeras.errors import ConfigError

if TYPE_CHECKING:
    from distkeras.data.recognition import Arrays, Columns

_PAGE = """\
# {task}: written by `distkeras init`, a place to start from.
# Every key that is not here has a default: distkeras config show --config THIS_FILE
task: {{kind: {task}}}
data:
{source}
{input}
model:
{model}
training:
  epochs: {epochs}
  global_batch_size: {batch}  # examples of one step, over all devices
  optimizer: {{name: adam, learning_rate: 0.001}}
"""
_SYNTHETIC = {
    "image_classification": "shape: [28, 28, 1], num_classes: 10",
    "tabular_classification": "shape: [16], num_classes: 3",
    "tabular_regression": "shape: [16], num_classes: null",
}
_MODELS = {
    "cnn": "  builder: cnn  # or mlp, resnet50, applications.<name>, package.module:function",
    "mlp": "  builder: mlp  # or a function of your own: package.module:function",
}
_NEEDS_RANDOM_SPLIT = "  split: {method: random, validation: 0.15, test: 0.15}"
_SPLIT = "  split: {validation: 0.15, test: 0.15}  # shares kept away from training"


@dataclass(frozen=True)
class Starter:
    """A first config.

    Attributes:
        name: Its file's stem, which becomes the run's name.
        text: Its YAML.
    """

    name: str
    text: str


@dataclass(frozen=True)
class _Draft:
    task: str
    source: Sequence[str]
    normalize: str
    size: bool = False


def starter_config(data: Path | None, task: str | None, label: str | None) -> Starter:
    """Returns a config for some data, or for synthetic examples where there is none yet.

    Args:
        data: A file or folder; None: synthetic examples.
        task: What the model is for; None: what the data looks like.
        label: The column of a table to predict; None: the last one.

    Raises:
        ConfigError: If a label is named for data that is no table.
        DataError: If nothing can be read at the path.
    """
    if data is None:
        draft = _synthetic(task or "image_classification")
        return Starter(draft.task, _page(draft))
    return Starter(_run_name(data), _page(_from_data(data, task, label)))


def _page(draft: _Draft) -> str:
    images = draft.task == "image_classification"
    split = _NEEDS_RANDOM_SPLIT if draft.task == "tabular_regression" else _SPLIT
    lines = [split, f"  normalize: {draft.normalize}"]
    if draft.size:
        lines.append("  image: {size: [64, 64], random_flip: horizontal}  # height and width in pixels")
    return _PAGE.format(
        task=draft.task,
        source="\n".join(draft.source),
        input="\n".join(lines),
        model=_MODELS["cnn" if images else "mlp"],
        epochs=5 if images else 20,
        batch=32,
    )


def _synthetic(task: str) -> _Draft:
    source = [
        "  # Random examples that can be learned; put your own in place: distkeras init --data PATH",
        f"  source: {{kind: synthetic, num_examples: 2000, {_SYNTHETIC[task]}}}",
    ]
    return _Draft(task, source, "none")


def _from_data(data: Path, task: str | None, label: str | None) -> _Draft:
    from distkeras.data.recognition import inspect_arrays, inspect_columns, recognise

    kind = recognise(data)
    if label is not None and kind not in ("csv", "parquet"):
        raise ConfigError(f"--label names a column of a table; this is {kind}.", received=label)
    match kind:
        case "csv" | "parquet":
            return _table(data, kind, inspect_columns(data, label), task)
        case "arrays":
            return _arrays(data, inspect_arrays(data), task)
        case _:
            source = _source(data, kind)
            return _Draft(task or "image_classification", source, "unit", size=True)


def _table(data: Path, kind: str, columns: Columns, task: str | None) -> _Draft:
    source = _source(data, kind, f"label: {_quoted(columns.label)}  # the column to predict")
    if columns.delimiter != ",":
        source.append(f"    delimiter: {_quoted(columns.delimiter)}")
    if columns.left_out:
        source.append(f"    # Not numeric, left out: {', '.join(map(_quoted, columns.left_out))}")
        source.append(f"    features: [{', '.join(map(_quoted, columns.features))}]")
    return _Draft(task or columns.task, source, "standard")


def _arrays(data: Path, arrays: Arrays, task: str | None) -> _Draft:
    names = f"features: {_quoted(arrays.features)}", f"label: {_quoted(arrays.label)}"
    return _Draft(task or arrays.task, _source(data, "arrays", *names), "standard")


def _source(data: Path, kind: str, *lines: str) -> list[str]:
    # Absolute, because a relative path would start at the config file, wherever it is moved.
    return [
        "  source:",
        *(f"    {line}" for line in (f"kind: {kind}", f"path: {_quoted(data.resolve())}", *lines)),
    ]


def _quoted(text: object) -> str:
    return json.dumps(str(text), ensure_ascii=False)


def _run_name(data: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", data.resolve().stem).strip("._-")
    return name[:100] or "first"
