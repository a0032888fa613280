"""`distkeras doctor`: what this machine lacks, before a run finds out."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distkeras.cli.console import exit_on_error, print_json, print_line, stderr, stdout
from distkeras.cli.options import RUNS, DebugOption, JsonOption
from distkeras.errors import ResourceError

if TYPE_CHECKING:
    from distkeras.runners.diagnosis import Finding

OutputDirOption = Annotated[
    Path, typer.Option("--output-dir", metavar="DIR", help="Where runs would be written.")
]


def doctor(output_dir: OutputDirOption = RUNS, json: JsonOption = False, debug: DebugOption = False) -> None:
    """Check this machine, and say what to mend."""
    with exit_on_error(debug):
        from distkeras.runners.diagnosis import diagnose

        findings: list[Finding] = []
        for finding in diagnose(output_dir, lambda text: print_line(text, stderr())):
            findings.append(finding)
            if not json:
                print_line(_line(finding), stdout())
                sys.stdout.flush()
        failed = [finding for finding in findings if finding.level == "fail"]
        if json:
            print_json({"ok": not failed, "findings": [asdict(finding) for finding in findings]})
        if failed:
            raise typer.Exit(ResourceError.exit_code)


def _line(finding: Finding) -> str:
    line = f"{finding.level:<4}  {finding.subject:<12}  {finding.text}"
    return line if finding.remedy is None else f"{line}\n      fix: {finding.remedy}"
