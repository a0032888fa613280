"""The report reads what is there, and says what is damaged."""

from datetime import UTC, datetime

import pytest

from distkeras.errors import ConfigError, DataError
from distkeras.observability.report.facts import Facts, load_facts, parse_time
from distkeras.observability.run_directory import RunDirectory


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path)
    run.write_manifest({"status": "running", "num_steps": 30, "epochs": 3})
    return run


def test_missing_files_leave_gaps(run):
    facts = load_facts(run)
    assert (facts.config, facts.config_text, list(facts.rows)) == ({}, "", [])
    assert facts.evaluation is None
    assert facts.environment is None
    assert facts.configured("model.builder") is None
    assert facts.steps_per_epoch() == 10
    assert facts.elapsed_seconds() is None
    assert Facts(manifest={}).steps_per_epoch() is None


def test_config_values_by_dotted_key(run):
    run.config_path.write_text("model: {builder: mlp}\nname: a\n")
    facts = load_facts(run)
    assert facts.configured("model.builder") == "mlp"
    assert facts.configured("name.deeper") is None


@pytest.mark.parametrize("text", ["[1, 2", "- a\n- b\n", "just text"])
def test_a_damaged_config_is_named(run, text):
    run.config_path.write_text(text)
    with pytest.raises(DataError, match=r"config\.resolved\.yaml does not hold a YAML mapping") as caught:
        load_facts(run)
    assert caught.value.place == str(run.config_path)
    assert "restore the file" in caught.value.remedy


def test_yaml_builds_no_objects(run):
    run.config_path.write_text("a: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(DataError, match="does not hold a YAML mapping"):
        load_facts(run)


def test_a_directory_without_a_run(tmp_path):
    with pytest.raises(ConfigError, match="There is no run in this directory"):
        load_facts(RunDirectory(tmp_path))


@pytest.mark.parametrize(
    "value", ["2026-11-20T14:00:00+00:00", "2026-11-20T14:00:00Z", "2026-11-20T15:00:00+01:00"]
)
def test_times(value):
    assert parse_time(value) == datetime(2026, 11, 20, 14, tzinfo=UTC)
    assert parse_time(value).timestamp() == 1795183200


def test_times_of_other_forms():
    assert (
        parse_time(1795183200) == parse_time("2026-11-20T14:00:00") == datetime(2026, 11, 20, 14, tzinfo=UTC)
    )
    assert [parse_time(value) for value in (None, "soon", [], 1e300)] == [None] * 4
