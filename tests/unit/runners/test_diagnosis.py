"""What `distkeras doctor` finds, with the parts of the machine that differ put in its way."""

import json
import subprocess
import sys

import pytest

from distkeras.runners import diagnosis
from distkeras.runners.diagnosis import Finding, Requirement


def findings_of(packages):
    return list(diagnosis._packages([Requirement(package) for package in packages]))


def test_a_missing_and_a_too_old_package_are_named_with_their_remedy():
    assert findings_of(["no-such-package>=2", "numpy>=99"]) == [
        Finding("no-such-package", "fail", "is not installed", 'pip install "no-such-package>=2"'),
        Finding(
            "numpy",
            "fail",
            f"{diagnosis._installed(Requirement('numpy'))} does not fit numpy>=99",
            'pip install "numpy>=99"',
        ),
    ]


def test_what_is_there_is_one_line():
    (finding,) = findings_of(["numpy>=2", 'no-such-package; extra == "report"'])
    assert finding.level == "ok"
    assert finding.text.startswith("all 1 as required: numpy ")


def test_an_extra_that_lacks_a_package_is_a_warning():
    finding = diagnosis._extra("report", "reports", [Requirement('no-such-package; extra == "report"')])
    assert finding.level == "warn"
    assert finding.text == "no reports: no-such-package missing"
    assert finding.remedy == 'pip install "distkeras[report]"'


def test_an_output_directory_below_a_file_fails(tmp_path):
    (tmp_path / "file").touch()
    finding = diagnosis._disk(tmp_path / "file" / "runs")
    assert finding.level == "fail"
    assert finding.text.startswith(f"{tmp_path / 'file'} cannot be written")


def test_a_directory_to_come_is_as_good_as_its_parent(tmp_path):
    assert diagnosis._disk(tmp_path / "a" / "b").level == "ok"
    assert list(tmp_path.iterdir()) == []


def test_gpus_that_tensorflow_does_not_see_are_a_warning():
    finding = diagnosis._gpus([], [{"name": "H200", "memory": "141 GB"}])
    assert finding.level == "warn"
    assert finding.text == "TensorFlow sees 0 of 1: H200 (141 GB)"
    assert diagnosis._gpus(["/physical_device:GPU:0"], [{"name": "H200", "memory": "141 GB"}]).level == "ok"
    assert diagnosis._gpus([], []).text == "none; training runs on the CPU"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (
            "raise ImportError('libcudart.so is gone')",
            "cannot be imported: ImportError: libcudart.so is gone",
        ),
        ("import os; os._exit(9)", "cannot be imported: exit code 9"),
        ("import time; time.sleep(60)", "is not imported after 1 s"),
    ],
)
def test_a_broken_tensorflow_is_a_failure_and_not_a_crash(monkeypatch, code, text):
    monkeypatch.setattr(diagnosis, "_IMPORT", code)
    monkeypatch.setattr(diagnosis, "IMPORT_TIMEOUT_SECONDS", 1.0)
    (finding,) = diagnosis._tensorflow([])
    assert (finding.level, finding.text) == ("fail", text)


def test_doctor_prints_a_line_a_finding_and_exits_4_where_one_fails(tmp_path):
    (tmp_path / "runs").touch()
    command = [sys.executable, "-m", "distkeras", "doctor"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert shown.returncode == 4
    assert shown.stderr == "importing TensorFlow\n"
    lines = shown.stdout.splitlines()
    assert {line[:4].strip() for line in lines} <= {"ok", "warn", "fail", ""}
    failed = next(index for index, line in enumerate(lines) if line.startswith("fail"))
    assert lines[failed + 1].startswith("      fix: ")
    (tmp_path / "runs").unlink()
    measured = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert measured.returncode == 0
    result = json.loads(measured.stdout)
    assert result["ok"] is True
    assert {"python", "memory", "tensorflow", "gpus"} <= {
        finding["subject"] for finding in result["findings"]
    }
