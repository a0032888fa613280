"""`distkeras launch ray` as far as it goes without a cluster."""

import json
import os
import shlex
import subprocess
import sys

import pytest

CONFIG = """\
task: {kind: tabular_classification}
data:
  source: {kind: synthetic, shape: [4], num_examples: 80}
model: {builder: mlp}
"""


@pytest.fixture
def launch(tmp_path):
    """Runs `distkeras launch ray` in a project, with a token and without Ray's variables."""
    (tmp_path / "home" / ".ray").mkdir(parents=True)
    (tmp_path / "home" / ".ray" / "auth_token").write_text("secret\n")
    project = tmp_path / "project"
    project.mkdir()
    (project / "small.yaml").write_text(CONFIG)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}

    def run(*arguments, **variables):
        command = [sys.executable, "-m", "distkeras", "launch", "ray", "--config", "small.yaml", *arguments]
        return subprocess.run(
            command,
            cwd=project,
            env={**environment, "HOME": str(tmp_path / "home"), **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    run.project = project
    return run


def test_a_dry_run_prints_one_command_and_needs_neither_server_nor_token(launch):
    result = launch("--dry-run", "--set", "training.epochs=3", RAY_AUTH_TOKEN_PATH="/nowhere")  # noqa: S106
    assert (result.returncode, result.stderr) == (0, "")
    [line] = result.stdout.splitlines()
    words = shlex.split(line)
    assert words[:6] == [
        *("RAY_AUTH_MODE=token", "ray", "job", "submit"),
        *("--address", "http://127.0.0.1:8265"),
    ]
    assert words[6:8] == ["--working-dir", str(launch.project)]
    train = words[words.index("--") + 1 :]
    assert train[:6] == ["distkeras", "train", "--config", "small.yaml", "--set", "training.epochs=3"]
    assert train[6:] == ["--set", f"output_dir={launch.project}/runs"]


def test_a_dry_run_as_json_and_the_address_from_rays_own_variable(launch):
    (launch.project / ".rayignore").write_text("*.zip\n")
    result = launch("--dry-run", "--json", RAY_API_SERVER_ADDRESS="http://head:8265")
    assert (result.returncode, result.stderr) == (0, "")
    said = json.loads(result.stdout)
    assert (said["status"], said["run"]) == ("dry run", f"{launch.project}/runs/small")
    assert "--address http://head:8265 " in said["command"]


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["--set", "training.epoch=3"], 2, "training.epochs"),
        (["--address", "head:8265"], 2, "error: The address of a job server begins with http"),
        (["--runtime-env", "no.yaml"], 2, "no.yaml"),
        (["--address", "http://127.0.0.1:1"], 4, "error: No job server can be reached at this address."),
    ],
)
def test_what_is_wrong_is_one_sentence_and_a_code(launch, arguments, code, problem):
    result = launch(*arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert problem in result.stderr
    assert len(result.stderr.splitlines()) <= 12
    assert "Traceback" not in result.stderr
    assert "secret" not in result.stderr


def test_without_a_token_nothing_is_sent(launch):
    result = launch(RAY_AUTH_TOKEN_PATH="/nowhere")  # noqa: S106
    assert result.returncode == 4
    assert "error: There is no token for the cluster.\n  where: /nowhere\n" in result.stderr


def test_the_help_says_what_is_assumed_and_fits_sixty_columns(launch):
    result = launch("--help", COLUMNS="60")
    assert max(map(len, result.stdout.splitlines())) <= 60
    said = " ".join(result.stdout.split())
    assert "RAY_AUTH_TOKEN_PATH" in said
    assert "Where the two do not share that storage, it is fetched" in said


def test_help_imports_no_ray():
    code = (
        "import sys, distkeras.cli.launch_command; print({'ray', 'pydantic', 'requests'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
