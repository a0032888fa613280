"""A file is whole or as it was, and what the system refuses is said in a sentence."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from distkeras.errors import DataError, ResourceError
from distkeras.observability.atomic_files import explain_os_error, read_json, write_bytes, write_json

WRITE = """
import sys
from pathlib import Path
from distkeras.errors import ResourceError
from distkeras.observability.atomic_files import write_bytes
try:
    write_bytes(Path(sys.argv[1]), b"x" * 10_000_000)
except ResourceError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("number", "free", "problem", "remedy"),
    [
        (
            errno.ENOSPC,
            17,
            "The disk is full: could not write it.",
            "free some space; 17 bytes are free there",
        ),
        (errno.EDQUOT, None, "The disk is full: could not write it.", "free some space, or choose"),
        (errno.EACCES, 17, "No permission to write it.", "change the directory's permissions"),
        (errno.EPERM, 17, "No permission to write it.", "change the directory's permissions"),
        (errno.EROFS, 17, "The file system is read-only: could not write it.", "choose another `output_dir`"),
        (errno.ENOTDIR, 17, "A file is in the way: could not write it.", "move that file away"),
        (errno.EIO, 17, "Could not write it: Input/output error.", "check the disk"),
    ],
)
def test_each_refusal_is_a_sentence_a_place_and_a_remedy(number, free, problem, remedy):
    error = explain_os_error(OSError(number, os.strerror(number)), "write it", Path("/runs/a"), free)
    assert error.problem == problem
    assert error.place == "/runs/a"
    assert error.remedy.startswith(remedy)
    assert error.exit_code == 4


def test_json_round_trips_and_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"name": "é", "value": 1.5})
    write_json(path, {"name": "é", "value": 2.5})
    assert read_json(path) == {"name": "é", "value": 2.5}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_json_refuses_numbers_that_json_has_no_word_for(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"[1, 2]", b"\xff\xfe"])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"manifest\.json does not hold a JSON object") as caught:
        read_json(path)
    assert caught.value.place == str(path)
    assert "restore the file" in caught.value.remedy


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(ResourceError, match=r"Could not read a\.json: No such file or directory\."):
        read_json(tmp_path / "a.json")


def test_a_file_where_the_directory_should_be(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ResourceError, match="A file is in the way: could not write"):
        write_bytes(tmp_path / "run" / "a.json", b"")


def _in_small_disk(tmp_path: Path, options: str) -> str:
    """Writes 10 MB to a tmpfs of its own, made in a mount namespace of its own."""
    mount = f"mount -t tmpfs -o {options} none {tmp_path}"
    probe = subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"needs mount namespaces: {probe.stderr.strip()}")
    script = f"{mount} && exec {sys.executable} -c '{WRITE}' {tmp_path}/weights; ls -A {tmp_path}"
    script = script.replace("exec ", "")
    command = ["unshare", "-rm", "sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_full_disk_is_said_with_its_free_bytes_and_leaves_nothing_behind(tmp_path):
    said = _in_small_disk(tmp_path, "size=64k")
    assert said.startswith("The disk is full: could not write weights.")
    assert f"where: {tmp_path}/weights" in said
    assert "bytes are free there" in said
    assert said.rstrip().endswith("choose another `output_dir`"), "a temporary file was left on the full disk"


def test_a_read_only_file_system_is_said(tmp_path):
    assert _in_small_disk(tmp_path, "ro").startswith("The file system is read-only: could not write weights.")


@pytest.fixture
def unprivileged():
    """Root may write anywhere, so that as root the test becomes nobody."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


def test_no_permission_is_said(tmp_path, unprivileged):
    if os.geteuid() != 65534:
        tmp_path.chmod(0o500)
    with pytest.raises(ResourceError, match=r"No permission to write a\.json\.") as caught:
        write_bytes(tmp_path / "a.json", b"")
    assert caught.value.remedy.startswith("change the directory's permissions")
