"""Where a user's code failed: at the last line of their own."""

from pathlib import Path

import pytest

from distkeras.config import user_code


def failing(path: str) -> Exception:
    """Returns an error that a function in a file of this name let a library raise."""
    code = "import json\n\ndef build():\n    json.loads('{')\n"
    space: dict = {}
    exec(compile(code, path, "exec"), space)  # noqa: S102
    with pytest.raises(ValueError, match="Expecting") as raised:
        space["build"]()
    return raised.value


@pytest.mark.parametrize("suffix", ["/my_models.py", "_models.py"])  # beside the package, and named like it
def test_it_is_the_users_line_and_not_the_librarys(suffix: str, tmp_path: Path) -> None:
    beside = (
        f"{Path(user_code.__file__).parents[1]}{suffix}" if suffix.startswith("_") else f"{tmp_path}{suffix}"
    )
    # pytest's own frame, in this file, comes before.
    assert user_code.raised_at(failing(beside)) == f"{beside}:4"
