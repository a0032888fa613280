"""What goes up with a Ray job and how its end is told: everything that needs no cluster."""

import hashlib
import http.server
import json
import logging
import os
import shlex
import socket
import threading

import pytest
import ray  # noqa: F401  when first imported it changes the environment, which no test may

from distkeras.errors import ConfigError, DataError, ResourceError
from distkeras.runners import ray_job_server, ray_submission
from distkeras.runners.ray_job_server import Following, JobLog, JobServer, JobState, ending
from distkeras.runners.ray_submission import prepare

ADDRESS = "http://127.0.0.1:8265"
CONFIG = """\
task: {kind: tabular_classification}
data:
  source: {kind: csv, path: data/table.csv, label: kind}
model: {builder: mlp}
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project in the working directory, a token outside of it, and nothing of Ray in the environment."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    (home / ".ray" / "auth_token").write_text("secret\n")
    monkeypatch.setenv("HOME", str(home))
    project = tmp_path / "project"
    (project / "configs" / "data").mkdir(parents=True)
    (project / "configs" / "data" / "table.csv").write_text("a,kind\n1,x\n")
    (project / "configs" / "table.yaml").write_text(CONFIG)
    monkeypatch.chdir(project)
    return project


@pytest.fixture
def token_mode(monkeypatch):
    """Lets a test connect: what that changes in the process is taken back."""
    for name in ("RAY_AUTH_MODE", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.setenv(name, "")
    yield
    logging.disable(logging.NOTSET)


def prepared(project, *overrides, **options):
    return prepare(project / "configs" / "table.yaml", overrides, address=ADDRESS, **options)


def test_the_job_runs_train_in_the_uploaded_folder_and_writes_where_it_would_here(project):
    submission = prepared(project, "training.epochs=3")
    output = f"output_dir={project}/runs"
    assert submission.command == [
        *("distkeras", "train", "--config", "configs/table.yaml"),
        *("--set", "training.epochs=3", "--set", output),
    ]
    assert submission.run == project / "runs" / "table"
    assert submission.runtime_env == {
        "working_dir": str(project),
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "120"},
    }


def test_an_absolute_output_dir_is_the_clusters(project):
    submission = prepared(project, "output_dir=/mnt/runs")
    assert submission.command[-1] == "output_dir=/mnt/runs"
    assert str(submission.run) == "/mnt/runs/table"


def test_the_printed_command_can_be_pasted(project, monkeypatch):
    submission = prepared(project, "model.arguments={hidden_units: [8, 16]}")
    words = shlex.split(submission.shell_command())
    assert words[:6] == ["RAY_AUTH_MODE=token", "ray", "job", "submit", "--address", ADDRESS]
    assert words[words.index("--") + 1 :] == submission.command
    assert json.loads(words[words.index("--runtime-env-json") + 1]) == {
        "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "120"}
    }
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    assert submission.shell_command().startswith(f"RAY_API_SERVER_ADDRESS={ADDRESS} RAY_AUTH_MODE=token ")


def test_paths_outside_of_the_working_directory_are_refused(project):
    with pytest.raises(ConfigError, match="outside of the working directory") as caught:
        prepared(project, "data.source.path=../../elsewhere.csv")
    assert caught.value.place == "data.source.path"
    os.chdir(project / "configs" / "data")
    with pytest.raises(ConfigError, match="outside of the working directory") as caught:
        prepared(project)
    assert caught.value.place == "--config"


def test_missing_data_is_found_here_but_absolute_paths_are_the_clusters(project):
    with pytest.raises(DataError, match="There is no such file or folder") as caught:
        prepared(project, "data.source.path=data/tabel.csv")
    assert caught.value.place == "data.source.path: configs/data/tabel.csv"
    prepared(project, "data.source.path=/mnt/tabel.csv")


def mixture(*paths):
    sources = [f"{{source: {{kind: parquet, path: {path}, label: kind}}}}" for path in paths]
    return f"data.source={{kind: mixture, sources: [{', '.join(sources)}]}}"


def test_every_source_of_a_mixture_is_looked_at(project):
    prepared(project, mixture("data/table.csv", "/mnt/table.parquet", "s3://bucket/table"))
    with pytest.raises(DataError, match="There is no such file or folder") as caught:
        prepared(project, mixture("data/table.csv", "data/tabel.csv"))
    assert caught.value.place == "data.source.sources.1.source.path: configs/data/tabel.csv"
    with pytest.raises(ConfigError, match="outside of the working directory") as caught:
        prepared(project, mixture("../../elsewhere.csv", "data/table.csv"))
    assert caught.value.place == "data.source.sources.0.source.path"
    (project / ".gitignore").write_text("*.csv\n")
    with pytest.raises(DataError, match="would not be uploaded"):
        prepared(project, mixture("/mnt/table.parquet", "data/table.csv"))


def test_a_uri_is_the_clusters(project):
    prepared(project, "data.source={kind: parquet, path: s3://bucket/table, label: kind}")


@pytest.mark.parametrize(
    ("file", "rule"),
    [
        (".rayignore", "*.csv"),
        (".gitignore", "/configs/data/"),
        ("configs/.rayignore", "data"),
        ("configs/data/.gitignore", "table.*"),
    ],
)
def test_data_that_would_stay_behind_is_refused(project, file, rule):
    (project / file).write_text(f"{rule}\n")
    with pytest.raises(DataError, match="would not be uploaded"):
        prepared(project)


def test_ray_itself_leaves_these_files_behind(project):
    """The rule above is ours; this one shows that Ray packs by the same."""
    from zipfile import ZipFile

    from ray._private.runtime_env.packaging import create_package

    (project / "configs" / ".rayignore").write_text("data\n")
    package = project.parent / "package.zip"
    create_package(str(project), package, include_gitignore=True)
    assert "configs/table.yaml" in ZipFile(package).namelist()
    assert "configs/data/table.csv" not in ZipFile(package).namelist()


def test_the_excludes_of_the_runtime_environment_count(project):
    path = project / "environment.yaml"
    path.write_text("excludes: ['*.csv']\nenv_vars: {A: b}\n")
    with pytest.raises(DataError, match="would not be uploaded"):
        prepared(project, runtime_env=path)
    submission = prepared(project, "data.source.path=/mnt/t.csv", runtime_env=path)
    assert submission.runtime_env["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": "120", "A": "b"}


@pytest.mark.parametrize("text", ["working_dir: /x", "env_vars: [a]"])
def test_a_runtime_environment_of_another_form_is_refused(project, text):
    path = project / "environment.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="`env_vars` as a mapping and no `working_dir`"):
        prepared(project, runtime_env=path)


def test_the_token_goes_nowhere(project, monkeypatch):
    path = project / "environment.yaml"
    path.write_text("env_vars: {RAY_AUTH_TOKEN: secret}")
    with pytest.raises(ConfigError, match="no place for the token"):
        prepared(project, runtime_env=path)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(project / "token"))
    with pytest.raises(ConfigError, match="holds the cluster's token"):
        prepared(project)


def test_the_address_says_how_to_speak(project):
    with pytest.raises(ConfigError, match="begins with http:// or https://"):
        prepare(project / "configs" / "table.yaml", (), address="127.0.0.1:8265")


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "There is no token"), (" \n", "is empty"), (b"\xff", "cannot be read")]
)
def test_a_missing_token_is_said_before_anything_is_sent(project, content, problem):
    path = project.parent / "home" / ".ray" / "auth_token"
    path.unlink() if content is None else path.write_bytes(content if isinstance(content, bytes) else b" \n")
    with pytest.raises(ResourceError, match=problem) as caught:
        ray_submission.require_token(ADDRESS)
    assert caught.value.place == str(path)


def test_the_token_is_found_where_ray_finds_it(project, monkeypatch):
    assert ray_submission.require_token(ADDRESS) == project.parent / "home" / ".ray" / "auth_token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(project / "configs" / "table.yaml"))
    assert ray_submission.require_token(ADDRESS) == project / "configs" / "table.yaml"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    assert ray_submission.require_token(ADDRESS) is None


class Refusing(http.server.BaseHTTPRequestHandler):
    """A web server that is no job server, or one with another token."""

    status = 404

    def do_GET(self):
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, *arguments):
        pass


@pytest.mark.parametrize(
    ("status", "problem"),
    [(404, "did not do what a Ray job server does"), (403, "refuses the token"), (401, "refuses the token")],
)
def test_a_server_that_refuses_is_one_sentence(project, token_mode, status, problem):
    handler = type("Handler", (Refusing,), {"status": status})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(ResourceError, match=problem) as caught:
            JobServer(address)
        server.shutdown()
        thread.join()
    assert caught.value.place == address
    assert "secret" not in str(caught.value)


def test_a_port_on_which_nobody_listens(project, token_mode):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ResourceError, match="No job server can be reached"):
            JobServer(address)


def test_a_server_that_never_answers_is_given_up(project, token_mode, monkeypatch):
    monkeypatch.setattr(ray_job_server, "ANSWER_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(ResourceError, match="does not answer in time"):
            JobServer(f"http://127.0.0.1:{silent.getsockname()[1]}")


def fed(*texts):
    log = JobLog("job-1")
    lines = [line for text in texts for line in log.feed(text)]
    return log, lines


def test_the_log_loses_rays_own_lines_and_keeps_its_first_error():
    rays = "2026-11-21 11:45:33,763\tINFO job_manager.py:581 -- Runtime env is setting up.\n"
    log, lines = fed(
        f"{rays}first\nRunning entrypoint for job job-1: distk",
        f"eras train\n{rays}err",
        "or: It broke.\n  where: there\nmore\n  not of it\nerror: second\n",
    )
    assert lines == [
        *(
            "first",
            rays.rstrip("\n"),
            "error: It broke.",
            "  where: there",
            "more",
            "  not of it",
            "error: second",
        ),
    ]
    assert log.error == ["error: It broke.", "  where: there"]


def test_the_last_words_of_a_killed_job_are_kept():
    log, lines = fed("one\ntw")
    assert (lines, list(log.finish()), list(log.finish()), log.last) == (["one"], ["tw"], [], ["one", "tw"])


@pytest.mark.parametrize(
    ("state", "text", "status", "code", "first"),
    [
        (JobState("SUCCEEDED", 0, "", "n", {}), "fine\n", "succeeded", 0, None),
        (JobState("FAILED", 3, "", "n", {}), "error: No file.\n", "failed", 3, "error: No file."),
        (JobState("FAILED", 75, "", "n", {}), "stopped: Bye.\n", "failed", 75, "stopped: Bye."),
        (JobState("FAILED", 1, "", "n", {}), "Oh\n", "failed", 1, "error: The job ended with exit code 1; its last"),
        (JobState("FAILED", 137, "", "n", {}), "", "failed", 137, "error: The job was ended by SIGKILL; its last"),
        (JobState("FAILED", -9, "", "n", {}), "", "failed", 137, "error: The job was ended by SIGKILL; its last"),
        (JobState("FAILED", 127, "", "n", {}), "sh: 1\n", "failed", 4, "error: The cluster has no command"),
        (JobState("FAILED", None, "no pip\nsorry", None, {}), "", "failed", 4, "error: The cluster could not run"),
        (JobState("STOPPED", None, "", "n", {}), "", "stopped", 75, "stopped: The job was stopped."),
    ],
)  # fmt: skip
def test_the_end_of_a_job(state, text, status, code, first):
    log, _ = fed(f"Running entrypoint for job job-1: x\n{text}")
    end = ending(state, log)
    assert (end.status, end.exit_code) == (status, code)
    assert (end.error[0] if end.error else "").startswith(first or "")
    assert bool(end.error) == (code != 0)


class Scripted:
    """A server whose connection for logs breaks after each text, as a proxy's does."""

    address = ADDRESS

    def __init__(self, states, texts):
        self.states, self.texts = list(states), list(texts)

    def state(self, job):
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state == "unreachable":
            raise ResourceError("The job server does not answer in time.")
        return JobState(state, 0 if state == "SUCCEEDED" else None, "", "n", {})

    def tail(self, job, put):
        put(self.texts.pop(0) if len(self.texts) > 1 else self.texts[0])
        raise OSError("broken")

    def command(self, *words):
        return " ".join(words)


