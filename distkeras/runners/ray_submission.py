"""The files of a Ray job: what goes up to the cluster with `distkeras train`, and how the run comes back.

A job runs in a copy of the working directory, which the job server hands to the cluster. Relative paths of a
config lie in that copy, absolute ones must exist on the cluster. The run's directory gets the absolute path that
it would have here: on storage that is mounted at the same place on both sides it is simply there afterwards.
Elsewhere it is fetched through the job server, which serves the files below the log directory of Ray's session:
a second small job links the run there and lists its files with their hashes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from distkeras.config import load_config
from distkeras.config.documents import read_document
from distkeras.config.keys import Key
from distkeras.config.loader import EACH, INPUT_PATHS
from distkeras.config.overrides import apply_overrides, parse_override
from distkeras.errors import ConfigError, DataError, ResourceError
from distkeras.observability.atomic_files import explained
from distkeras.observability.formats import memory_text
from distkeras.observability.run_directory import RunDirectory

if TYPE_CHECKING:
    from distkeras.runners.ray_job_server import JobServer

# Ray kills a job 3 s after it asked it to stop; a commit of large weights takes longer.
ENV_VARS = {"RAY_JOB_STOP_WAIT_TIME_S": "120"}
LIST_SECONDS = 120.0
SILENCE_SECONDS = 5.0
PUBLISHED = "distkeras-runs"
ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


@dataclass(frozen=True)
class Submission:
    """A job, ready to be submitted.

    Attributes:
        address: `http://HOST:PORT` of the job server.
        working_dir: The folder that is uploaded.
        runtime_env: Ray's description of the job's environment.
        command: What the job runs, in its copy of the folder.
        run: The run's directory, at the same path here and on the cluster.
    """

    address: str
    working_dir: Path
    runtime_env: dict[str, Any]
    command: list[str]
    run: Path

    def shell_command(self) -> str:
        """Returns the command that submits the same job without distkeras."""
        words = ["RAY_AUTH_MODE=token", "ray", "job", "submit", "--address", self.address]
        if any(name in os.environ for name in ADDRESS_VARIABLES):
            # For Ray they outweigh --address.
            words.insert(0, f"{ADDRESS_VARIABLES[0]}={self.address}")
        environment = {key: value for key, value in self.runtime_env.items() if key != "working_dir"}
        words += ["--working-dir", str(self.working_dir), "--runtime-env-json", json.dumps(environment)]
        return shlex.join([*words, "--", *self.command])


def prepare(
    config_path: Path, overrides: Sequence[str], *, address: str, runtime_env: Path | None = None
) -> Submission:
    """Checks what can be known before a job is submitted, and returns the job.

    Args:
        config_path: The config; it and its relative input paths lie in the working directory.
        overrides: `--set` arguments.
        address: `http://HOST:PORT` of the job server.
        runtime_env: A YAML file with more of Ray's `runtime_env`, e.g. `pip` or `env_vars`.

    Raises:
        ConfigError: The config, the address or the environment is wrong.
        DataError: An input path is missing, or would not be uploaded.
    """
    _require_address(address)
    folder = Path.cwd()
    config = load_config(config_path, overrides)
    environment = _environment(runtime_env)
    _require_no_token(folder)
    place = _inside(config_path, folder, "--config")
    _require_uploaded(place, folder, "--config", environment)
    for name, path in _relative_inputs(config_path, overrides):
        _require_uploaded(_inside(path, folder, name), folder, name, environment)
    command = ["distkeras", "train", "--config", str(place)]
    for override in overrides:
        command += ["--set", override]
    output = folder / config.output_dir
    if not config.output_dir.is_absolute():
        command += ["--set", f"output_dir={output}"]
    return Submission(
        address, folder, {**environment, "working_dir": str(folder)}, command, output / config.name
    )


def force_token_mode(address: str) -> None:
    """Makes Ray send the token, to this address alone, and keep quiet. To be called before Ray is imported."""
    # Ray reads the first when it is imported, and obeys the second more than an argument.
    os.environ.update(RAY_AUTH_MODE="token", RAY_API_SERVER_ADDRESS=address)
    # It would print what it uploads and leaves out.
    logging.disable(logging.ERROR)


def require_token(address: str) -> Path | None:
    """Returns the file that holds the cluster's token, found as Ray finds it; None: it is in the environment.

    Raises:
        ResourceError: There is none.
    """
    if os.environ.get("RAY_AUTH_TOKEN"):
        return None
    path = _token_path()
    try:
        if path.read_text().strip():
            return path
        problem = "The file for the cluster's token is empty."
    except FileNotFoundError:
        problem = "There is no token for the cluster."
    except (OSError, UnicodeDecodeError) as error:
        problem = f"The file with the cluster's token cannot be read: {type(error).__name__}."
    raise ResourceError(
        problem,
        place=str(path),
        remedy=f"ask who runs {address} for its token; keep it in ~/.ray/auth_token, or name its file in "
        "RAY_AUTH_TOKEN_PATH",
    )


def fetch_run(
    server: JobServer, job: str, submission: Submission, tell: Callable[[str], None]
) -> tuple[Path, bool]:
    """Brings a job's run here, unless its storage is shared and it is here already. Nothing is overwritten.

    Checkpoints stay behind: they serve to go on with the run, which is done where they are.

    Returns:
        The run's directory, and whether it was here already.

    Raises:
        ResourceError: The run cannot be read on the cluster or written here, or arrives damaged.
    """
    from distkeras.runners.ray_job_server import Following

    environment = server.state(job).runtime_env
    tell("asking the cluster for the run's files")
    command = ["python", "-m", "distkeras.runners.ray_submission", str(submission.run), job]
    listing = server.submit(shlex.join(command), environment)
    end = Following(server, listing, lambda line: None, lambda line: None).until_end(LIST_SECONDS)
    if end.exit_code != 0:
        raise ResourceError(
            "The job succeeded, but its run could not be listed on the cluster.",
            place=f"{submission.run}, job {listing}",
            received=end.error[0],
            remedy="it is complete there; copy it by other means, or run the same command again",
        )
    node = str(server.state(listing).node_id)
    files = _listing(b"".join(server.download(node, f"{PUBLISHED}/{job}/files.json")))
    if _is_here(submission.run, files):
        return submission.run, True
    place = _free_place(submission.run, job)
    return _download(
        lambda name: server.download(node, f"{PUBLISHED}/{job}/run/{name}"), files, place, tell
    ), False


def publish(run: Path, name: str) -> None:
    """On the cluster: lists a run's files, and links it below the log directory of this node's Ray session."""
    import ray

    files = {
        path.relative_to(run).as_posix(): {"bytes": path.stat().st_size, "sha256": _digest(path)}
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.relative_to(run).parts[0] not in ("checkpoints", ".lock")
    }
    session = ray.init(address="auto", log_to_driver=False).address_info["session_dir"]
    place = Path(session) / "logs" / PUBLISHED / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "run").unlink(missing_ok=True)
    (place / "run").symlink_to(run.resolve())
    (place / "files.json").write_text(json.dumps(files))


def _require_address(address: str) -> None:
    if not address.startswith(("http://", "https://")):
        raise ConfigError(
            "The address of a job server begins with http:// or https://.",
            place="--address",
            received=address,
            remedy="e.g. --address http://127.0.0.1:8265; it is the address of Ray's dashboard",
        )


def _inside(path: Path, folder: Path, name: str) -> Path:
    """Returns a path relative to the folder that is uploaded."""
    absolute = Path(os.path.normpath(folder / path))
    if not absolute.is_relative_to(folder):
        raise ConfigError(
            "This path lies outside of the working directory, which is what the cluster gets.",
            place=name,
            received=str(path),
            remedy="start in a folder that holds the config and its data, or name a place on the cluster by its "
            "absolute path",
        )
    return absolute.relative_to(folder)


def _relative_inputs(config_path: Path, overrides: Sequence[str]) -> Iterator[tuple[str, Path]]:
    document = apply_overrides(read_document(config_path), [parse_override(text) for text in overrides])
    for key in INPUT_PATHS:
        for place, path in _values_at(document, key):
            # A URI says by itself where it starts, on the cluster as here.
            if isinstance(path, str) and "://" not in path and not Path(path).is_absolute():
                yield ".".join(place), config_path.parent / path


def _values_at(inside: Any, key: Key) -> Iterator[tuple[Key, Any]]:
    """Yields what stands at a key, and where that is: `EACH` is every member of a list, `sources.0`, `sources.1`."""
    if not key:
        yield (), inside
        return
    name, *rest = key
    members: dict[str, Any] = {}
    if name == EACH and isinstance(inside, list):
        members = {str(index): one for index, one in enumerate(cast("list[Any]", inside))}
    elif isinstance(inside, dict):
        members = {name: cast("dict[str, Any]", inside).get(name)}
    for part, one in members.items():
        for place, value in _values_at(one, tuple(rest)):
            yield (part, *place), value


def _require_uploaded(path: Path, folder: Path, name: str, environment: dict[str, Any]) -> None:
    if not (folder / path).exists():
        raise DataError(
            "There is no such file or folder.",
            place=f"{name}: {path}",
            remedy="name a file in the working directory, or a place on the cluster by its absolute path",
        )
    if _is_left_out(path, folder, environment.get("excludes") or []):
        raise DataError(
            "This path would not be uploaded: Ray leaves out what .gitignore, .rayignore and `excludes` say.",
            place=f"{name}: {path}",
            remedy="take it out of these files, or keep the data on the cluster's storage and give its absolute path",
        )


def _is_left_out(path: Path, folder: Path, excludes: list[str]) -> bool:
    # Not public; the lock file pins Ray, and the test of this function would notice a change.
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env import packaging
    from ray._private.thirdparty.pathspec.pathspec import PathSpec

    use_gitignore = os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "0") != "1"
    named = PathSpec.from_lines("gitwildmatch", [*get_runtime_env_default_excludes(), *excludes])
    places = [folder, *(folder.joinpath(*path.parts[: depth + 1]) for depth in range(len(path.parts)))]
    rules: list[Callable[[Path], bool]] = []
    for place in places:
        rules += packaging.get_excludes_from_ignore_files(place, use_gitignore, logging.getLogger(__name__))
        if any(rule(place) for rule in rules) or named.match_file(str(place.relative_to(folder))):
            return True
    return False


def _environment(path: Path | None) -> dict[str, Any]:
    document = {} if path is None else read_document(path)
    variables = document.get("env_vars", {})
    if "working_dir" in document or not isinstance(variables, dict):
        raise ConfigError(
            "A runtime environment for a launch has `env_vars` as a mapping and no `working_dir`.",
            place=str(path),
            remedy="the folder in which you start the launch is the working_dir",
        )
    if any(name.startswith("RAY_AUTH_TOKEN") for name in variables):
        raise ConfigError(
            "A runtime environment is no place for the token: everybody who sees the job can read it.",
            place=f"{path}: env_vars",
            remedy="take it out; the cluster's own processes have the token",
        )
    return {**document, "env_vars": {**ENV_VARS, **variables}}


def _token_path() -> Path:
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(named) if named else Path.home() / ".ray" / "auth_token"


def _require_no_token(folder: Path) -> None:
    token = Path(os.path.abspath(_token_path()))
    if token.is_relative_to(folder):
        raise ConfigError(
            "The working directory holds the cluster's token, and all of it would be uploaded.",
            place=str(token),
            remedy="start in the project's own folder, or keep the token elsewhere",
        )


def _listing(data: bytes) -> dict[str, dict[str, Any]]:
    files: dict[str, dict[str, Any]] = json.loads(data)
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ResourceError("The cluster's list of the run's files is damaged.", received=name)
    return files


def _is_here(run: Path, files: dict[str, dict[str, Any]]) -> bool:
    """Whether the run's path shows the same files here: the manifest tells when its run began and ended."""
    manifest = RunDirectory(run).manifest_path
    return manifest.is_file() and _digest(manifest) == files[manifest.name]["sha256"]


