"""`distkeras launch ray` against a Ray cluster of two nodes with its job server and token, on this machine."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parent.parent.parent
BIN = Path(sys.executable).parent
# A worker on each node; they write to storage that both share.
ON_BOTH_NODES = "topology={kind: ray, workers: 2, placement: STRICT_SPREAD}"
CONFIG = """\
task: {kind: image_classification}
data:
  source: {kind: arrays, path: data/digits.npz}
model: {builder: cnn, arguments: {filters: [8]}}
training: {epochs: 2, global_batch_size: 64}
"""
START_SECONDS = 90
CONFIG_IN_FOLDER = "configs/digits.yaml"


class Cluster:
    """Two raylets on loopback and what a submitter needs to reach them."""

    def __init__(self, address, environment):
        self.address, self.environment = address, environment

    def launch(self, folder, *arguments, **variables):
        """Starts `distkeras launch ray` as a user would, in `folder`."""
        command = [
            sys.executable,
            "-m",
            "distkeras",
            "launch",
            "ray",
            "--config",
            CONFIG_IN_FOLDER,
            *arguments,
        ]
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**self.environment, "RAY_API_SERVER_ADDRESS": self.address, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, path):
        token = Path(self.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
        request = urllib.request.Request(self.address + path, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.loads(answer.read())

    def jobs(self):
        return {job["submission_id"]: job for job in self.ask("/api/jobs/")}

    def num_nodes(self):
        with suppress(OSError):
            nodes = self.ask("/api/v0/nodes")["data"]["result"]["result"]
            return sum(node["state"] == "ALIVE" for node in nodes)
        return 0


def finished(process, timeout=120):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def free_ports(number):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def start_ray(*arguments, environment, log):
    # With --block all processes of the node are descendants of this one.
    command = [
        BIN / "ray",
        "start",
        "--block",
        "--num-cpus",
        "1",
        "--object-store-memory",
        "100000000",
        *arguments,
    ]
    return subprocess.Popen(
        [*map(str, command), "--disable-usage-stats"] if "--head" in arguments else list(map(str, command)),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def stop(processes):
    """Ends these processes and their descendants, and nothing else."""
    family = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(process.pid)
            family += [*parent.children(recursive=True), parent]
    for one in family:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(family, timeout=10)
    for process in processes:
        process.wait(timeout=10)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    token = home / "token"
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "HOME": str(home),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_TOKEN_PATH": str(token),
    }
    for_ray = environment | {"RAY_AUTH_MODE": "token"}
    gcs, dashboard, client, agent, other_agent = free_ports(5)
    # Ray puts sockets below it, whose paths may have 107 characters. Two nodes with one session directory would
    # replace each other's working directories while jobs run in them.
    session = Path(tempfile.mkdtemp(prefix="dk-ray-"))
    found = Cluster(f"http://127.0.0.1:{dashboard}", environment)
    processes = []
    with (home / "ray.log").open("w") as log:
        try:
            head = ["--head", "--port", gcs, "--temp-dir", session / "a", "--dashboard-host", "127.0.0.1"]
            head += ["--dashboard-port", dashboard, "--ray-client-server-port", client]
            head += ["--dashboard-agent-listen-port", agent]
            processes.append(start_ray(*head, environment=for_ray, log=log))
            wait_for(lambda: found.num_nodes() == 1, processes, home)
            node = ["--address", f"127.0.0.1:{gcs}", "--dashboard-agent-listen-port", other_agent]
            node += ["--temp-dir", session / "b"]
            processes.append(start_ray(*node, environment=for_ray, log=log))
            wait_for(lambda: found.num_nodes() == 2, processes, home)
            yield found
        finally:
            stop(processes)
            shutil.rmtree(session, ignore_errors=True)


def wait_for(condition, processes, home):
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        said = (home / "ray.log").read_text()
        assert time.monotonic() < deadline, said
        assert all(process.poll() is None for process in processes), said
        time.sleep(0.3)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "project"
    (folder / "configs" / "data").mkdir(parents=True)
    shutil.copy(ROOT / "configs" / "data" / "digits.npz", folder / "configs" / "data")
    (folder / CONFIG_IN_FOLDER).write_text(CONFIG)
    shutil.copytree(ROOT / "launch", folder / "launch")
    shutil.copy(ROOT / ".rayignore", folder)
    return folder


def test_a_job_is_followed_and_its_run_is_fetched_where_storage_is_not_shared(cluster, folder):
    # The same path is another folder for each process, in its own working directory.
    process = cluster.launch(folder, "--json", "--set", "output_dir=/proc/self/cwd/runs")
    code, out, err = finished(process)
    assert code == 0, err
    result = json.loads(out)
    assert (result["status"], result["exit_code"], result["error"]) == ("succeeded", 0, None)
    run = folder / "runs" / "digits"
    manifest = json.loads((run / "manifest.json").read_text())
    assert (manifest["status"], manifest["epochs"]) == ("completed", 2)
    assert (run / "report.html").stat().st_size > 10_000
    assert len((run / "metrics.jsonl").read_text().splitlines()) >= 2
    assert (run / "logs" / "rank-0.log").is_file()
    assert not (run / "checkpoints").exists()
    assert list(folder.glob("runs/.*")) == []
    lines = err.splitlines()
    assert lines[0] == f"submitting {folder} to {cluster.address}"
    assert lines[1] == f"submitted as job {result['job']}"
    assert any(line.startswith("epoch=2/2 ") for line in lines)
    assert not [line for line in lines if "INFO" in line or "entrypoint" in line or "Tailing" in line]
    assert lines[-1].startswith("fetching the run: ")


def test_the_script_submits_the_same_job_whose_run_lies_on_shared_storage(cluster, folder):
    settings = ["--set", "training.epochs=1", "--set", ON_BOTH_NODES]
    script = [folder / "launch" / "ray_job.sh", CONFIG_IN_FOLDER, *settings]
    environment = cluster.environment | {"ADDRESS": cluster.address}
    result = subprocess.run(script, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert result.returncode == 0, result.stdout + result.stderr
    manifest = json.loads((folder / "runs/digits/manifest.json").read_text())
    assert manifest["status"] == "completed"
    assert manifest["topology"] == {"kind": "ray", "device": "cpu", "num_replicas": 2, "world_size": 2}
    code, out, err = finished(cluster.launch(folder, *settings))
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == f"{folder}/runs/digits is complete: nothing is left to train"
    assert lines[-1] == f"run: {folder}/runs/digits (shared with the cluster)"
    token = Path(cluster.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    assert token not in json.dumps(cluster.jobs()) + result.stdout + result.stderr + out + err
    assert not [path for path in folder.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]


def test_a_failing_job_ends_the_submitter_with_its_code_and_first_error(cluster, folder):
    code, out, err = finished(
        cluster.launch(folder, "--json", "--set", "data.source.path=/nowhere/digits.npz")
    )
    assert code == 3
    result = json.loads(out)
    assert (result["status"], result["exit_code"], result["run"]) == ("failed", 3, None)
    assert result["error"][0].startswith("error: ")
    assert "/nowhere/digits.npz" in "\n".join(result["error"])
    said = err.splitlines()
    assert said[-len(result["error"]) - 1 : -1] == result["error"]
    assert said[-1].startswith("  log: RAY_AUTH_MODE=token ray job logs ")


def test_ctrl_c_stops_the_job_which_commits_and_resumes(cluster, folder):
    arguments = ("--set", "training.epochs=5000")
    process = cluster.launch(folder, *arguments)
    for line in process.stdout:
        if line.startswith("epoch="):
            process.send_signal(signal.SIGINT)
            break
    code, _, err = finished(process)
    assert code == 130
    [asked] = [line for line in err.splitlines() if line.startswith("asking job ")]
    job = asked.split()[2]
    assert cluster.jobs()[job]["status"] == "STOPPED"
    assert json.loads((folder / "runs/digits/manifest.json").read_text())["status"] == "preempted"
    resume = "python -m distkeras launch ray --config configs/digits.yaml --set training.epochs=5000"
    assert f"  fix: resume with: {resume}" in err.splitlines()


def test_a_wrong_token_is_refused_in_one_sentence(cluster, folder, tmp_path_factory):
    wrong = tmp_path_factory.mktemp("wrong") / "token"
    wrong.write_text(secrets.token_hex(32))
    code, out, err = finished(cluster.launch(folder, RAY_AUTH_TOKEN_PATH=str(wrong)), timeout=20)
    assert (code, out) == (4, "")
    assert "error: The job server refuses the token.\n" in err
    assert wrong.read_text() not in err


def test_a_dry_run_prints_a_command_that_works_and_submits_nothing(cluster, folder):
    before = cluster.jobs().keys()
    code, out, err = finished(cluster.launch(folder, "--dry-run"), timeout=20)
    assert (code, err) == (0, "")
    assert cluster.jobs().keys() == before
    # Its words but the command itself, which would train once more.
    submitted = out.replace(" -- distkeras train ", " --no-wait -- true ")
    subprocess.run(
        ["bash", "-c", submitted], env=cluster.environment, capture_output=True, check=True, timeout=60
    )
    [new] = cluster.jobs().keys() - before
    assert cluster.jobs()[new]["entrypoint"].startswith("true --config configs/digits.yaml")


def test_the_script_without_a_config_says_how_it_is_used():
    result = subprocess.run(
        [ROOT / "launch/ray_job.sh"], capture_output=True, text=True, check=False, timeout=20
    )
    assert result.returncode == 2
    assert result.stderr.startswith("usage: ")