def followed(server, monkeypatch):
    monkeypatch.setattr(ray_job_server, "POLL_SECONDS", 0.05)
    shown, told = [], []
    end = Following(server, "j", shown.append, told.append).until_end()
    return end, shown, told


def test_a_broken_connection_is_taken_up_where_it_broke(monkeypatch):
    first = "Running entrypoint for job j: x\none\ntw"
    server = Scripted(["RUNNING"] * 6 + ["SUCCEEDED"], [first, f"{first}o\nthree\n"])
    end, shown, told = followed(server, monkeypatch)
    assert (end.status, shown, told) == ("succeeded", ["one", "two", "three"], [])


def test_a_short_silence_of_the_server_is_waited_for(monkeypatch):
    text = "Running entrypoint for job j: x\none\n"
    server = Scripted(["RUNNING", "unreachable", "unreachable", "RUNNING", "RUNNING", "SUCCEEDED"], [text])
    end, shown, told = followed(server, monkeypatch)
    assert (end.status, shown) == ("succeeded", ["one"])
    assert told == [f"no answer from {ADDRESS}, trying again"] * 2


def test_a_long_silence_of_the_server_ends_the_following(monkeypatch):
    monkeypatch.setattr(ray_job_server, "CONTACT_SECONDS", 0.2)
    with pytest.raises(ResourceError, match="out of reach") as caught:
        followed(Scripted(["RUNNING", "unreachable"], [""]), monkeypatch)
    assert "logs --follow j" in str(caught.value)


