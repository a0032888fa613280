"""`distkeras launch`: the verbs that run a config on a cluster instead of this machine."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distkeras.cli.console import EXIT_INTERRUPTED, exit_on_error, print_json, print_line, stderr, stdout
from distkeras.cli.options import ConfigOption, DebugOption, JsonOption, SetOption

if TYPE_CHECKING:
    from distkeras.runners.ray_job_server import Following, JobEnd, JobServer
    from distkeras.runners.ray_submission import Submission

# Ray waits 120 s for the job to commit and end; then it is killed.
STOP_SECONDS = 180.0

launch_app = typer.Typer(
    name="launch", help="Train on a cluster.", no_args_is_help=True, rich_markup_mode=None
)

AddressOption = Annotated[
    str,
    typer.Option(
        "--address",
        metavar="URL",
        envvar="RAY_API_SERVER_ADDRESS",
        help="The cluster's job server: the address of its dashboard.",
    ),
]
RuntimeEnvOption = Annotated[
    Path | None,
    typer.Option("--runtime-env", metavar="FILE", help="More of Ray's runtime_env, YAML: pip, env_vars, ..."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print the `ray job submit` command, submit nothing.")
]
WaitOption = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Follow the job, or leave once it is submitted.")
]
FetchOption = Annotated[
    bool, typer.Option("--fetch/--no-fetch", help="Bring the run here where storage is not shared.")
]


@launch_app.callback()
def launch() -> None:
    """Train on a cluster."""


@launch_app.command()
def ray(
    config: ConfigOption,
    overrides: SetOption = None,
    address: AddressOption = "http://127.0.0.1:8265",
    runtime_env: RuntimeEnvOption = None,
    dry_run: DryRunOption = False,
    wait: WaitOption = True,
    fetch: FetchOption = True,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train as a job of a Ray cluster.

    Uploads the working directory (less what .gitignore and .rayignore
    name), runs `distkeras train` there, shows its log and ends with its
    exit code. Relative paths in the config are uploaded, absolute ones
    must exist on the cluster.

    The run is written to the same path on the cluster as it would be
    here. Where the two do not share that storage, it is fetched after
    success, without its checkpoints; name a place that the cluster can
    write with --set output_dir=/PATH.

    The cluster's token is read from ~/.ray/auth_token or the file that
    RAY_AUTH_TOKEN_PATH names. Ctrl-C asks the job to stop: it commits,
    and the same command resumes it.
    """
    with exit_on_error(debug):
        from distkeras.runners.ray_submission import force_token_mode, prepare

        if dry_run:
            submission = prepare(config, overrides or (), address=address, runtime_env=runtime_env)
            _show_command(submission, json)
            return
        force_token_mode(address)
        submission = prepare(config, overrides or (), address=address, runtime_env=runtime_env)
        _tell(f"submitting {submission.working_dir} to {address}")
        from distkeras.runners.ray_job_server import JobServer

        server = JobServer(address)
        job = server.submit(shlex.join(submission.command), submission.runtime_env)
        _tell(f"submitted as job {job}")
        facts = {"job": job, "address": address}
        if wait:
            _complete(server, job, submission, fetch=fetch, json=json, facts=facts)
        elif json:
            print_json({**facts, "status": "submitted"})
        else:
            print_line(f"follow it with: {server.command('logs', '--follow', job)}", stdout())


def _complete(
    server: JobServer, job: str, submission: Submission, *, fetch: bool, json: bool, facts: dict[str, Any]
) -> None:
    from distkeras.runners.ray_job_server import Following
    from distkeras.runners.ray_submission import fetch_run

    following = Following(server, job, _printer(json), _tell)
    end, interrupted = _followed(server, job, following)
    exit_code = EXIT_INTERRUPTED if interrupted and end.status == "stopped" else end.exit_code
    run, shared = fetch_run(server, job, submission, _tell) if fetch and not end.exit_code else (None, False)
    error = _said_here(end.error)
    if json:
        print_json(
            {**facts, "status": end.status, "exit_code": exit_code, "error": error or None, "run": run}
        )
    elif run is not None:
        print_line(f"run: {run}{' (shared with the cluster)' if shared else ''}", stdout())
    if exit_code:
        print_line("\n".join([*error, f"  log: {server.command('logs', job)}"]), stderr())
        raise typer.Exit(exit_code)


def _said_here(error: list[str]) -> list[str]:
    """Replaces the command that would resume the run on the cluster by the one that was typed here."""
    from distkeras.runners.record import this_command

    resume = "  fix: resume with: "
    kept = [line for line in error if not line.startswith(resume)]
    if kept and kept[0].startswith("stopped: "):
        kept.append(f"{resume}{shlex.join(this_command())}")
    return kept


def _followed(server: JobServer, job: str, following: Following) -> tuple[JobEnd, bool]:
    """Waits for the job's end; the first Ctrl-C asks the job for it, the second leaves at once."""
    try:
        return following.until_end(), False
    except KeyboardInterrupt:
        _tell(f"asking job {job} to stop; Ctrl-C again leaves without waiting for it")
    try:
        server.stop(job)
        return following.until_end(STOP_SECONDS), True
    except KeyboardInterrupt:
        _tell(f"left; see how it ends with: {server.command('status', job)}")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _printer(json: bool) -> Any:
    stream = sys.stderr if json else sys.stdout

    def show(line: str) -> None:
        stream.write(f"{line}\n")
        stream.flush()

    return show


def _show_command(submission: Submission, json: bool) -> None:
    command = submission.shell_command()
    if json:
        print_json({"status": "dry run", "command": command, "run": submission.run})
    else:
        print_line(command, stdout())


def _tell(text: str) -> None:
    print_line(text, stderr())
