import json

import pytest

from distkeras.errors import ConfigError
from distkeras.observability.removal import check_removable, remove_run
from distkeras.observability.run_directory import RunDirectory


def make_run(path):
    run = RunDirectory(path)
    run.create()
    run.write_manifest({"format": 1, "name": "x", "identity": "0", "status": "completed"})
    run.weights.mkdir()
    for file in (run.config_path, run.metrics_path, run.report_path, run.log_path(0), run.weights / "w"):
        file.write_text("x")
    return run


def test_a_run_is_removed_with_its_directory(tmp_path):
    run = make_run(tmp_path / "run")
    assert remove_run(run) == []
    assert list(tmp_path.iterdir()) == []


def test_foreign_files_and_folders_stay(tmp_path):
    run = make_run(tmp_path / "run")
    (run.path / "mine").mkdir()
    assert remove_run(run) == [run.path / "mine"]
    assert (run.path / "mine").is_dir()


def test_the_manifest_of_another_program_is_no_run(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"name": "extension", "manifest_version": 3}))
    (tmp_path / "logs").mkdir()
    with pytest.raises(ConfigError, match=r"This is not the manifest\.json of a run; nothing is removed"):
        remove_run(RunDirectory(tmp_path))
    assert (tmp_path / "logs").is_dir()


def test_a_link_to_a_run_is_refused(tmp_path):
    run = make_run(tmp_path / "run")
    link = tmp_path / "link"
    link.symlink_to(run.path)
    with pytest.raises(ConfigError, match="This run directory is a link") as caught:
        check_removable(RunDirectory(link))
    assert str(run.path) in (caught.value.remedy or "")


def test_a_link_inside_a_run_goes_and_its_target_stays(tmp_path):
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "file").write_text("mine")
    run = make_run(tmp_path / "run")
    run.events.rmdir()
    run.events.symlink_to(target)
    assert remove_run(run) == []
    assert (target / "file").read_text() == "mine"
