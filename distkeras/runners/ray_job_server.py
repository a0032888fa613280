"""A Ray cluster's job server, over HTTP with its token: submit, follow, stop, download; every wait has a limit."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import re
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from distkeras.errors import PreemptedError, ResourceError
from distkeras.runners.ray_submission import force_token_mode, require_token

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
# The server answers an upload only when the whole package is stored.
UPLOAD_SECONDS = 300.0
# A head node that restarts or a laptop that changes networks is back within this.
CONTACT_SECONDS = 60.0
# How long the rest of the log of a job that has ended may take.
REST_SECONDS = 10.0
SILENCE_SECONDS = 5.0
POLL_SECONDS = 1.0
# A shell's answer for a command that it does not find.
EXIT_NOT_FOUND = 127
MAX_LAST_LINES = 5
MAX_ERROR_LINES = 10
# How Ray reports that it sets the job up.
RAY_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\t[A-Z]+ ")
TERMINAL = ("SUCCEEDED", "FAILED", "STOPPED")


@dataclass(frozen=True)
class JobState:
    """What the server says of a job.

    Attributes:
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        exit_code: What the command ended with; None while it runs, or where it never ran.
        message: The server's own words.
        node_id: The node that runs the command; None before it starts.
        runtime_env: The job's environment, with its uploaded files by name.
    """

    status: str
    exit_code: int | None
    message: str
    node_id: str | None
    runtime_env: dict[str, Any]


@dataclass(frozen=True)
class JobEnd:
    """How a job ended.

    Attributes:
        status: `succeeded`, `failed` or `stopped`.
        exit_code: The code of the job's command, or of the reason why there is none.
        error: What the job said of it, as the console prints it; empty after a success.
    """

    status: str
    exit_code: int
    error: list[str]


@dataclass
class JobLog:
    """The log of a job as it arrives: without the lines of Ray's own set-up, and the first error kept."""

    job: str
    error: list[str] = field(default_factory=list[str])
    last: list[str] = field(default_factory=list[str])
    _partial: str = ""
    _set_up: bool = False
    _in_error: bool = False

    def feed(self, text: str) -> Iterator[str]:
        """Yields the complete lines of the job's own output in `text` and what was left of the text before."""
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            if line.startswith(f"Running entrypoint for job {self.job}:"):
                self._set_up = True
            # Ray writes its line above late: a quick job's first words may come before it.
            elif self._set_up or not RAY_LINE.match(line):
                self._keep(line)
                yield line

    def finish(self) -> Iterator[str]:
        """Yields what a job that was killed left without the end of its line."""
        if self._partial:
            yield from self.feed("\n")

    def _keep(self, line: str) -> None:
        if not self.error:
            self._in_error = line.startswith(("error: ", "stopped: "))
        elif not line.startswith("  "):
            self._in_error = False
        if self._in_error and len(self.error) < MAX_ERROR_LINES:
            self.error.append(line)
        if line.strip():
            self.last = [*self.last[1 - MAX_LAST_LINES :], line]


class JobServer:
    """One job server, reached with the cluster's token.

    Args:
        address: `http://HOST:PORT` of the server.

    Raises:
        ResourceError: There is no token, nothing answers in time, or what answers refuses us.
    """

    def __init__(self, address: str) -> None:
        require_token(address)
        force_token_mode(address)
        self.address = address
        with _explained(address):
            self._client = _client(address)

    def submit(self, command: str, runtime_env: Mapping[str, Any]) -> str:
        """Uploads the working directory, starts a shell command in it and returns the job's id."""
        with _explained(self.address):
            return self._client.submit_job(entrypoint=command, runtime_env=dict(runtime_env))

    def state(self, job: str) -> JobState:
        """Asks for a job's state."""
        with _explained(self.address):
            info = self._client.get_job_info(job)
        return JobState(
            str(info.status.value),
            info.driver_exit_code,
            info.message or "",
            info.driver_node_id,
            info.runtime_env or {},
        )

    def stop(self, job: str) -> None:
        """Asks a job to stop: its processes get SIGTERM."""
        with _explained(self.address):
            self._client.stop_job(job)

    def tail(self, job: str, put: Callable[[str], None]) -> None:
        """Hands over a job's log from its beginning, until the job or the connection ends."""

        async def pump() -> None:
            async for text in self._client.tail_job_logs(job):
                put(text)

        asyncio.run(pump())

    def download(self, node_id: str, name: str) -> Iterator[bytes]:
        """Yields a file below the log directory of a node's Ray session, piece by piece."""
        with _explained(self.address):
            yield from self._client.read_file(node_id, name)

    def command(self, *words: str) -> str:
        """Returns a `ray job` command for this server, for a person to type."""
        verb, *rest = words
        return " ".join(["RAY_AUTH_MODE=token ray job", verb, "--address", self.address, *rest])


