"""env.json explains a result without naming the machine."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version

import pytest

from distkeras.observability import environment


@pytest.fixture
def repository(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    (tmp_path / "file").write_text("one")
    for command in (["init", "-q"], ["add", "file"], [*identity, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    return tmp_path


def _program(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_it_is_json_and_leaves_the_machine_name_out(tmp_path):
    described = environment.describe_environment(["distkeras", "train"], tmp_path)
    text = json.dumps(described, allow_nan=False)
    assert set(described) == {"command", "python", "platform", "cpu", "num_cores", "memory_bytes"} | {
        "gpus",
        "versions",
        "git",
    }
    assert described["command"] == ["distkeras", "train"]
    assert described["python"] == platform.python_version()
    assert described["num_cores"] == len(os.sched_getaffinity(0))
    assert described["memory_bytes"] > 2**28
    assert described["cpu"]
    assert len(platform.node()) < 4 or platform.node() not in text


def test_versions_come_from_metadata():
    versions = environment.package_versions(("numpy", "no-such-package"))
    assert versions == {"numpy": version("numpy")}


def test_git_state(repository, tmp_path_factory):
    state = environment.git_state(repository)
    assert len(state["revision"]) == 40
    assert state["dirty"] is False
    (repository / "file").write_text("two")
    assert environment.git_state(repository)["dirty"] is True
    assert environment.git_state(tmp_path_factory.mktemp("bare")) is None


def test_gpus_are_read_from_nvidia_smi(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    _program(tmp_path, "nvidia-smi", "echo 'NVIDIA H200, 143771 MiB, 570.1'; echo 'No devices'")
    gpu = {"name": "NVIDIA H200", "memory": "143771 MiB", "driver": "570.1"}
    assert environment.describe_gpus() == [gpu]
    _program(tmp_path, "nvidia-smi", "exit 9")
    assert environment.describe_gpus() == []


def test_a_tool_that_hangs_or_is_missing_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "_TIMEOUT_SECONDS", 0.2)
    _program(tmp_path, "nvidia-smi", "exec sleep 60")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert environment.describe_gpus() == []
    monkeypatch.setenv("PATH", "/nonexistent")
    assert environment.describe_gpus() == []
    assert environment.git_state(tmp_path) is None


def test_the_room_needs_no_tensorflow_keras_ray_or_plotting():
    code = """
import sys
from distkeras.observability import console, environment, formats, logs, progress, report, run_directory
from distkeras.observability import timers, writers
from pathlib import Path
environment.describe_environment(["a"], Path("."))
heavy = {"tensorflow", "keras", "ray", "matplotlib", "jinja2", "tensorboard", "rich"}
print({name.split(".")[0] for name in sys.modules} & heavy)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("/opt/somewhere/.venv/bin/no-such-program", ["/opt/somewhere/.venv/bin/no-such-program"]),
        ("/usr/bin/env", ["env"]),
        ("/lib/site-packages/distkeras/__main__.py", ["python", "-m", "distkeras"]),
        ("train.py", ["python", "train.py"]),
    ],
)
def test_the_program_is_named_as_it_can_be_typed_again(argument, words, monkeypatch):
    monkeypatch.setattr(sys, "argv", [argument, "--option"])
    assert environment.this_program() == words


def _memory_files(root, available_kib, limit=None, used=0, inactive=0):
    (root / "proc").mkdir()
    (root / "proc/meminfo").write_text(f"MemTotal: 99999 kB\nMemAvailable: {available_kib} kB\n")
    group = root / "sys/fs/cgroup"
    group.mkdir(parents=True)
    if limit is not None:
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text(f"{used}\n")
        (group / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n")


def test_available_memory_is_the_machines_where_nothing_limits_it(tmp_path):
    _memory_files(tmp_path, 1000, limit="max")
    assert environment.available_memory(tmp_path) == 1000 * 1024


def test_available_memory_is_what_a_container_has_left(tmp_path):
    _memory_files(tmp_path, 1000, limit=500_000, used=300_000, inactive=100_000)
    assert environment.available_memory(tmp_path) == 300_000


def test_available_memory_of_this_machine_is_some():
    assert environment.available_memory() > 2**20
