"""What may stand for RUN."""

import pytest

from distkeras.cli.run_argument import find_run
from distkeras.errors import ConfigError


def test_a_name_and_a_directory_are_the_same_run(make_run):
    run = make_run("first")
    assert find_run("first").path.resolve() == run.path
    assert find_run(str(run.path)).path == run.path


def test_a_misspelt_run_gets_a_suggestion(make_run):
    make_run("first")
    with pytest.raises(ConfigError, match="There is no run 'frist'") as caught:
        find_run("frist")
    assert caught.value.place == "neither ./frist nor runs/frist"
    assert caught.value.remedy == "did you mean first?"


def test_an_unlike_name_leads_to_the_list(make_run):
    make_run("first")
    with pytest.raises(ConfigError) as caught:
        find_run("quite-another")
    assert caught.value.remedy == "distkeras runs list shows the runs that exist"


def test_without_any_run_it_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        find_run("/nowhere/at/all")
    assert caught.value.place == "/nowhere/at/all"
    assert caught.value.remedy == "train one: distkeras train --config FILE"


def test_a_directory_without_a_run_says_what_it_lacks(tmp_path):
    with pytest.raises(ConfigError) as caught:
        find_run(str(tmp_path))
    assert caught.value.place == f"{tmp_path} has no manifest.json, which every run has"