class Files:
    """Serves the files of a run as a job server does."""

    def __init__(self, run, damaged=None):
        self.run, self.damaged = run, damaged

    def __call__(self, name):
        yield from (b"damaged",) if name == self.damaged else ((self.run / name).read_bytes(),)


@pytest.fixture
def remote(tmp_path):
    run = tmp_path / "remote"
    (run / "logs").mkdir(parents=True)
    (run / "manifest.json").write_text('{"created": 1}')
    (run / "logs" / "rank-0.log").write_text("")
    return run


def listing(run):
    files = [path for path in run.rglob("*") if path.is_file()]
    return {
        path.relative_to(run).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    }


def test_a_fetched_run_is_whole_or_absent(remote, tmp_path):
    place, told = tmp_path / "runs" / "r", []
    with pytest.raises(ResourceError, match="arrived damaged"):
        ray_submission._download(Files(remote, "manifest.json"), listing(remote), place, told.append)
    assert list(place.parent.iterdir()) == []
    assert ray_submission._download(Files(remote), listing(remote), place, told.append) == place
    assert listing(place) == listing(remote)
    assert told == ["fetching the run: 2 files, 0 MiB"] * 2


def test_a_run_that_is_here_is_told_from_another_of_its_name(remote, tmp_path):
    assert ray_submission._is_here(remote, listing(remote))
    other = tmp_path / "runs" / "r"
    assert ray_submission._free_place(other, "job-1") == other
    other.mkdir(parents=True)
    assert not ray_submission._is_here(other, listing(remote))
    (other / "manifest.json").write_text('{"created": 2}')
    assert not ray_submission._is_here(other, listing(remote))
    assert ray_submission._free_place(other, "job-1") == other.with_name("r-job-1")


@pytest.mark.parametrize("name", ["../../.bashrc", "/etc/passwd", "a/../../b"])
def test_a_listing_cannot_name_files_outside_of_the_run(name):
    with pytest.raises(ResourceError, match="damaged"):
        ray_submission._listing(json.dumps({name: {"bytes": 1, "sha256": ""}}).encode())
