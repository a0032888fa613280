"""Comparing with an older result: what is slower beyond noise is found, what cannot be compared is refused."""

import copy
import json
from pathlib import Path

import pytest

from distkeras.config import config_from_mapping
from distkeras.errors import ConfigError, DataError
from distkeras.measurement.comparison import find_regressions, read_result, refuse_incomparable
from distkeras.measurement.plan import make_plan


@pytest.fixture
def result(make_result_of):
    return make_result_of({name: [10.0, 10.2, 10.1] for name in ("real", "one_batch", "bare")})


def slower(result, factor):
    changed = copy.deepcopy(result)
    for setting in changed["settings"]:
        setting["examples_per_second"] /= factor
        setting["examples_per_second_interval"] = [
            value / factor for value in setting["examples_per_second_interval"]
        ]
    return changed


def test_slower_beyond_noise_is_found(result):
    [sentence] = find_regressions(slower(result, 1.3), result)
    assert sentence.startswith(
        "1 worker, batch 32, float32: 2,437 (2,413 to 2,462) examples/s; it was 3,168 ("
    )


def test_noise_and_gains_are_no_regression(result):
    assert find_regressions(slower(result, 1.04), result) == []  # apart, but by less than 5%
    assert find_regressions(slower(result, 0.5), result) == []
    wide = slower(result, 1.3)
    wide["settings"][0]["examples_per_second_interval"][1] = 1e9
    assert find_regressions(wide, result) == []


def refuse(result, other, **options):
    config = config_from_mapping(result["config"], origin="test", base_folder=Path("/data"))
    plan = make_plan(config, **{"num_passes": 3, **options})
    refuse_incomparable(result["machine"], result["config"], plan, other)


def test_settings_that_the_older_result_lacks_are_refused(result):
    with pytest.raises(ConfigError, match="none of the settings that are to be measured"):
        refuse(result, result, workers=[2])


def test_too_few_passes_are_refused_wherever_they_are(result):
    with pytest.raises(ConfigError, match="3 passes or more") as raised:
        refuse(result, result, num_passes=2)
    assert raised.value.place == "--pairs"
    with pytest.raises(ConfigError, match="3 passes or more") as raised:
        refuse(result, {**result, "passes": 1})
    assert raised.value.place == "--compare"


def test_another_machine_is_refused(result):
    other = copy.deepcopy(result)
    other["machine"]["num_cores"] = 64
    with pytest.raises(ConfigError, match="measured on another machine: its num_cores differs"):
        refuse(result, other)


def test_another_config_is_refused_and_another_name_is_not(result):
    other = copy.deepcopy(result)
    other["config"]["name"] = "yours"
    refuse(result, other)
    other["config"]["model"]["builder"] = "cnn"
    with pytest.raises(ConfigError, match=r"another config: model\.builder differs"):
        refuse(result, other)


def test_a_result_is_read_back(result, tmp_path):
    (tmp_path / "old.json").write_text(json.dumps(result))
    assert read_result(tmp_path / "old.json", "--compare") == result


def test_what_is_no_result_is_refused(result, tmp_path):
    with pytest.raises(ConfigError, match="no such result"):
        read_result(tmp_path / "none.json", "--compare")
    (tmp_path / "other.json").write_text('{"ratios": {}}')
    with pytest.raises(ConfigError, match="no result of distkeras bench"):
        read_result(tmp_path / "other.json", "--compare")
    (tmp_path / "older.json").write_text(json.dumps({**result, "format": 1}))
    with pytest.raises(ConfigError, match="Another version of distkeras wrote this result") as raised:
        read_result(tmp_path / "older.json", "--compare")
    assert raised.value.received == "format 1; this version reads 2"
    (tmp_path / "torn.json").write_text('{"kind"')
    with pytest.raises(DataError, match="does not hold a JSON object"):
        read_result(tmp_path / "torn.json", "--compare")