class Following:
    """A job's log, shown line by line until the job ends. Can be gone on with after an interruption.

    Args:
        server: Where the job runs.
        job: Its id.
        show: Gets each line of the job's output.
        tell: Gets what we say ourselves.
    """

    def __init__(
        self, server: JobServer, job: str, show: Callable[[str], None], tell: Callable[[str], None]
    ) -> None:
        self._server, self._job, self._show, self._tell = server, job, show, tell
        self._log = JobLog(job)
        self._texts: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._tail_ended = True
        self._num_read = 0

    def until_end(self, limit_seconds: float | None = None) -> JobEnd:
        """Shows the log until the job has ended.

        Args:
            limit_seconds: How long the job may still take; None: as long as it wants.

        Raises:
            ResourceError: The server was out of reach for a minute, or the limit has passed.
        """
        began = time.monotonic()
        state = self._next_state()
        pause = SILENCE_SECONDS
        while state.status not in TERMINAL:
            self._ensure_tail()
            self._read(POLL_SECONDS)
            waited = time.monotonic() - began
            if limit_seconds is not None and waited > limit_seconds:
                raise self._out_of_time(limit_seconds)
            if state.status == "PENDING" and waited > pause:
                self._tell(f"job {self._job} waits for the cluster since {waited:.0f} s")
                pause *= 2
            state = self._next_state()
        self._read_rest()
        return ending(state, self._log)

    def _next_state(self) -> JobState:
        deadline = time.monotonic() + CONTACT_SECONDS
        while True:
            try:
                return self._server.state(self._job)
            except ResourceError as error:
                if time.monotonic() > deadline:
                    raise ResourceError(
                        f"The job server was out of reach for {CONTACT_SECONDS:.0f} s; the job may still run.",
                        place=f"job {self._job}, {self._server.address}",
                        received=error.problem,
                        remedy=f"follow it again with: {self._server.command('logs', '--follow', self._job)}",
                    ) from error
                self._tell(f"no answer from {self._server.address}, trying again")
                time.sleep(POLL_SECONDS)

    def _ensure_tail(self) -> None:
        if not self._tail_ended:
            return
        self._tail_ended = False
        skip, texts = self._num_read, self._texts

        def tail() -> None:
            # What breaks the connection shows in the state, which is asked for beside it.
            with contextlib.suppress(Exception):
                self._server.tail(self._job, _without_first(skip, texts.put))
            texts.put(None)

        # A thread that waits for a server that went silent must not keep the program from ending.
        threading.Thread(target=tail, name="job-log", daemon=True).start()

    def _read(self, seconds: float) -> None:
        """Shows what arrives within some seconds."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                text = self._texts.get(timeout=left)
            except queue.Empty:
                return
            if text is None:
                self._tail_ended = True
                time.sleep(max(0.0, deadline - time.monotonic()))
                return
            self._num_read += len(text)
            for line in self._log.feed(text):
                self._show(line)

    def _read_rest(self) -> None:
        if self._num_read == 0:
            self._ensure_tail()
        deadline = time.monotonic() + REST_SECONDS
        while not self._tail_ended and time.monotonic() < deadline:
            self._read(0.1)
        for line in self._log.finish():
            self._show(line)

    def _out_of_time(self, limit_seconds: float) -> ResourceError:
        return ResourceError(
            f"The job did not end within {limit_seconds:.0f} s.",
            place=f"job {self._job}, {self._server.address}",
            remedy=f"see what it does with: {self._server.command('logs', self._job)}",
        )


def ending(state: JobState, log: JobLog) -> JobEnd:
    """Says how a job ended, from the server's word and the job's own."""
    code = state.exit_code
    if state.status == "SUCCEEDED":
        return JobEnd("succeeded", 0, [])
    if state.status == "STOPPED":
        error = log.error or ["stopped: The job was stopped."]
        return JobEnd("stopped", PreemptedError.exit_code, error)
    if code is None:
        said = state.message.strip().splitlines() or ["nothing"]
        error = [
            "error: The cluster could not run the job.",
            *(f"  {line}" for line in said[-MAX_LAST_LINES:]),
        ]
        return JobEnd("failed", ResourceError.exit_code, error)
    if code == EXIT_NOT_FOUND and not log.error:
        error = [
            "error: The cluster has no command `distkeras`.",
            "  fix: install the same version of distkeras in the cluster's image or environment",
        ]
        return JobEnd("failed", ResourceError.exit_code, error)
    code = 128 - code if code < 0 else code
    return JobEnd(
        "failed", code, log.error or [f"error: {_cause(code)}; its last lines:", *_indented(log.last)]
    )


def _client(address: str) -> Any:
    import requests
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        """Ray's client, which waits for ever, with limits."""

        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
            answer = UPLOAD_SECONDS if method == "PUT" else ANSWER_SECONDS
            return super()._do_request(method, endpoint, timeout=(CONNECT_SECONDS, answer), **options)

        def read_file(self, node_id: str, name: str) -> Iterator[bytes]:
            # Ray's own `get_log` decodes what it reads as text; `lines=-1` means the whole file.
            query = {"node_id": node_id, "filename": name, "lines": "-1", "timeout": "3600"}
            with requests.get(
                f"{self._address}/api/v0/logs/file",
                params=query,
                headers=self._headers,
                stream=True,
                timeout=(CONNECT_SECONDS, ANSWER_SECONDS * 3),
            ) as response:
                if response.status_code != requests.codes.ok:
                    self._raise_error(response)
                yield from response.iter_content(1 << 20)

    return Client(address)