def _free_place(run: Path, job: str) -> Path:
    return run.with_name(f"{run.name}-{job}") if run.exists() else run


def _download(
    pieces: Callable[[str], Iterator[bytes]],
    files: dict[str, dict[str, Any]],
    destination: Path,
    tell: Callable[[str], None],
) -> Path:
    size = sum(entry["bytes"] for entry in files.values())
    tell(f"fetching the run: {len(files)} files, {memory_text(size)}")
    counted = _Counted(size, tell)
    with explained("write the fetched run", destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".fetch-", dir=destination.parent) as scratch:
            run = Path(scratch) / destination.name
            for name, entry in files.items():
                _write(run / name, counted(pieces(name)), entry["sha256"])
            run.rename(destination)
    return destination


def _write(path: Path, pieces: Iterator[bytes], sha256: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.writelines(pieces)
    if _digest(path) != sha256:
        raise ResourceError(
            "A file of the run arrived damaged.",
            place=path.name,
            remedy="run the same command again: the job ends at once, and its run is fetched anew",
        )


class _Counted:
    """Says from time to time how much has arrived."""

    def __init__(self, size: int, tell: Callable[[str], None]) -> None:
        self._size, self._tell = size, tell
        self._num_bytes, self._spoke = 0, time.monotonic()

    def __call__(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._num_bytes += len(piece)
            if time.monotonic() - self._spoke > SILENCE_SECONDS:
                self._tell(f"fetched {memory_text(self._num_bytes)} of {memory_text(self._size)}")
                self._spoke = time.monotonic()
            yield piece


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    publish(Path(sys.argv[1]), sys.argv[2])
