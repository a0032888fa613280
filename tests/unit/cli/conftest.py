"""Runs as they lie on disk, without training any."""

import pytest

from distkeras.observability.run_directory import RunDirectory

MANIFEST = {
    "format": 1,
    "name": "first",
    "status": "completed",
    "identity": "0" * 64,
    "seed": 7,
    "epochs": 2,
    "step": 20,
    "num_steps": 20,
    "attempts": 3,
    "created": 1000.0,
    "finished": 1060.0,
    "error": None,
    "command": ["distkeras", "train", "--config", "my file.yaml"],
    "arithmetic": "global batch 8 = 1 worker x 1 replica x 8",
}
CONFIG = """\
name: {name}
task: {{kind: tabular_classification}}
data:
  source: {{kind: synthetic, shape: [4], num_examples: 80}}
model: {{builder: mlp}}
training: {{epochs: 2, global_batch_size: {batch}}}
"""


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """Makes `runs/<name>` below the working directory, which is a new one."""
    monkeypatch.chdir(tmp_path)

    def make(name, *, accuracy=0.5, batch=8, **changes):
        run = RunDirectory(tmp_path / "runs" / name)
        run.create()
        run.config_path.write_text(CONFIG.format(name=name, batch=batch))
        run.write_manifest(MANIFEST | {"name": name} | changes)
        row = '{"step": 20, "epoch": 1, "kind": "epoch", "time": 1, "metrics": {"loss": 0.25, "val_loss": 0.5}}\n'
        run.metrics_path.write_text(row)
        metrics = {"test_loss": 0.75, "test_accuracy": accuracy}
        run.write_evaluation({"split": "test", "num_examples": 9, "metrics": metrics})
        return run

    return make
