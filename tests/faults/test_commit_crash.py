"""A process that dies at any point of a commit leaves the old checkpoints, or the old and the new one."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from distkeras.checkpoint.commit import commit, latest

CHILD = Path(__file__).with_name("commit_crash_child.py")
ROOT = Path(__file__).parents[2]
MIN_CRASH_POINTS = 20

# (step, version) that a reader may find after a crash, by what was there before; None is no checkpoint.
ALLOWED = {
    "nothing_yet": {None, (7, "a")},
    "one_before": {(6, "a"), (7, "a")},
    "one_to_retire": {(6, "a"), (7, "a")},
    "same_step": {(7, "old"), (7, "a")},
    "leftover": {(6, "a"), (7, "a")},
}


@pytest.fixture(scope="module", params=["kill", "power"])
def crashed(request) -> Iterator[tuple[Path, dict[str, int]]]:
    # In memory where there is such a file system: thousands of syncs are slow on a disk and prove no more.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
    with tempfile.TemporaryDirectory(dir=memory) as root:
        done = subprocess.run(
            [sys.executable, "-W", "error", str(CHILD), root, request.param],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        yield Path(root), json.loads(done.stdout)


def found_in(directory: Path) -> tuple[int, str] | None:
    """What a reader finds; its files must be those of one commit, and no newer one may look torn."""
    found = latest(directory)
    if found is None:
        return None
    assert found.rejected == ()
    state = json.loads(found.commit.read("state.json"))
    assert state == found.commit.metadata
    text = f"weights of step {state['step']} {state['version']} ".encode() * 50
    assert found.commit.read("weights.npz") == text
    assert found.commit.step == state["step"]
    return state["step"], state["version"]


@pytest.mark.parametrize("scenario", ALLOWED)
def test_every_crash_point_leaves_the_old_or_the_new_checkpoint(crashed, scenario):
    root, num_points = crashed
    assert num_points[scenario] >= MIN_CRASH_POINTS
    seen = set()
    for point in range(1, num_points[scenario] + 2):
        directory = root / scenario / f"{point:03d}" / "checkpoints"
        found = found_in(directory)
        assert found in ALLOWED[scenario], f"crash point {point}"
        seen.add(found)

        commit(directory, 8, {"state.json": b"{}"}, {}, keep=1)
        assert latest(directory).commit.step == 8
        assert [path.name for path in directory.iterdir()] == ["step-000000000008"], f"crash point {point}"
    assert seen == ALLOWED[scenario]
    assert found == (7, "a"), "what `commit` returned from is not on the disk"


def test_a_reader_beside_the_writer_never_sees_a_torn_checkpoint(tmp_path):
    directory = tmp_path / "checkpoints"
    script = (
        "import sys; from pathlib import Path; from distkeras.checkpoint.commit import commit\n"
        "for step in range(60):\n"
        "    commit(Path(sys.argv[1]), step, {'a': bytes(3000), 'b': bytes(3000)}, {'step': step}, keep=1)\n"
    )
    steps = []
    with subprocess.Popen(
        [sys.executable, "-c", script, str(directory)], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}
    ) as writer:
        while writer.poll() is None:
            found = latest(directory)
            if found is not None:
                assert found.rejected == ()
                steps.append(found.commit.step)
    assert writer.returncode == 0
    assert steps == sorted(steps)
    assert latest(directory).commit.step == 59
