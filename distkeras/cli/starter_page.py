"""How a first config is written: its page, and the YAML of single lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

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
_OWN = "a function of your own: package.module:function"
_MODELS = {
    "cnn": "  builder: cnn  # or mlp, resnet50, applications.<name>, package.module:function",
    "mlp": f"  builder: mlp  # or {_OWN}",
    "lstm": f"  builder: lstm  # or {_OWN}\n"
    "  arguments: {vocabulary_size: 10000, embedding_units: 32, units: [32], bidirectional: true, dropout: 0.3}",
}
_BUILDERS = {"image_classification": "cnn", "audio_classification": "cnn", "text_classification": "lstm"}
_EPOCHS = {"cnn": 5, "lstm": 10, "mlp": 20}
_SHARES = "validation: 0.15, test: 0.15"
_SPLITS = {
    "tabular_regression": f"  split: {{method: random, {_SHARES}}}",
    "time_series_forecasting": f"  split: {{method: time, {_SHARES}}}  # the last rows are tested",
}
_SPLIT = f"  split: {{{_SHARES}}}  # shares kept away from training"
NAMES_SHOWN = 12


@dataclass(frozen=True)
class Draft:
    """What is to be written.

    Attributes:
        task: What the model is for.
        source: Lines of `data.source`.
        input: Further lines of `data`.
    """

    task: str
    source: Sequence[str]
    input: Sequence[str]


def page(draft: Draft) -> str:
    """Returns the YAML of a draft."""
    builder = _BUILDERS.get(draft.task, "mlp")
    return _PAGE.format(
        task=draft.task,
        source="\n".join(draft.source),
        input="\n".join([_SPLITS.get(draft.task, _SPLIT), *draft.input]),
        model=_MODELS[builder],
        epochs=_EPOCHS[builder],
        batch=32,
    )


def source_lines(data: Path, kind: str, *lines: str) -> list[str]:
    """Returns the lines of `data.source`: its kind, its path and further ones."""
    # Absolute, because a relative path would start at the config file, wherever it is moved.
    return [
        "  source:",
        *(f"    {line}" for line in (f"kind: {kind}", f"path: {quoted(data.resolve())}", *lines)),
    ]


def listed(names: Iterable[str]) -> str:
    """Returns names in a row; of many the first, and how many more there are."""
    shown = list(names)
    more = len(shown) - NAMES_SHOWN
    return ", ".join(shown[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def quoted(text: object) -> str:
    """Returns a text as YAML reads it back."""
    # What YAML takes for the end of a line, or for nothing that can be printed, is written as its number.
    escaped = json.dumps(str(text), ensure_ascii=False)
    return re.sub(r"[\x7f-\x9f\u2028\u2029\ufeff]", lambda found: f"\\u{ord(found[0]):04x}", escaped)
