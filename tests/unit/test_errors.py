"""What an error says, the code it exits with, and that it survives the way to another process."""

import pickle

import pytest

from distkeras import errors


def test_an_error_is_a_sentence_a_place_and_a_remedy():
    error = errors.DataError("It is empty.", place="a.csv row 3", received="x", remedy="fill it")
    assert str(error).splitlines() == [
        "It is empty.",
        "  where: a.csv row 3",
        "  received: 'x'",
        "  fix: fill it",
    ]


def test_what_is_not_known_is_left_out():
    assert str(errors.DataError("It is empty.")) == "It is empty."


def test_a_long_value_is_shortened():
    line = errors.DataError("Too long.", received="x" * 1000).lines()[1]
    assert len(line) < 220
    assert line.endswith("...")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.ConfigError, 2),
        (errors.DataError, 3),
        (errors.ResourceError, 4),
        (errors.TrainingError, 5),
        (errors.CheckpointError, 5),
        (errors.CheckError, 6),
        (errors.PreemptedError, 75),
        (errors.InterruptedRunError, 130),
    ],
)
def test_exit_codes_are_those_of_the_documentation(kind, code):
    assert kind("x").exit_code == code


def test_a_missing_dependency_says_how_to_install_it():
    error = errors.MissingDependencyError("shap", "explain")
    assert str(error).startswith("Missing optional dependency 'shap'.")
    assert 'pip install "distkeras[explain]"' in str(error)


@pytest.mark.parametrize(
    "error", [errors.MissingDependencyError("shap", "explain"), errors.DataError("x", place="y", remedy="z")]
)
def test_errors_cross_processes(error):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(again) is type(error)
    assert str(again) == str(error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "ValueError: plain"),
        ("", "ValueError"),
        ("first\nsecond", "ValueError: first"),
        ('in user code:\n\n    File "a.py", line 9, in g\n\n    KeyError: 4\n', "KeyError: 4"),
        (
            'Graph execution error:\n\nDetected at node a defined at (most recent call last):\n  File "a.py"\n\n'
            "Received a label value of 5.\n\t [[{{node a}}]]",
            "ValueError: Received a label value of 5.",
        ),
        (
            "Exception encountered when calling Dense.call().\n\n\x1b[1mNo weights.\x1b[0m\n\nArguments:\n  a",
            "ValueError: No weights.",
        ),
    ],
)
def test_an_error_is_one_line_that_says_what_is_wrong(text: str, expected: str) -> None:
    assert errors.error_text(ValueError(text)) == expected
