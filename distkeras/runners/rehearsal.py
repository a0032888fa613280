"""A dry run: everything up to the first step, and nothing written."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from distkeras.checkpoint.commit import latest
from distkeras.config import Config
from distkeras.observability.console import owned_console
from distkeras.observability.logs import rank_log
from distkeras.observability.progress import Progress
from distkeras.observability.run_directory import RunDirectory
from distkeras.runners.attempt import Attempt
from distkeras.topology import Topology


def rehearse(config: Config, *, quiet: bool = False) -> Mapping[str, Any]:
    """Opens the data and builds the model of a config as training would, and says what it would do.

    Raises:
        DistkerasError: What training would raise before its first step.
    """
    run = RunDirectory(config.output_dir / config.name)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="distkeras-"))
        log = Path(folder, "rank-0.log")
        stack.enter_context(rank_log(log, 0))
        console = stack.enter_context(owned_console(log))
        progress = stack.enter_context(Progress(console.stderr, quiet=quiet))
        return {"run": run.path, "start": _start(run)} | _build(
            Attempt(config, run, True, console, progress, command=""), config
        )


def _start(run: RunDirectory) -> str:
    if not run.exists():
        return "a new run"
    manifest = run.read_manifest()
    if manifest["status"] == "completed":
        return "complete already, unless training.epochs has grown"
    found = latest(run.checkpoints)
    return f"resumes from step {found.commit.step}" if found else "begins again: nothing was committed"


def _build(attempt: Attempt, config: Config) -> dict[str, Any]:
    placement = attempt.place()
    from distkeras.training.experiment import open_experiment
    from distkeras.training.feeding import batch_plan
    from distkeras.training.session import build
    from distkeras.training.state import count_parameters

    attempt.progress.announce(f"opening the {config.data.source.kind} data")
    experiment = open_experiment(config)
    plan = batch_plan(config, experiment.data)
    topology = _topology(config, placement.topology)
    attempt.progress.announce(f"building the model {config.model.builder}")
    model = build(experiment.build_model, config, experiment.data, placement)
    return {
        "num_steps": plan.steps_per_epoch * config.training.epochs,
        "arithmetic": plan.describe(topology),
        "num_parameters": count_parameters(model),
        "topology": {"kind": config.topology.kind, **replace(placement, topology=topology).facts()},
        **experiment.facts(),
    }


def _topology(config: Config, here: Topology) -> Topology:
    """Returns the topology of the run; what is built for the rehearsal is one worker's."""
    workers = config.topology.workers
    if config.topology.kind == "local":
        return here
    return Topology(world_size=workers if isinstance(workers, int) else workers[1])