@contextlib.contextmanager
def _explained(address: str) -> Generator[None]:
    """Turns what the HTTP client and Ray raise into one sentence."""
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise ResourceError(
            "The job server refuses the token.",
            place=address,
            remedy="ask for this cluster's token; it is read from RAY_AUTH_TOKEN, the file named in "
            "RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token, in this order",
        ) from error
    except requests.exceptions.Timeout as error:
        raise ResourceError(
            "The job server does not answer in time.",
            place=address,
            remedy="check the address, the network and whether the cluster's head node is well",
        ) from error
    except (ConnectionError, requests.exceptions.ConnectionError) as error:
        raise ResourceError(
            "No job server can be reached at this address.",
            place=address,
            remedy="check --address and that the cluster runs; where its port is not open to you, forward it "
            "(ssh -L 8265:127.0.0.1:8265 HEAD, kubectl port-forward)",
        ) from error
    except (RuntimeError, ValueError, KeyError, requests.RequestException) as error:
        raise ResourceError(
            "The server at this address did not do what a Ray job server does.",
            place=address,
            received=(str(error).strip().splitlines() or [type(error).__name__])[-1],
            remedy="check --address: it is the one of Ray's dashboard, whose port is 8265 by default",
        ) from error


def _without_first(skip: int, put: Callable[[str], None]) -> Callable[[str], None]:
    """Drops the first characters of a log that is sent from its beginning once more."""
    left = skip

    def put_rest(text: str) -> None:
        nonlocal left
        rest = text[left:]
        left = max(0, left - len(text))
        if rest:
            put(rest)

    return put_rest


def _cause(code: int) -> str:
    if code > 128 and code - 128 in set(signal.Signals):
        return f"The job was ended by {signal.Signals(code - 128).name}"
    return f"The job ended with exit code {code}"


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]
