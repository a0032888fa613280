"""Marks of epochs: what is an epoch, and what lies between two of them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import keras  # noqa: F401 (imported here, before a test's environment is compared)
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import epochs


def test_pauses_lie_between_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 6.0, 13.0, 14.5, 20.0])
    monkeypatch.setattr(epochs, "time", SimpleNamespace(perf_counter=clock.__next__))
    marks = epochs.EpochMarks()
    callback = marks.callback()
    for epoch in range(3):
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch)
    assert marks.seconds == [5.0, 7.0, 5.5]
    assert marks.pauses == [1.0, 1.5]
