"""The report of a run: one offline HTML page and its Markdown twin."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from distkeras.errors import MissingDependencyError
from distkeras.observability.atomic_files import write_bytes
from distkeras.observability.run_directory import RunDirectory


def write_report(run: RunDirectory) -> Path:
    """Writes report.html and report.md from the files of a run, and returns the path of the page.

    It works at any moment of a run: what is not there yet is left out, and a failed run shows its error.
    The page is self-contained, below 1 MB, and asks nothing of the network.

    Raises:
        MissingDependencyError: If Jinja2 or matplotlib is not installed.
        ConfigError: If no run was started in the directory.
        DataError: If one of the run's files is damaged.
        ResourceError: If the report cannot be written.
    """
    for module, package in (("jinja2", "Jinja2"), ("matplotlib", "matplotlib")):
        if find_spec(module) is None:
            raise MissingDependencyError(package, "report")
    from distkeras.observability.report.facts import load_facts
    from distkeras.observability.report.page import render_html, render_markdown

    facts = load_facts(run)
    write_bytes(run.report_markdown_path, render_markdown(facts).encode())
    write_bytes(run.report_path, render_html(facts).encode())
    return run.report_path
